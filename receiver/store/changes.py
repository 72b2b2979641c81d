"""Notices that something was committed, by this process or another, and wakes whoever waits.

`Store.until` uses it. It looks only while somebody waits.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from receiver.errors import StoreUnavailable
from receiver.store.engine import moved, unavailable

LOOK_EVERY = 0.05
"""Seconds between two looks."""


class Changes:
    """Wakes waiters after commits."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiters = 0
        self._closed = False
        self._watcher: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._upcoming = asyncio.Event()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch for commits as long as this is open."""
        self._waiters += 1
        try:
            yield
        finally:
            self._waiters -= 1

    async def upcoming(self) -> asyncio.Event:
        """Return what is set soon after the next commit, and when nobody can look any more.

        Raises `StoreUnavailable`.
        """
        async with self._starting:
            if self._closed:
                raise StoreUnavailable("the database is closed: this process is ending")
            if self._watcher is None or self._watcher.done():
                connection, seen = await asyncio.to_thread(self._first_look)
                self._watcher = asyncio.create_task(self._watch(connection, seen))
        return self._upcoming

    async def close(self) -> None:
        """Stop watching; whoever waits is woken."""
        self._closed = True
        async with self._starting:
            if self._watcher is not None:
                await self._watcher  # not cancelled, since its thread may be using the connection

    def _first_look(self) -> tuple[Connection, Any]:
        try:
            connection = self._engine.connect()
        except DBAPIError as error:
            raise unavailable(error) from error
        return connection, _version(connection)

    async def _watch(self, connection: Connection, seen: Any) -> None:
        try:
            while self._waiters and not self._closed and not moved(connection.info):
                await asyncio.sleep(LOOK_EVERY)
                now = await asyncio.to_thread(_version, connection)
                if now != seen:
                    seen = now
                    self._wake()
        except StoreUnavailable:
            connection.invalidate()  # those who wait find out by themselves, and begin anew
        finally:
            connection.close()
            self._wake()

    def _wake(self) -> None:
        committed, self._upcoming = self._upcoming, asyncio.Event()
        committed.set()


def _version(connection: Connection) -> Any:
    """Read what changes with every commit of anybody but this connection; raises `StoreUnavailable`."""
    try:
        if connection.dialect.name == "sqlite":
            return connection.connection.cursor().execute("PRAGMA data_version").fetchone()[0]
        with connection.begin():  # ids become visible out of order, so the highest one is no measure
            return connection.scalar(text("SELECT pg_current_snapshot()::text"))
    except Exception as error:
        raise unavailable(error) from error
