"""Notices that something was committed, by this process or another, and wakes whoever waits.

`Store.until` uses it. It looks only while somebody waits.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from receiver.errors import StoreUnavailable
from receiver.store.engine import moved, unavailable
from receiver.store.readers import CLOSE_SECONDS, Readers

LOOK_EVERY = 0.05
"""Seconds between two looks."""


class Changes:
    """Wakes waiters after commits."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._waiters = 0
        self._closed = False
        self._watcher: asyncio.Task[None] | None = None
        self._starting: asyncio.Task[None] | None = None
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
        if self._closed:
            raise StoreUnavailable("the database is closed: this process is ending")
        if self._watcher is None or self._watcher.done():
            if self._starting is None or self._starting.done():
                self._starting = asyncio.create_task(self._start())
            await asyncio.shield(self._starting)  # for all who wait: each would have to be patient after the other
        return self._upcoming

    async def _start(self) -> None:
        connection, seen = await self._readers.run(self._first_look)
        self._watcher = asyncio.create_task(self._watch(connection, seen))

    async def close(self) -> None:
        """Stop watching; whoever waits is woken."""
        self._closed = True
        if self._watcher is not None:
            # Not cancelled, since its thread may be using the connection: and it may be stuck.
            await asyncio.wait({self._watcher}, timeout=CLOSE_SECONDS)
        await self._readers.close()

    def _first_look(self) -> tuple[Connection, Any]:
        try:
            connection = self._readers.engine.connect()
        except DBAPIError as error:
            raise unavailable(error) from error
        try:
            return connection, _version(connection)
        except StoreUnavailable:
            _give_back(connection)
            raise

    async def _watch(self, connection: Connection, seen: Any) -> None:
        with contextlib.suppress(StoreUnavailable):  # those who wait find out by themselves, and begin anew
            await self._watch_until_it_fails(connection, seen)
        with contextlib.suppress(StoreUnavailable):  # closed
            self._readers.start(partial(_give_back, connection))
        self._wake()

    async def _watch_until_it_fails(self, connection: Connection, seen: Any) -> None:
        while self._waiters and not self._closed and not moved(connection.info):
            await asyncio.sleep(LOOK_EVERY)
            now = await self._readers.run(partial(_version, connection))
            if now != seen:
                seen = now
                self._wake()

    def _wake(self) -> None:
        committed, self._upcoming = self._upcoming, asyncio.Event()
        committed.set()


def _give_back(connection: Connection) -> None:
    """Give a connection back to its pool, or up where it is broken."""
    try:
        connection.close()
    except DBAPIError:
        connection.invalidate()


def _version(connection: Connection) -> Any:
    """Read what changes with every commit of anybody but this connection; raises `StoreUnavailable`."""
    try:
        if connection.dialect.name == "sqlite":
            return connection.connection.cursor().execute("PRAGMA data_version").fetchone()[0]
        with connection.begin():  # ids become visible out of order, so the highest one is no measure
            return connection.scalar(text("SELECT pg_current_snapshot()::text"))
    except Exception as error:
        raise unavailable(error) from error
