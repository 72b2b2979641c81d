"""Limits on the head of a request and on the pieces of its body, before the sender is known.

`serving.connections` parses requests with `LimitedConnection`. Pure: no sockets, no clock.
"""

import re
from typing import Any

import h11

MAX_HEAD = 32 * 1024
"""Bytes of a request's head. Browsers send under 16 KB, even with the cookies of every service on a host."""
MAX_LINE = 8 * 1024
"""Bytes of a head's first line, and of each header."""
MAX_HEADERS = 100
MAX_HEAD_READS = 100
"""Pieces in which a head may arrive: each one makes the whole head be scanned again."""
FREE_PIECES = 256
"""Pieces, and chunks, of a body that are accepted whatever their size; a large body may have more."""
READ_BYTES = 512
"""Bytes of a body that allow one more piece."""
CHUNK_BYTES = 4096
"""Bytes of a body that allow one more chunk: each chunk is parsed separately."""
_BLANK_LINE = re.compile(rb"\n\r?\n")


class LimitedConnection(h11.Connection):
    """The server's side of a connection, which refuses what is expensive to parse before it parses it."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, MAX_HEAD + len(b"\r\n\r\n"))
        self.head_bytes = 0
        """Bytes of an incomplete head."""
        self._has_unchecked_data = False
        self._reads = self._chunks = self._body_bytes = 0

    def receive_data(self, data: bytes) -> None:
        """Add bytes from the socket."""
        self._reads += 1
        self._has_unchecked_data = True
        super().receive_data(data)

    def next_event(self) -> Any:
        """Return the next event; raises `h11.RemoteProtocolError` also where a limit is exceeded."""
        if self._has_unchecked_data and self.their_state is h11.IDLE:
            self._has_unchecked_data = False
            self._check_head()
        event = super().next_event()
        if type(event) is h11.Request:  # `isinstance` is slow here: the events have an abstract base
            self.head_bytes = self._reads = self._chunks = self._body_bytes = 0
        elif type(event) is h11.Data:
            self._check_body(event)
        return event

    def start_next_cycle(self) -> None:
        """Start the next request on this connection."""
        super().start_next_cycle()
        self._reads = 0
        self._has_unchecked_data = True  # it may have arrived with the previous request

    def _check_head(self) -> None:
        waiting, _ = self.trailing_data
        if not waiting:
            self.head_bytes = 0
            return
        end = _BLANK_LINE.search(waiting)
        head = waiting[: end.start()] if end else waiting.rstrip(b"\r\n")
        self.head_bytes = len(head)
        if (
            len(head) > MAX_HEAD
            or head.count(b"\n") > MAX_HEADERS
            or self._reads > MAX_HEAD_READS
            or max(map(len, head.split(b"\n"))) > MAX_LINE
        ):
            raise h11.RemoteProtocolError("the head is too large", error_status_hint=431)

    def _check_body(self, data: h11.Data) -> None:
        self._body_bytes += len(data.data)
        self._chunks += data.chunk_start
        if (
            self._reads > FREE_PIECES + self._body_bytes // READ_BYTES
            or self._chunks > FREE_PIECES + self._body_bytes // CHUNK_BYTES
        ):
            raise h11.RemoteProtocolError("the body comes in too many pieces", error_status_hint=400)
