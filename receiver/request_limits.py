"""What a request may cost before anybody knows who sends it: its head, the pieces it comes in, memory for its body.

`connections` parses requests with `LimitedConnection`, `web.bodies` takes memory from `BodyBudget`. Pure: no sockets,
no clock.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import h11

MAX_HEAD = 32 * 1024
"""Bytes of a request's head. Browsers' heads, with the cookies of every service on a host, have under 16 KB."""
MAX_LINE = 8 * 1024
"""Bytes of a head's first line, and of each header."""
MAX_HEADERS = 100
MAX_HEAD_READS = 100
"""Pieces in which a head may arrive; each is looked through again."""
FREE_PIECES = 256
"""Pieces, and chunks, of a body that are taken whatever their size; a large body may have more."""
READ_BYTES = 512
"""Bytes of a body that allow one more piece."""
CHUNK_BYTES = 4096
"""Bytes of a body that allow one more chunk: each is parsed by itself."""
BODIES_BYTES = 8 * 1024 * 1024
"""Memory for the bodies of all requests without an API token together; for four of the largest in any case."""
_BLANK_LINE = re.compile(rb"\n\r?\n")


class LimitedConnection(h11.Connection):
    """The server's side of a connection, which refuses what would be dear to parse before it parses it."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, MAX_HEAD + len(b"\r\n\r\n"))
        self.head_bytes = 0
        """Bytes of a head that is not complete."""
        self._reads = self._chunks = self._body_bytes = 0

    def receive_data(self, data: bytes) -> None:
        """Take what the socket gave."""
        self._reads += 1
        super().receive_data(data)

    def next_event(self) -> Any:
        """Parse the next event; raises `h11.RemoteProtocolError` also for what is beyond the limits."""
        if self.their_state is h11.IDLE:
            self._check_head()
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.head_bytes = self._reads = self._chunks = self._body_bytes = 0
        elif isinstance(event, h11.Data):
            self._check_body(event)
        return event

    def start_next_cycle(self) -> None:
        """Begin with the next request on this connection."""
        super().start_next_cycle()
        self._reads = 0

    def _check_head(self) -> None:
        waiting, _ = self.trailing_data
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


class Share:
    """The part of a budget that one body has."""

    def __init__(self, give_way: Callable[[], None]) -> None:
        """Take what ends the reading of this body."""
        self.size = 0
        self.gave_way = False
        self._give_way = give_way

    def leave(self) -> None:
        """Give way to others."""
        self.gave_way = True
        self._give_way()


class BodyBudget:
    """Memory for bodies. Where it runs out, the body that has been arriving for longest gives way."""

    def __init__(self, most: int = BODIES_BYTES) -> None:
        """Begin with so many bytes."""
        self._most = most
        self._held = 0
        self._arriving: dict[Share, None] = {}

    @contextmanager
    def share(self, give_way: Callable[[], None]) -> Iterator[Share]:
        """Hold a part of the budget for as long as this lasts; `give_way` is called once it is taken away."""
        share = Share(give_way)
        self._arriving[share] = None
        try:
            yield share
        finally:
            self._arriving.pop(share, None)
            self._held -= share.size
            share.size = 0

    def take(self, share: Share, size: int) -> None:
        """Take so many bytes more for a body, at the expense of those that have been arriving for longer."""
        if share.gave_way:
            return
        share.size += size
        self._held += size
        while self._held > self._most and self._arriving:
            self._send_away(next(iter(self._arriving)))

    def has_arrived(self, share: Share) -> None:
        """Note that a body is complete: from now on it no longer gives way."""
        self._arriving.pop(share, None)

    def _send_away(self, share: Share) -> None:
        del self._arriving[share]
        self._held -= share.size
        share.size = 0
        share.leave()
