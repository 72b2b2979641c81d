"""The store: all SQL of the project, behind one door for writes and one for reads.

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
from receiver.store.changes import Changes, Watch, how_tasks_stand
from receiver.store.engine import reader_engine, require_database, unavailable, writer_engine
from receiver.store.readers import Readers
from receiver.store.transaction import Transaction, Unit
from receiver.store.writer import Door

__all__ = ["Session", "Store", "Transaction", "Unit"]

T = TypeVar("T")

READERS = 4


class Store:
    """One open database."""

    def __init__(self, url: str) -> None:
        """Open a database that exists and is migrated; raises `ConfigError` naming the path where it is missing."""
        require_database(url)
        self._door = Door(writer_engine(url))
        self._readers = Readers(reader_engine(url), READERS, "reader")
        self._changes = Changes(Readers(reader_engine(url), 1, "watcher"))

    async def write(self, unit: Unit[T]) -> T:
        """Run a unit through the one door and return its result once it is durable.

        Raises `StoreUnavailable` in time whatever the database does, and whatever the unit raises.
        """
        return await self._door.write(unit)

    async def read(self, query: Callable[[Session], T]) -> T:
        """Run a query on a read-only session, off the event loop. Raises `StoreUnavailable`."""
        return await self._readers.run(partial(self._read, query))

    async def until(
        self, query: Callable[[Session], T], done: Callable[[T], bool], seconds: float, *, of: Iterable[str] = ()
    ) -> T:
        """Run a query, and again after every commit of anybody, until its result is `done` or the time is over.

        With the ids of tasks (`of`), only after such commits as changed the state, lease or progress of one of them.
        Returns the last result. Raises `StoreUnavailable`.
        """
        end = time.monotonic() + seconds
        with self._changes.watching(of) as watch:
            while True:
                committed = await self._changes.upcoming(watch)  # before the query: no commit falls in between
                result, seen = await self.read(lambda session: _with_tasks(session, query, watch))
                watch.has_seen(seen)
                left = end - time.monotonic()
                if done(result) or left <= 0:
                    return result
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await committed.wait()

    def end_within(self, seconds: float) -> None:
        """Let no write take longer than so many seconds from now: this process is ending."""
        self._door.end_within(seconds)

    async def close(self) -> None:
        """Finish what is being written and close all connections; what the database does not let go is left behind."""
        await asyncio.gather(self._changes.close(), self._readers.close())
        await self._door.close()

    def _read(self, query: Callable[[Session], T]) -> T:
        try:
            with Session(self._readers.engine) as session:
                return query(session)
        except Exception as error:
            if not error_codes.is_of_driver(error):
                raise
            raise unavailable(error) from error


def _with_tasks(session: Session, query: Callable[[Session], T], watch: Watch) -> tuple[T, dict[str, Any]]:
    """Run a query, and read in the same transaction how the tasks stand that are waited for."""
    if not watch.task_ids:
        return query(session), {}
    seen = how_tasks_stand(session.connection(), list(watch.task_ids))
    return query(session), seen
