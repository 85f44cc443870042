"""The body of a request, taken whole before anything else is done for it, where a call reads one.

A client that sends slowly so holds neither a place in the crowd nor a thread, and all bodies
together have a bound. What comes for a call that reads none is never kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag.errors import ClientGone, Crowded, RagError, TooLarge, TooSlow
from rag.problems import error_response

SMALL_BYTES = 64 * 1024
"""Of each body that do not count: large ones, however many, keep no small one out. What all these
take has its bound by the number of connections."""


class Bodies:
    """Hands a request on once its body has come, within `timeout_s`.

    `limits`: the longest body of each path that reads one, in bytes. At most `most_bytes` are held
    for all large ones together. One that needs more takes the room of the unfinished one of which
    nothing has come for the longest, which gets 429; if there is no other, it gets 429 itself.
    """

    def __init__(
        self, app: ASGIApp, *, limits: Mapping[str, int], timeout_s: float, most_bytes: int
    ) -> None:
        self._app = app
        self._limits = limits
        self._timeout_s = timeout_s
        self._most_bytes = most_bytes
        self._held_bytes = 0
        self._coming: set[_Body] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        reads = scope["type"] == "http" and scope["method"] == "POST"
        limit_bytes = self._limits.get(scope["path"]) if reads else None
        if limit_bytes is None:
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > limit_bytes:
            await error_response(TooLarge(limit_bytes))(scope, receive, send)
            return
        body = _Body(limit_bytes)
        try:
            error = await self._take(receive, body)
            if error is None:
                await self._app(scope, _replayed(body.whole(), receive), send)
                return
        finally:
            self._let_go(body)
        response = error_response(error)
        response.headers["Connection"] = "close"  # the rest may still be coming
        await response(scope, receive, send)

    async def _take(self, receive: Receive, body: _Body) -> RagError | None:
        """Put what comes into `body`; what keeps it from being whole, if anything does."""
        self._coming.add(body)
        try:
            async with asyncio.timeout(self._timeout_s) as body.deadline:
                more = True
                while more and not body.error:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return ClientGone("the client went before its request was whole")
                    more = message.get("more_body", False)
                    self._hold(body, message.get("body", b""))
        except TimeoutError:
            body.error = body.error or TooSlow(self._timeout_s)
        finally:
            self._coming.discard(body)
        return body.error

    def _hold(self, body: _Body, part: bytes) -> None:
        if body.error:  # its room was given to another meanwhile
            return
        held_bytes = body.counted_bytes
        body.take(part)
        self._held_bytes += body.counted_bytes - held_bytes
        while self._held_bytes > self._most_bytes and not body.error:
            large = [each for each in self._coming if each.counted_bytes]
            silent = min(large, key=lambda each: each.heard_at)
            silent.refuse(Crowded("other requests are large; try again in a moment"))
            self._let_go(silent)

    def _let_go(self, body: _Body) -> None:
        self._coming.discard(body)
        self._held_bytes -= body.counted_bytes
        body.drop()


class _Body:
    """What has come of a body, and why it is not to be taken, if it is not."""

    deadline: asyncio.Timeout

    def __init__(self, limit_bytes: int) -> None:
        self.error: RagError | None = None
        self.heard_at = time.monotonic()
        self._limit_bytes = limit_bytes
        self._parts: list[bytes] = []
        self._bytes = 0

    @property
    def counted_bytes(self) -> int:
        return max(0, self._bytes - SMALL_BYTES)

    def take(self, part: bytes) -> None:
        self.heard_at = time.monotonic()
        self._parts.append(part)
        self._bytes += len(part)
        if self._bytes > self._limit_bytes:
            self.error = TooLarge(self._limit_bytes)

    def refuse(self, error: RagError) -> None:
        """Have whoever waits for the rest wait no longer."""
        self.error = error
        if not self.deadline.expired():
            self.deadline.reschedule(asyncio.get_running_loop().time())

    def whole(self) -> bytes:
        whole = b"".join(self._parts)
        self._parts.clear()
        return whole

    def drop(self) -> None:
        self._parts.clear()
        self._bytes = 0


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` as if `body` came at once."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed
