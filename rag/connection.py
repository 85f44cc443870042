"""A connection that does not wait for its client for ever.

uvicorn ends a connection on which nothing comes after a response, and nothing else: a client that
sends its request's head a byte at a time, or does not take its response, keeps the connection and
what is held for it. Neither has a thread, but there is an end to file descriptors and to memory.
And it answers itself what is no HTTP; here the application does, as everything else.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from rag.framing import Requests

SPARED_S = 1.0
"""How long a client may be silent, or send no more than a head, before its connection is closed for
another: one that has just connected has not been heard of either."""

SLOW_BYTES_S = 1000
"""A body that comes slower counts as silent, or a byte now and then would keep a connection."""

MALFORMED = "rag.malformed"
"""In the state of a scope: status and detail of the answer to what is no request."""

ONE_TOO_MANY = "rag.one_too_many"
"""In the state of a scope: when its request began there were too many connections."""

DETAIL_CHARACTERS = 200

CLOSE = (b"connection", b"close")


def connection_class(
    timeout_s: float, most: int, *, head_bytes: int, body_bytes: int
) -> type[H11Protocol]:
    """A protocol for uvicorn's `http`: a request's head, and the next part of a response, have
    `timeout_s` to be sent and taken, and a head has at most `head_bytes`. For one of more than
    `most` connections that is closed whose request comes the slowest, of which nothing has come
    first; if the server is at work for all others, the new one is marked as `ONE_TOO_MANY`, and
    closed at once if half as many are.

    Of a body whose request has been answered `body_bytes` are still taken, so that the connection
    can be kept; of a longer one nothing is looked at, and the connection ends."""

    class Connection(_Connection):
        pass

    Connection.timeout_s = timeout_s
    Connection.most = most
    Connection.head_bytes = head_bytes
    Connection.body_bytes = body_bytes
    return Connection


class _Lingering:
    """A transport that, while its client still sends, is closed in two steps: at once for what we
    send, and a little later for what comes. Closed at once for both, as a system closes what has
    not been read, the client might lose the answer."""

    def __init__(self, transport: asyncio.Transport, connection: _Connection) -> None:
        self._transport = transport
        self._connection = connection
        self._closing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether `close` or `abort` has been called."""
        return self._closing or self._transport.is_closing()

    def close(self) -> None:
        """See asyncio.Transport."""
        if self.is_closing():
            return
        if self._connection.still_sends():
            self._closing = True
            with suppress(OSError):  # where the client has gone
                self._transport.write_eof()
            self._transport.resume_reading()
            self._connection.loop.call_later(SPARED_S, self._transport.close)
        else:
            self._transport.close()


class _Connection(H11Protocol):
    timeout_s: float
    most: int
    head_bytes: int
    body_bytes: int

    _head_due: asyncio.TimerHandle | None = None
    _taking_due: asyncio.TimerHandle | None = None
    _since = 0.0
    """When the client connected, got its last response, or began its request."""
    _heard_at = 0.0
    _come_bytes = 0
    """Of a request, since then."""
    _malformed = False
    _late_bytes = 0
    """Of a body whose request has been answered."""
    _aborted = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_Lingering(transport, self))  # type: ignore[arg-type]
        self.conn = Requests(self.head_bytes)
        self._since = self._heard_at = time.monotonic()
        self._wait_for_head()
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting_for_head()
        self._stop_waiting_for_taking()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._malformed or self.transport.is_closing() or self._is_late(data):
            return
        self._heard_at = time.monotonic()
        if not self._come_bytes:
            self._since = self._heard_at
            self._stop_waiting_for_head()  # its time begins with its first byte
            self._look_for_room_again()
        self._come_bytes += len(data)
        super().data_received(data)

    def handle_events(self) -> None:
        before = self.scope
        super().handle_events()
        is_new = self.scope is not before and not self._malformed
        if is_new and self._announced() > self.body_bytes:
            self.headers.append(CLOSE)  # it is the scope's, and the response then has it too
        if not self._between_requests():
            self._stop_waiting_for_head()
        elif self._head_due is None and self._come_bytes:
            self._wait_for_head()

    def on_response_complete(self) -> None:
        self._since = self._heard_at = time.monotonic()
        self._come_bytes = self._late_bytes = 0
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """See H11Protocol. What is wrong is known to h11, whose error is being handled."""
        error = sys.exception()
        self._malformed = True
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # a response was begun
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # what waits for the rest waits no longer
            self.cycle.message_event.set()
        status = getattr(error, "error_status_hint", 400)
        reason = str(error or msg).partition(": bytearray")[0]  # it repeats what was sent
        detail = f"the request cannot be read: {reason}"[:DETAIL_CHARACTERS]
        self._answer_malformed(status, detail)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait_for_taking()

    def resume_writing(self) -> None:
        self._stop_waiting_for_taking()
        super().resume_writing()

    def waits_for_client(self) -> bool:
        """Whether the next step is the client's: a request, or the rest of one."""
        return self._between_requests() or self.cycle.more_body

    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _answer_malformed(self, status: int, detail: str) -> None:
        self.scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme or "http",
            "method": "",
            "root_path": self.root_path,
            "path": "",
            "raw_path": b"",
            "query_string": b"",
            "headers": [],
            "state": {**self.app_state, MALFORMED: (status, detail)},
        }
        self.cycle = RequestResponseCycle(
            scope=self.scope,
            conn=self.conn,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            on_response=self.on_response_complete,
        )
        task = self.loop.create_task(self.cycle.run_asgi(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _wait_for_head(self) -> None:
        self._head_due = self.loop.call_later(self.timeout_s, self._give_up_head)

    def _stop_waiting_for_head(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _give_up_head(self) -> None:
        self._head_due = None
        if self._between_requests():
            self.transport.close()

    def _wait_for_taking(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._taking_due = self.loop.call_later(self.timeout_s, self._give_up_taking, left)

    def _stop_waiting_for_taking(self) -> None:
        if self._taking_due is not None:
            self._taking_due.cancel()
            self._taking_due = None

    def _give_up_taking(self, left_before: int) -> None:
        if self.transport.get_write_buffer_size() < left_before:
            self._wait_for_taking()
        else:
            self.transport.abort()

    def _pace(self, now: float) -> float:
        """Bytes a second of the request that is coming."""
        return self._come_bytes / max(now - self._since, SPARED_S)

    def _may_go(self, now: float) -> bool:
        if now - self._since < SPARED_S or not self.waits_for_client():
            return False
        # Of what comes only the body of a call that reads it is work. It may go on for long; a head
        # does not, nor is there more to come of a request that has been answered.
        at_work = not self._between_requests() and now - self._heard_at < SPARED_S
        return not at_work or self._pace(now) < SLOW_BYTES_S

    def still_sends(self) -> bool:
        """Whether more of a request may be coming, or of what is none."""
        return self._malformed or self.conn.their_state is h11.SEND_BODY

    def _announced(self) -> int:
        """The length of the body, as its client says, in bytes."""
        lengths = (value for name, value in self.headers if name == b"content-length")
        return int(next(lengths, 0))

    def _is_late(self, data: bytes) -> bool:
        """Whether `data` belongs to a body of which too much comes after the answer."""
        if self.conn.our_state is not h11.DONE or self.conn.their_state is not h11.SEND_BODY:
            return False
        self._late_bytes += len(data)
        if self._late_bytes <= self.body_bytes:
            return False
        self.transport.close()
        return True

    def _look_for_room_again(self) -> None:
        if self.app_state.pop(ONE_TOO_MANY, False):
            self._make_room()

    def _make_room(self) -> None:
        # What has been aborted is among the connections until the loop's next turn; a turn may
        # accept many.
        ours = [each for each in self.connections if isinstance(each, _Connection)]
        ours = [each for each in ours if not each._aborted]
        if len(ours) <= self.most:
            return
        now = time.monotonic()
        if may_go := [each for each in ours if each._may_go(now)]:
            min(may_go, key=lambda each: (each._pace(now), each._since))._abort()
        elif len(ours) > self.most + self.most // 2:
            self._abort()
        else:
            self.app_state = {**self.app_state, ONE_TOO_MANY: True}

    def _abort(self) -> None:
        self._aborted = True
        self.transport.abort()
