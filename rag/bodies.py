"""The body of a request, taken whole before anything else is done for it.

A client that sends slowly so holds neither a place in the crowd nor a thread, and all bodies
together have a bound.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag.errors import ClientGone, Crowded, RagError, TooSlow
from rag.problems import Refusal, error_response

BODILESS = frozenset(["GET", "HEAD", "OPTIONS"])
"""Methods whose body nobody reads."""


class Bodies:
    """Hands a request on once its body has come, within `timeout_s`.

    At most `most_bytes` are held for all requests together; one that would need more gets 429.
    """

    def __init__(self, app: ASGIApp, *, timeout_s: float, most_bytes: int) -> None:
        self._app = app
        self._timeout_s = timeout_s
        self._most_bytes = most_bytes
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] in BODILESS:
            await self._app(scope, receive, send)
            return
        parts: list[bytes] = []
        try:
            error = await self._take(receive, parts)
            if error is None:
                await self._app(scope, _replayed(b"".join(parts), receive), send)
                return
        finally:
            self._held_bytes -= sum(map(len, parts))
        response = error_response(error)
        response.headers["Connection"] = "close"  # the rest may still be coming
        await response(scope, receive, send)

    async def _take(self, receive: Receive, parts: list[bytes]) -> RagError | None:
        """Put what comes into `parts`; what keeps it from being whole, if anything does."""
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return ClientGone("the client went before its request was whole")
                    parts.append(message.get("body", b""))
                    self._held_bytes += len(parts[-1])
                    if self._held_bytes > self._most_bytes:
                        return Crowded("other requests are large; try again in a moment")
                    if not message.get("more_body", False):
                        return None
        except TimeoutError:
            return TooSlow(self._timeout_s)
        except Refusal as refusal:
            return refusal.error


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` as if `body` came at once."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed
