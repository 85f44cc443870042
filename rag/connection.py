"""A connection that does not wait for its client for ever.

uvicorn ends a connection on which nothing comes after a response, and nothing else: a client that
sends its request's head a byte at a time, or does not take its response, keeps the connection and
what is held for it. Neither has a thread, but there is an end to file descriptors and to memory.
"""

from __future__ import annotations

import asyncio
import time

from uvicorn.protocols.http.h11_impl import H11Protocol


def connection_class(timeout_s: float, most: int) -> type[H11Protocol]:
    """A protocol for uvicorn's `http`: a request's head, and the next part of a response, have
    `timeout_s` to be sent and taken. Of more than `most` connections, the one whose client is
    waited for the longest is closed."""

    class Connection(_Connection):
        pass

    Connection.timeout_s = timeout_s
    Connection.most = most
    return Connection


class _Connection(H11Protocol):
    timeout_s: float
    most: int

    _head_due: asyncio.TimerHandle | None = None
    _taking_due: asyncio.TimerHandle | None = None
    _waited_for_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waited_for_since = time.monotonic()
        self._wait_for_head()
        if len(self.connections) > self.most:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting_for_head()
        self._stop_waiting_for_taking()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if not self._between_requests():
            self._stop_waiting_for_head()
        elif self._head_due is None:
            self._wait_for_head()

    def on_response_complete(self) -> None:
        self._waited_for_since = time.monotonic()
        super().on_response_complete()

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

    def _make_room(self) -> None:
        ours = [each for each in self.connections if isinstance(each, _Connection)]
        waiting = [each for each in ours if each.waits_for_client()]
        min(waiting, key=lambda each: each._waited_for_since).transport.abort()
