"""Who may come in: those with a key, once there is one; and what for.

A key comes as `Authorization: Bearer KEY`, or as the password of HTTP Basic, so that a browser can
show the page. A browser sends such a password with every request, whichever page made it: that no
page from elsewhere uses it is for `guard`, which stands before this.

Wrong keys are answered 429 once there were too many from an address; a good one is let in all the
same, or a stranger could lock out everybody behind the same proxy. What stops guessing is not this
limit but the length of a key: 256 random bits.

All of it is plain ASGI.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import time
from base64 import b64decode
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from rag.errors import KeyNeeded, KeysDamaged, NotReady, RightMissing
from rag.keys import KeyFile, Right, key_of
from rag.problems import error_response, status_response
from rag.wire import READING_METHODS, READING_POSTS

logger = logging.getLogger(__name__)

OPEN = frozenset(["/health/live", "/health/ready"])
CHALLENGES = ('Bearer realm="rag"', 'Basic realm="rag", charset="UTF-8"')

MINUTE_S = 60.0
ADDRESSES = 4096
"""Of those who sent wrong keys: so many are remembered, the latest."""

IPV6_PREFIX = 64
"""Bits of an IPv6 address that are one client's: within them it can take any address."""


class Access:
    """Refuses who has no key, or one without the right to what is asked for.

    `required`: also while there are no keys, when nobody is let in. Where there have been keys,
    they are asked for from then on: neither revoking the last nor losing the file opens anything.
    """

    def __init__(
        self, app: ASGIApp, *, keys: KeyFile, required: bool, wrong_keys: WrongKeys
    ) -> None:
        self._app = app
        self._keys = keys
        self._required = required
        self._wrong_keys = wrong_keys
        self._complaint = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        refusal = None
        if scope["type"] == "http" and scope["path"] not in OPEN:
            refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        try:
            keys = self._keys.keys()
        except KeysDamaged as error:
            return self._damaged(error)
        if keys is None and not self._required:
            return None
        self._required = True
        secret = _given(Headers(scope=scope))
        if secret is None:
            return _challenge(
                "send the header Authorization: Bearer KEY, or the key as the password of HTTP "
                "Basic; whoever keeps this server makes one with: rag key add NAME"
            )
        key = key_of(keys or (), secret)
        if key is None:
            return self._wrong(scope)
        needed = needed_right(scope["method"], scope["path"])
        return None if needed in key.rights else error_response(RightMissing(needed))

    def _damaged(self, error: KeysDamaged) -> Response:
        """Nobody is let in; why is for the log, since anybody gets this answer."""
        self._required = True
        if self._complaint != str(error):
            self._complaint = str(error)
            logger.error("nobody is let in: %s", error)
        return error_response(NotReady("the server's keys cannot be read; its log says why"))

    def _wrong(self, scope: Scope) -> Response:
        wait_s = self._wrong_keys.wait_s(scope["client"][0] if scope["client"] else "")
        if not wait_s:
            return _challenge("the key is not known here, or was revoked")
        headers = {"Retry-After": str(wait_s)}
        return status_response(429, "too many wrong keys came from this address", headers)


class WrongKeys:
    """Counts wrong keys by the address that they came from, for a minute from the first."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`most` may come in a minute; `clock` gives seconds."""
        self._most = most
        self._clock = clock
        self._counts: dict[str, tuple[float, int]] = {}

    def wait_s(self, address: str) -> int:
        """Count one more; 0 if it is one of those that may come, else the seconds to wait."""
        client, now = _client(address), self._clock()
        began, count = self._counts.pop(client, (now, 0))
        if now - began >= MINUTE_S:
            began, count = now, 0
        self._counts[client] = began, count + 1
        if len(self._counts) > ADDRESSES:
            del self._counts[next(iter(self._counts))]
        if count < self._most:
            return 0
        if count == self._most:
            logger.warning("more than %d wrong keys in a minute from %s", self._most, client)
        return math.ceil(began + MINUTE_S - now)


def needed_right(method: str, path: str) -> Right:
    """What a key must be good for. What is not known to change nothing, also what comes to be
    later, needs the right to write."""
    reads = method in READING_METHODS or (method == "POST" and path in READING_POSTS)
    return Right.ASK if reads else Right.WRITE


def _given(headers: Headers) -> bytes | None:
    """The key that came; None if there is none, or more than one."""
    values = headers.getlist("authorization")
    scheme, _, rest = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    if scheme.lower() == "bearer":
        return rest.strip().encode("latin-1") or None
    if scheme.lower() == "basic":
        try:
            return b64decode(rest.strip(), validate=True).partition(b":")[2] or None
        except ValueError:
            return None
    return None


def _challenge(detail: str) -> Response:
    response = error_response(KeyNeeded(detail))
    for challenge in CHALLENGES:
        response.headers.append("WWW-Authenticate", challenge)
    return response


def _client(address: str) -> str:
    """The address, or of an IPv6 one the network that a client has for itself."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found), IPV6_PREFIX), strict=False))
    return address
