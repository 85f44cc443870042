"""h11, with bounds of what is cheap to send and dear to read.

Its expressions try each way to part a run of blanks, so that one line of 150 KB took it a minute in
which nothing else ran, and it makes objects of each header and each chunk, of which a client can
send hundreds of thousands a second.
"""

from __future__ import annotations

import re

import h11
from h11._receivebuffer import ReceiveBuffer

MOST_HEADERS = 100
"""Lines of a head, or after a body in chunks; browsers behind two proxies send some thirty."""

CHUNK_HEADER_BYTES = 1000

CHUNKS_SPARED = 1000
CHUNK_BYTES = 256
"""What the chunks of a body have on average, after the first `CHUNKS_SPARED`. Each costs 23 µs."""

_NEVER_IN_A_LINE = re.compile(rb"[\0\v\f\r]")


class Requests(h11.Connection):
    """The requests of one connection to a server; a head has at most `most_bytes`."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(h11.SERVER, most_bytes)
        self._receive_buffer = _Lines()
        self._chunks = 0
        self._chunk_bytes = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """See h11.Connection. Raises h11.RemoteProtocolError for chunks that are too small, too."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._chunk_bytes = 0
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_start
            self._chunk_bytes += len(event.data)
            if self._chunks > CHUNKS_SPARED + self._chunk_bytes // CHUNK_BYTES:
                told = "the chunks of its body are too small; send its Content-Length instead"
                raise h11.RemoteProtocolError(told)
        return event


class _Lines(ReceiveBuffer):
    """Hands on only what h11 reads in one go."""

    def maybe_extract_lines(self) -> list[bytearray] | None:
        lines = super().maybe_extract_lines()
        if lines and len(lines) > 1 + MOST_HEADERS:
            raise h11.LocalProtocolError("too many headers", error_status_hint=431)
        if any(_NEVER_IN_A_LINE.search(line) for line in lines or ()):
            raise h11.LocalProtocolError("a control character in a header")
        return lines

    def maybe_extract_next_line(self) -> bytearray | None:
        line = super().maybe_extract_next_line()
        if line and len(line) > CHUNK_HEADER_BYTES:
            raise h11.LocalProtocolError("illegal chunk header")
        return line
