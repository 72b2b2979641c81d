"""Shuts down connections that do not answer, so that a thread that waits for one gets an error.

Only for PostgreSQL, whose answers may never come: SQLite has no connection to shut down.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Engine, event

_SOCKET = "socket"


class ConnectionAborter:
    """Knows the sockets of an engine's connections, and which thread uses which."""

    def __init__(self, engine: Engine) -> None:
        self._by_thread: dict[int, socket.socket] = {}
        if engine.dialect.name != "postgresql":
            return
        # First of all listeners: SQLAlchemy itself asks something of a new connection.
        event.listen(engine, "connect", self._opened, insert=True)
        event.listen(engine, "checkout", self._taken)
        event.listen(engine, "checkin", self._given_back)
        event.listen(engine, "close", self._closed)

    def abort(self, thread: int | None) -> bool:
        """Shut down the connection that a thread uses; return whether there was one."""
        used = self._by_thread.get(thread) if thread is not None else None
        if used is None:
            return False
        with contextlib.suppress(OSError):  # it is closed already
            used.shutdown(socket.SHUT_RDWR)
        return True

    @contextlib.contextmanager
    def time_limit(self, seconds: float) -> Iterator[None]:
        """Shut down the connection that this thread uses if it takes longer."""
        alarm = threading.Timer(seconds, self.abort, [threading.get_ident()])
        alarm.daemon = True
        alarm.start()
        try:
            yield
        finally:
            alarm.cancel()

    def _opened(self, connection: Any, record: Any) -> None:
        # A handle of our own: the driver's may be closed, and its number be another socket's, when we come to use it.
        record.info[_SOCKET] = socket.socket(fileno=os.dup(connection.fileno()))
        self._taken(connection, record)

    def _taken(self, _connection: Any, record: Any, _proxy: Any = None) -> None:
        self._by_thread[threading.get_ident()] = record.info[_SOCKET]

    def _given_back(self, _connection: Any, record: Any) -> None:
        self._forget(record.info.get(_SOCKET))

    def _closed(self, _connection: Any, record: Any) -> None:
        own = record.info.pop(_SOCKET, None)
        self._forget(own)
        if own is not None:
            own.close()

    def _forget(self, own: socket.socket | None) -> None:
        for thread, used in list(self._by_thread.items()):
            if used is own:
                del self._by_thread[thread]
