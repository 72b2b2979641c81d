"""The connections of the service: deadlines for requests and responses, and a limit on open connections.

`server` hands every connection to uvicorn's HTTP protocol, which has no deadlines of its own. Bodies that a handler
reads have their deadline in `web.bodies`; bodies that nobody reads, and clients that do not read, are handled here.
"""

import asyncio
from typing import Any

import h11
import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from receiver.serving.request_limits import LimitedConnection

log = structlog.get_logger()

HEAD_SECONDS = 5.0
"""A connection that has not sent its whole request head by then is closed."""
HEADS_BYTES = 16 * 1024 * 1024
"""Memory for the incomplete request heads of all connections together."""
SLICE_BYTES = 64 * 1024
"""Bytes parsed at once, so that nothing is parsed that comes after a refusal."""
UNREAD_BODY_SECONDS = 5.0
"""How long the rest of a body may keep arriving after its request was answered without reading it."""
UNREAD_BODY_BYTES = 64 * 1024
RESPONSE_SECONDS = 8.0
"""The client must read at least `RESPONSE_BYTES` of a waiting response in each such interval."""
RESPONSE_BYTES = 40_000
RESERVED_FILES = 64
"""Open files that are not connections: database, log, requests to providers."""
LOG_INTERVAL = 60.0
"""Seconds between two log lines about too many connections."""


class ConnectionLimit:
    """All open connections of one server, and those that wait for a request, the longest-waiting first.

    When there are more connections than the process may hold, the longest-idle ones are closed first, so that silent
    clients never keep out one that sends a request.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._open: set[DeadlineProtocol] = set()
        self._waiting: dict[DeadlineProtocol, None] = {}
        self._head_sizes: dict[DeadlineProtocol, int] = {}
        self._heads_bytes = 0
        self._log_again_at = 0.0

    def add(self, connection: "DeadlineProtocol") -> None:
        """Add a new connection; over the limit, close the one that has waited for a request longest."""
        longest_idle = next(iter(self._waiting), None)
        self._open.add(connection)
        self.wait_for_request(connection)
        if len(self._open) > self._maximum and longest_idle is not None:
            self._abort(longest_idle)
            self.log_too_many(longest_idle.loop.time())

    def wait_for_request(self, connection: "DeadlineProtocol") -> None:
        """Note that a connection waits for a request from now on."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = None

    def stop_waiting(self, connection: "DeadlineProtocol") -> None:
        """Note that a connection has sent its request."""
        self._waiting.pop(connection, None)

    def remove(self, connection: "DeadlineProtocol") -> None:
        """Remove a closed connection."""
        self._open.discard(connection)
        self._waiting.pop(connection, None)
        self.count_head(connection, 0)

    def count_head(self, connection: "DeadlineProtocol", size: int) -> None:
        """Note the size of a connection's incomplete head; over the budget, close those with the oldest heads."""
        self._heads_bytes += size - self._head_sizes.get(connection, 0)
        if size:
            self._head_sizes[connection] = size  # keeps the place in the order that its first byte had
        else:
            self._head_sizes.pop(connection, None)
        while self._heads_bytes > HEADS_BYTES:
            self._abort(next(iter(self._head_sizes)))

    def _abort(self, connection: "DeadlineProtocol") -> None:
        self.remove(connection)
        connection.transport.abort()

    def log_too_many(self, now: float) -> None:
        """Log that there are too many connections, at most once a minute; `now` is the loop's time."""
        if now >= self._log_again_at:
            self._log_again_at = now + LOG_INTERVAL
            log.warning("too_many_connections", limit=self._maximum, remedy="raise the open files limit (ulimit -n)")


class DeadlineProtocol(H11Protocol):
    """uvicorn's HTTP protocol with deadlines for the request head, for an unread body, and for the response."""

    _request_timer: asyncio.TimerHandle | None = None
    _response_timer: asyncio.TimerHandle | None = None
    _unread_allowance: int = UNREAD_BODY_BYTES
    _holds_head: bool = False

    def __init__(self, connections: ConnectionLimit, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.conn: LimitedConnection = LimitedConnection()
        self._connections = connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._connections.add(self)
        self._set_request_timer(HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), SLICE_BYTES):
            if not self.transport.is_closing():
                super().data_received(data[start : start + SLICE_BYTES])
        self._count_head()
        if self.conn.their_state is h11.IDLE:
            if self._request_timer is None:
                self._set_request_timer(HEAD_SECONDS)
        elif self.conn.their_state is not h11.SEND_BODY:
            self._connections.stop_waiting(self)
            self._set_request_timer(None)
        elif not self._is_answered():
            self._set_request_timer(None)
        else:
            self._unread_allowance -= len(data)
            if self._unread_allowance < 0:
                self.transport.abort()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_response()
            return
        if self._response_timer is None:
            self._watch_response()
        if self.conn.their_state is h11.SEND_BODY:
            self._unread_allowance = UNREAD_BODY_BYTES
            self._set_request_timer(UNREAD_BODY_SECONDS)
        elif self.conn.their_state is h11.IDLE:
            self._connections.wait_for_request(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_response()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch_response()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, also in the middle of a body, while a handler may be at work on the response."""
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn declares that there always is one
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # otherwise what the handler sends later would be logged as our error
            cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()
        self._watch_response()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.remove(self)
        self._set_request_timer(None)
        super().connection_lost(exc)
        if self._response_timer is not None:
            self._response_timer.cancel()
            self._response_timer = None

    def _count_head(self) -> None:
        """Count an incomplete head against the budget of all connections."""
        size = self.conn.head_bytes if self.conn.their_state is h11.IDLE and not self.transport.is_closing() else 0
        if size or self._holds_head:
            self._holds_head = bool(size)
            self._connections.count_head(self, size)

    def _is_answered(self) -> bool:
        """Return whether the request that is still arriving was already answered."""
        return self.conn.our_state not in (h11.SEND_RESPONSE, h11.SEND_BODY)

    def _set_request_timer(self, seconds: float | None) -> None:
        """Close the connection unless the client sends what is due within so many seconds; None stops the timer."""
        if self._request_timer is not None:
            self._request_timer.cancel()
        self._request_timer = None if seconds is None else self.loop.call_later(seconds, self._on_request_timeout)

    def _on_request_timeout(self) -> None:
        self._request_timer = None
        if not self.transport.is_closing():
            self.transport.close()
            self._watch_response()

    def _watch_response(self) -> None:
        """Start the deadline of whatever waits to be read by the client, from now."""
        if self._response_timer is not None:
            self._response_timer.cancel()
            self._response_timer = None
        waiting = self.transport.get_write_buffer_size()
        if waiting:
            self._response_timer = self.loop.call_later(RESPONSE_SECONDS, self._require_progress, waiting)

    def _require_progress(self, waited: int) -> None:
        self._response_timer = None
        if self.transport.get_write_buffer_size() > waited - RESPONSE_BYTES:
            self.transport.abort()
        else:
            self._watch_response()
