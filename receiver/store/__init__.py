"""The store: all SQL of the project, with one writer and a few readers.

Nothing above this package writes SQL, and nothing in it decides what a task's state should be.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from sqlmodel import Session

from receiver.store import error_codes
from receiver.store.changes import Changes, Watch, read_task_versions
from receiver.store.engine import reader_engine, require_database, to_unavailable, writer_engine
from receiver.store.readers import Readers
from receiver.store.transaction import Transaction, Unit
from receiver.store.writer import Writer

__all__ = ["Session", "Store", "Transaction", "Unit"]

T = TypeVar("T")

READERS = 4


class Store:
    """One open database."""

    def __init__(self, url: str) -> None:
        """Open a database that exists and is migrated; raises `ConfigError` naming the path where it is missing."""
        require_database(url)
        self._writer = Writer(writer_engine(url))
        self._readers = Readers(reader_engine(url), READERS, "reader")
        self._changes = Changes(Readers(reader_engine(url), 1, "watcher"))

    async def write(self, unit: Unit[T]) -> T:
        """Return a unit's result once it is durable.

        Raises `StoreUnavailable` in time, whatever the database does, and whatever the unit raises.
        """
        return await self._writer.write(unit)

    async def read(self, query: Callable[[Session], T]) -> T:
        """Return the result of a query on a read-only session, off the event loop. Raises `StoreUnavailable`."""
        return await self._readers.run(partial(self._read, query))

    async def until(
        self, query: Callable[[Session], T], done: Callable[[T], bool], seconds: float, *, of: Iterable[str] = ()
    ) -> T:
        """Return a query's result once it is `done`, or after that time as it then is.

        The query runs again after every commit of any process; with the ids of tasks (`of`), only after commits that
        changed the state, lease or progress of one of them. Raises `StoreUnavailable`.
        """
        end = time.monotonic() + seconds
        with self._changes.watching(of) as watch:
            while True:
                committed = await self._changes.next_change(watch)  # before the query: no commit falls in between
                result, seen = await self.read(lambda session: _with_tasks(session, query, watch))
                watch.set_seen(seen)
                left = end - time.monotonic()
                if done(result) or left <= 0:
                    return result
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await committed.wait()

    def end_within(self, seconds: float) -> None:
        """Let no write take longer than so many seconds from now, because this process is ending."""
        self._writer.end_within(seconds)

    async def close(self) -> None:
        """Finish writes under way and close all connections; a thread that the database blocks is left behind."""
        await asyncio.gather(self._changes.close(), self._readers.close())
        await self._writer.close()

    def _read(self, query: Callable[[Session], T]) -> T:
        try:
            with Session(self._readers.engine) as session:
                return query(session)
        except Exception as error:
            if not error_codes.is_of_driver(error):
                raise
            raise to_unavailable(error) from error


def _with_tasks(session: Session, query: Callable[[Session], T], watch: Watch) -> tuple[T, dict[str, Any]]:
    """Return a query's result and, read in the same transaction, the versions of the watched tasks."""
    if not watch.task_ids:
        return query(session), {}
    seen = read_task_versions(session.connection(), list(watch.task_ids))
    return query(session), seen
