"""Notices commits, by this process or another, and wakes whoever waits.

`Store.until` uses it. It polls only while somebody waits. Who waits for certain tasks is woken when one of them
changed: after a commit, one query reads the tasks of all who wait.
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
from receiver.store.engine import file_was_replaced, to_unavailable
from receiver.store.readers import CLOSE_SECONDS, Readers

POLL_INTERVAL = 0.05
"""Seconds between two polls."""
PAUSE_FACTOR = 10
"""The pause after a poll is at least this many times as long as the poll itself took."""
_SQLITE_VERSIONS = """SELECT id, state, leased_until, progress, updated_at FROM task
    WHERE id IN (SELECT value FROM json_each(?))"""
_POSTGRESQL_VERSIONS = "SELECT id, state, leased_until, progress, updated_at FROM task WHERE id = ANY(%s)"


class Watch:
    """Waits for a change of certain tasks, or of anything if none are given."""

    def __init__(self, task_ids: Iterable[str]) -> None:
        """Watch the tasks with these ids."""
        self.task_ids = frozenset(map(clean_text, task_ids))
        self.changed = asyncio.Event()
        self._seen: dict[str, Any] | None = None

    def set_seen(self, found: dict[str, Any]) -> None:
        """Record the versions of the tasks that the waiting caller has read."""
        self._seen = {task_id: found.get(task_id) for task_id in self.task_ids}

    def compare(self, found: dict[str, Any]) -> None:
        """Wake the waiting caller if the tasks have changed since the last comparison."""
        before = self._seen
        self.set_seen(found)
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
        """Watch for changes of these tasks, or for any commit, while this is open."""
        watch = Watch(task_ids)
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)

    async def next_change(self, watch: Watch) -> asyncio.Event:
        """Return an event that is set soon after the next change, and when polling ends.

        Raises `StoreUnavailable`.
        """
        if self._closed:
            raise StoreUnavailable("the database is closed: this process is ending")
        if self._watcher is None or self._watcher.done():
            if self._starting is None or self._starting.done():
                self._starting = asyncio.create_task(self._start())
            await asyncio.shield(self._starting)  # shared: otherwise each caller would wait for the one before
        watch.changed = asyncio.Event()
        return watch.changed

    async def _start(self) -> None:
        connection, seen = await self._readers.run(self._connect)
        self._watcher = asyncio.create_task(self._watch(connection, seen))

    async def close(self) -> None:
        """Stop watching and wake whoever waits."""
        self._closed = True
        if self._watcher is not None:
            # Not cancelled: its thread may be using the connection, and may be stuck.
            await asyncio.wait({self._watcher}, timeout=CLOSE_SECONDS)
        await self._readers.close()

    def _connect(self) -> tuple[Connection, Any]:
        try:
            connection = self._readers.engine.connect()
        except DBAPIError as error:
            raise to_unavailable(error) from error
        try:
            return connection, _read_version(connection)
        except StoreUnavailable:
            _release(connection)
            raise

    async def _watch(self, connection: Connection, seen: Any) -> None:
        with contextlib.suppress(StoreUnavailable):  # the waiting callers notice, and start again
            await self._watch_until_it_fails(connection, seen)
        with contextlib.suppress(StoreUnavailable):  # closed
            self._readers.start(partial(_release, connection))
        self._wake()

    async def _watch_until_it_fails(self, connection: Connection, seen: Any) -> None:
        loop, pause = asyncio.get_running_loop(), POLL_INTERVAL
        while self._watches and not self._closed and not file_was_replaced(connection.info):
            await asyncio.sleep(pause)
            now, began = await self._readers.run(partial(_read_version, connection)), loop.time()
            if now != seen:
                seen = now
                await self._wake_for_changes(connection)
            pause = max(POLL_INTERVAL, PAUSE_FACTOR * (loop.time() - began))

    async def _wake_for_changes(self, connection: Connection) -> None:
        ids = sorted(frozenset[str]().union(*(watch.task_ids for watch in self._watches)))
        watches = list(self._watches)  # later ones have read their tasks after this commit
        found = await self._readers.run(partial(_read_task_versions, connection, ids)) if ids else {}
        for watch in watches:
            if watch.task_ids:
                watch.compare(found)
            else:
                watch.changed.set()

    def _wake(self) -> None:
        for watch in self._watches:
            watch.changed.set()


def _release(connection: Connection) -> None:
    """Return a connection to its pool; a broken one is discarded."""
    try:
        connection.close()
    except DBAPIError:
        connection.invalidate()


def _read_version(connection: Connection) -> Any:
    """Return what changes with every commit on another connection. Raises `StoreUnavailable`."""
    try:
        if connection.dialect.name == "sqlite":
            return connection.connection.cursor().execute("PRAGMA data_version").fetchone()[0]
        with connection.begin():  # ids become visible out of order, so the highest one says nothing
            return connection.scalar(text("SELECT pg_current_snapshot()::text"))
    except Exception as error:
        raise to_unavailable(error) from error


def read_task_versions(connection: Connection, ids: Sequence[str]) -> dict[str, Any]:
    """Return what changes with every change of these tasks that anybody waits for, in the open transaction."""
    if connection.dialect.name == "sqlite":
        rows = connection.connection.cursor().execute(_SQLITE_VERSIONS, (json.dumps(list(ids)),)).fetchall()
    else:
        rows = connection.exec_driver_sql(_POSTGRESQL_VERSIONS, (list(ids),)).all()
    return {row[0]: tuple(row[1:]) for row in rows}


def _read_task_versions(connection: Connection, ids: Sequence[str]) -> dict[str, Any]:
    try:
        if connection.dialect.name == "sqlite":
            return read_task_versions(connection, ids)
        with connection.begin():
            return read_task_versions(connection, ids)
    except Exception as error:
        raise to_unavailable(error) from error
