"""What stands between the network and the calls: who may ask, how much, and what comes back.

A server on loopback is open to every page in the user's browser. A page elsewhere can send
requests here, and by pointing a name of its own at 127.0.0.1 even read what comes back. So a Host
that is not ours and an Origin that is not the Host are refused, whatever the method, and a body is
taken as application/json only, which no form can send.

All of it is plain ASGI.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag import logs
from rag.connection import MALFORMED, ONE_TOO_MANY
from rag.errors import (
    Crowded,
    Forbidden,
    InvalidRequest,
    NotJson,
    NotReady,
    RagError,
)
from rag.problems import FIELD_CHARACTERS, STOPPING, error_response, status_response
from rag.wire import READING_METHODS

logger = logging.getLogger(__name__)

WILDCARDS = frozenset(["", "0.0.0.0", "::"])  # noqa: S104 - these are compared with, not bound
DEFAULT_PORTS = {"http": 80, "https": 443}

DEFAULT_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
}

REQUEST_ID = "X-Request-ID"

REPEATABLE = frozenset(["source"])
PARAMETERS_MOST = 1000
"""In an address. Each costs some microseconds in which nobody else is answered, and a long address
has room for a hundred thousand."""

REFUSED_AFTER_S = 0.5
"""How long a request waits for its 429. At once, clients that came again at once took the time of
those that were answered: 250 of them left 22 answers a second of 70."""

PART_BYTES = 65_536
"""Of a body that is sent in one go: as much as asyncio keeps for a client before it says so."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s\[\]:/?#@\\]+?)\.?(?::(\d{1,5}))?", re.IGNORECASE)
_ORIGIN = re.compile(r"(https?)://([^/?#]+)", re.IGNORECASE)


class Guard:
    """Refuses what comes from elsewhere or is no JSON, and a parameter that is given twice, of
    which one would be passed over."""

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        error = self._refusal(scope["method"], Headers(scope=scope))
        error = error or bad_parameter(scope["query_string"])
        if error is not None:
            await error_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> RagError | None:
        hosts = headers.getlist("host")
        host = _split_host(hosts[0]) if len(hosts) == 1 else None
        if host is None or not (host[0] in self._hosts or is_loopback(host[0])):
            return Forbidden(
                "the request's Host is not one this server answers to; add its name to "
                "RAG_ALLOWED_HOSTS if it should"
            )
        if _is_foreign(method, headers):
            return Forbidden("the request comes from a page of another origin")
        if method == "POST" or (method not in READING_METHODS and _has_body(headers)):
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                return NotJson("send the header Content-Type: application/json")
        return None


class Crowd:
    """Answers 429 to a request that comes while `at_once` others of those that it counts are being
    worked on."""

    def __init__(self, app: ASGIApp, *, at_once: int, counts: Callable[[Scope], bool]) -> None:
        self._app = app
        self._at_once = at_once
        self._counts = counts
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or not self._counts(scope):
            await self._app(scope, receive, send)
            return
        if self._inside >= self._at_once:
            error = Crowded(
                f"{self._inside} such requests are being worked on; try again in a moment"
            )
            await asyncio.sleep(REFUSED_AFTER_S)
            await error_response(error)(scope, receive, send)
            return
        self._inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1


class Refused:
    """Answers what its connection refuses: what is no request, and of those that `counts` counts
    what comes on a connection more than there may be."""

    def __init__(self, app: ASGIApp, *, counts: Callable[[Scope], bool]) -> None:
        self._app = app
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        state = scope.get("state", {}) if scope["type"] == "http" else {}
        if MALFORMED in state:
            response = status_response(*state[MALFORMED])
        elif ONE_TOO_MANY in state and self._counts(scope):
            await asyncio.sleep(REFUSED_AFTER_S)
            told = "the server has as many connections as it may; try again in a moment"
            response = error_response(Crowded(told))
        else:
            await self._app(scope, receive, send)
            return
        response.headers["Connection"] = "close"
        await response(scope, receive, send)


class Ending:
    """Answers 503 to a request that is cut off, which only the end of the server does."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:
            if not started:
                await error_response(NotReady(STOPPING))(scope, receive, send)


class Envelope:
    """Sends the headers that every response has and long bodies in parts, answers HEAD as GET
    without the body, and turns an error nobody expected into a 500 that tells nothing of the
    inside."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        head = scope["method"] == "HEAD"
        chunked = any(name == b"transfer-encoding" for name, _ in scope["headers"])
        started = False

        async def enveloped(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in DEFAULT_HEADERS.items():
                    headers.setdefault(name, value)
                if chunked and message["status"] >= HTTPStatus.BAD_REQUEST:
                    headers["Connection"] = "close"  # the rest may still be coming, without end
            elif head:
                message = {**message, "body": b""}
            for part in _parts(message):
                await send(part)
                if part.get("more_body"):
                    await asyncio.sleep(0)  # it may have gone, which is heard between two turns

        try:
            await self._app({**scope, "method": "GET"} if head else scope, receive, enveloped)
        except Exception as error:
            _log(error)
            if started:
                raise ConnectionAbortedError("a response was broken off") from None
            response = status_response(500, "the server made a mistake; its log says where")
            await response(scope, receive, enveloped)


def _parts(message: Message) -> Iterator[Message]:
    """A message as several of at most `PART_BYTES` of a body. The server waits for a client before
    each; a body that comes whole it keeps for the client, however long that takes to take it."""
    body = memoryview(message.get("body", b""))
    while len(body) > PART_BYTES:
        yield {**message, "body": bytes(body[:PART_BYTES]), "more_body": True}
        body = body[PART_BYTES:]
    yield {**message, "body": bytes(body)} if body else message


class Identified:
    """Gives every request an id, its client's where that is one, and sends it back."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        logs.begin(request_id)

        async def identified(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        await self._app(scope, receive, identified)


def bad_parameter(query: bytes) -> InvalidRequest | None:
    """What is wrong with an address's parameters, whichever they are, if anything is."""
    count = query.count(b"&") + 1
    if count > PARAMETERS_MOST:
        told = f"it has {count:,} parameters; the limit is {PARAMETERS_MOST:,}"
        return InvalidRequest("query", told)
    names = (name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    for name, times in Counter(names).items():
        if times > 1 and name not in REPEATABLE:
            return InvalidRequest(name[:FIELD_CHARACTERS], "it is given more than once")
    return None


def own_names(host: str, allowed: Iterable[str]) -> frozenset[str]:
    """Names in a Host header that are ours besides loopback's: the address that is listened at,
    unless it stands for all, and those that are allowed."""
    names = [*allowed] if host in WILDCARDS else [host, *allowed]
    return frozenset(name.strip("[]").lower() for name in names)


def _split_host(value: str, scheme: str = "http") -> tuple[str, int] | None:
    """Name and port of a Host header, or of what follows `scheme` in an origin."""
    found = _HOST.fullmatch(value)
    if found is None:
        return None
    return found[1].strip("[]").lower(), int(found[2] or DEFAULT_PORTS[scheme])


def is_loopback(name: str) -> bool:
    """Whether a host is this machine's loopback; a name other than localhost is not."""
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_foreign(method: str, headers: Headers) -> bool:
    """Whether a page of another origin has sent this, by what its browser says."""
    for origin in headers.getlist("origin"):
        found = _ORIGIN.fullmatch(origin)
        if found is None:
            return True
        scheme = found[1].lower()
        # A Host without a port has the scheme's, which behind a proxy only the browser knows.
        if _split_host(found[2], scheme) != _split_host(headers["host"], scheme):
            return True
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return False
    followed_link = headers.get("sec-fetch-mode") == "navigate" and method in ("GET", "HEAD")
    return not followed_link


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _log(error: Exception) -> None:
    """Where it happened and what kind it is. Its message may hold what was asked, so it stays."""
    where = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s\n%s", type(error).__name__, where)
