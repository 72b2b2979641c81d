"""Notices that something was committed, by this process or another, and wakes whoever waits.

`Store.until` uses it. It looks only while somebody waits. Who waits for certain tasks is woken when one of them has
changed: after a commit one read looks at the tasks of all who wait.
"""

import asyncio
import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from receiver.core.errors import StoreUnavailable
from receiver.core.wire import clean_text
from receiver.store.engine import moved, unavailable
from receiver.store.readers import CLOSE_SECONDS, Readers

LOOK_EVERY = 0.05
"""Seconds between two looks."""
REST = 10
"""How many times longer than its read at the tasks that are waited for a look is away from the next one."""
_OF_SQLITE = """SELECT id, state, leased_until, progress, updated_at FROM task
    WHERE id IN (SELECT value FROM json_each(?))"""
_OF_POSTGRESQL = "SELECT id, state, leased_until, progress, updated_at FROM task WHERE id = ANY(%s)"


class Watch:
    """Somebody who waits for a change of certain tasks, or of anything where none are named."""

    def __init__(self, task_ids: Iterable[str]) -> None:
        """Take the ids of the tasks."""
        self.task_ids = frozenset(map(clean_text, task_ids))
        self.changed = asyncio.Event()
        self._seen: dict[str, Any] | None = None

    def has_seen(self, found: dict[str, Any]) -> None:
        """Remember how the tasks stood when who waits has read them himself."""
        self._seen = {task_id: found.get(task_id) for task_id in self.task_ids}

    def compare(self, found: dict[str, Any]) -> None:
        """Wake who waits if the tasks are not as they were at the look before."""
        before = self._seen
        self.has_seen(found)
        if self._seen != before:
            self.changed.set()


class Changes:
    """Wakes waiters after commits."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._watches: set[Watch] = set()
        self._closed = False
        self._watcher: asyncio.Task[None] | None = None
        self._starting: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def watching(self, task_ids: Iterable[str] = ()) -> Iterator[Watch]:
        """Watch for changes of these tasks, or for any commit, as long as this is open."""
        watch = Watch(task_ids)
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)

    async def upcoming(self, watch: Watch) -> asyncio.Event:
        """Return what is set soon after the next change, and when nobody can look any more.

        Raises `StoreUnavailable`.
        """
        if self._closed:
            raise StoreUnavailable("the database is closed: this process is ending")
        if self._watcher is None or self._watcher.done():
            if self._starting is None or self._starting.done():
                self._starting = asyncio.create_task(self._start())
            await asyncio.shield(self._starting)  # for all who wait: each would have to be patient after the other
        watch.changed = asyncio.Event()
        return watch.changed

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
        loop, pause = asyncio.get_running_loop(), LOOK_EVERY
        while self._watches and not self._closed and not moved(connection.info):
            await asyncio.sleep(pause)
            now, began = await self._readers.run(partial(_version, connection)), loop.time()
            if now != seen:
                seen = now
                await self._wake_for_changes(connection)
            pause = max(LOOK_EVERY, REST * (loop.time() - began))

    async def _wake_for_changes(self, connection: Connection) -> None:
        ids = sorted(frozenset[str]().union(*(watch.task_ids for watch in self._watches)))
        watches = list(self._watches)  # who comes later has looked for himself after this commit
        found = await self._readers.run(partial(_look_at_tasks, connection, ids)) if ids else {}
        for watch in watches:
            if watch.task_ids:
                watch.compare(found)
            else:
                watch.changed.set()

    def _wake(self) -> None:
        for watch in self._watches:
            watch.changed.set()


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


def how_tasks_stand(connection: Connection, ids: Sequence[str]) -> dict[str, Any]:
    """Read what changes with every change of these tasks that anybody waits for, in the transaction that is open."""
    if connection.dialect.name == "sqlite":
        rows = connection.connection.cursor().execute(_OF_SQLITE, (json.dumps(list(ids)),)).fetchall()
    else:
        rows = connection.exec_driver_sql(_OF_POSTGRESQL, (list(ids),)).all()
    return {row[0]: tuple(row[1:]) for row in rows}


def _look_at_tasks(connection: Connection, ids: Sequence[str]) -> dict[str, Any]:
    try:
        if connection.dialect.name == "sqlite":
            return how_tasks_stand(connection, ids)
        with connection.begin():
            return how_tasks_stand(connection, ids)
    except Exception as error:
        raise unavailable(error) from error
