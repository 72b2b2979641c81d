"""The connections of the service: how long a request may take to come, its answer to go, and which give way to others.

`server` hands every connection to uvicorn's HTTP, which waits for ever. A deadline for bodies that are read is in
`web.bodies`; what nobody reads any more, and whoever does not read our answers, is cut off here.
"""

import asyncio
from typing import Any

import h11
import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from receiver.serving.request_limits import LimitedConnection

log = structlog.get_logger()

HEADER_SECONDS = 5.0
"""A connection that has not sent its whole request head by then is closed."""
HEADS_BYTES = 16 * 1024 * 1024
"""Memory for the incomplete request heads of all connections together."""
SLICE_BYTES = 64 * 1024
"""What is parsed in one go, so that nothing is parsed that comes after a refusal."""
REST_SECONDS = 5.0
"""So long may the rest of a body come in that was answered without being read."""
REST_BYTES = 64 * 1024
ANSWER_SECONDS = 8.0
"""An answer must have gone on by `ANSWER_BYTES` each time this is over."""
ANSWER_BYTES = 40_000
OWN_FILES = 64
"""Files that are not connections: database, log, requests to providers."""
TOLD_EVERY = 60.0
"""Seconds between two lines of the log about too many connections."""


class Crowd:
    """All connections of one server, and in order of their coming those whose request is not there yet.

    When there are more than the process may have, those that have made us wait longest give way: nobody who says
    nothing keeps out somebody who does.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._there: set[Punctual] = set()
        self._awaited: dict[Punctual, None] = {}
        self._heads: dict[Punctual, int] = {}
        self._heads_bytes = 0
        self._tell_from = 0.0

    def enter(self, connection: "Punctual") -> None:
        """Count a new connection in, and cut off another where that is one too many and owes us a request."""
        longest = next(iter(self._awaited), None)
        self._there.add(connection)
        self.await_request(connection)
        if len(self._there) > self._most and longest is not None:
            self._cut(longest)
            self.tell(longest.loop.time())

    def await_request(self, connection: "Punctual") -> None:
        """Note that a connection owes us a request from now on."""
        self._awaited.pop(connection, None)
        self._awaited[connection] = None

    def has_sent(self, connection: "Punctual") -> None:
        """Note that a connection owes us nothing."""
        self._awaited.pop(connection, None)

    def leave(self, connection: "Punctual") -> None:
        """Count a connection out."""
        self._there.discard(connection)
        self._awaited.pop(connection, None)
        self.hold_head(connection, 0)

    def hold_head(self, connection: "Punctual", size: int) -> None:
        """Note how much of an incomplete head a connection holds; the oldest heads give way where that is too much."""
        self._heads_bytes += size - self._heads.get(connection, 0)
        if size:
            self._heads[connection] = size  # it keeps its place: that of its first byte
        else:
            self._heads.pop(connection, None)
        while self._heads_bytes > HEADS_BYTES:
            self._cut(next(iter(self._heads)))

    def _cut(self, connection: "Punctual") -> None:
        self.leave(connection)
        connection.transport.abort()

    def tell(self, now: float) -> None:
        """Log that there are too many connections, once in a while; `now` is the loop's time."""
        if now >= self._tell_from:
            self._tell_from = now + TOLD_EVERY
            log.warning("too_many_connections", most=self._most, remedy="raise the limit of open files (ulimit -n)")


class Punctual(H11Protocol):
    """uvicorn's HTTP with deadlines for the request's head, for what is left of a body, and for the answer."""

    _coming: asyncio.TimerHandle | None = None
    _going: asyncio.TimerHandle | None = None
    _left: int = REST_BYTES
    _holds_head: bool = False

    def __init__(self, crowd: Crowd, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.conn: LimitedConnection = LimitedConnection()
        self._crowd = crowd

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._crowd.enter(self)
        self._expect(HEADER_SECONDS)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), SLICE_BYTES):
            if not self.transport.is_closing():
                super().data_received(data[start : start + SLICE_BYTES])
        self._hold_head()
        if self.conn.their_state is h11.IDLE:
            if self._coming is None:
                self._expect(HEADER_SECONDS)
        elif self.conn.their_state is not h11.SEND_BODY:
            self._crowd.has_sent(self)
            self._expect(None)
        elif not self._answered():
            self._expect(None)
        else:
            self._left -= len(data)
            if self._left < 0:
                self.transport.abort()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_answer()
            return
        if self._going is None:
            self._watch_answer()
        if self.conn.their_state is h11.SEND_BODY:
            self._left = REST_BYTES
            self._expect(REST_SECONDS)
        elif self.conn.their_state is h11.IDLE:
            self._crowd.await_request(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_answer()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch_answer()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, also in the middle of a body, when somebody may be at work on the answer already."""
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn says that there always is one
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # or what he says later would be a fault of ours
            cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()
        self._watch_answer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.leave(self)
        self._expect(None)
        super().connection_lost(exc)
        if self._going is not None:
            self._going.cancel()
            self._going = None

    def _hold_head(self) -> None:
        """Count what came of a head that is not complete against what all of them may have."""
        size = self.conn.head_bytes if self.conn.their_state is h11.IDLE and not self.transport.is_closing() else 0
        if size or self._holds_head:
            self._holds_head = bool(size)
            self._crowd.hold_head(self, size)

    def _answered(self) -> bool:
        """Tell whether the request that is still coming was answered already."""
        return self.conn.our_state not in (h11.SEND_RESPONSE, h11.SEND_BODY)

    def _expect(self, seconds: float | None) -> None:
        """Give the sender so long for what it owes us; None: it owes us nothing that is timed here."""
        if self._coming is not None:
            self._coming.cancel()
        self._coming = None if seconds is None else self.loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        self._coming = None
        if not self.transport.is_closing():
            self.transport.close()
            self._watch_answer()

    def _watch_answer(self) -> None:
        """See to it that what waits to be sent goes on, from now."""
        if self._going is not None:
            self._going.cancel()
            self._going = None
        waits = self.transport.get_write_buffer_size()
        if waits:
            self._going = self.loop.call_later(ANSWER_SECONDS, self._look_at_answer, waits)

    def _look_at_answer(self, waited: int) -> None:
        self._going = None
        if self.transport.get_write_buffer_size() > waited - ANSWER_BYTES:
            self.transport.abort()
        else:
            self._watch_answer()
