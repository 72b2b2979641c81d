"""The feed of changes: every reader in this process is served by one watcher of the database.

`GET /api/events` reads it through a `Feed`; `receiver tail` calls `read_changes` itself. A change is read and written
as JSON once, however many readers there are. Nothing here changes anything.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from receiver.core.errors import StoreUnavailable
from receiver.documents import TaskDocument, read_documents, to_json
from receiver.services import Services
from receiver.store import Session, feed

PAGE = 200
"""Changes that are read at once."""
PAGE_BYTES = 256 * 1024
RECENT_BYTES = 4 * 1024 * 1024
"""Bytes of the latest changes that are kept for all readers; a reader who is further behind reads the database."""
RETRY_SECONDS = 1.0
"""The pause before the database is read again after it was unavailable."""
WATCH_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Change:
    """The latest change of a task, with its document."""

    number: int
    task: TaskDocument
    data: str
    """The document as JSON, on one line."""


def read_changes(services: Services, session: Session, after: int) -> list[Change]:
    """Return the next changes after a number, as many as `PAGE` and `PAGE_BYTES` hold and at least one, if any."""
    numbers = feed.read_after(session, after, PAGE, PAGE_BYTES)
    if not numbers:
        return []
    documents = read_documents(services, session, [task_id for _, task_id in numbers])
    shown = ((number, documents[task_id]) for number, task_id in numbers if task_id in documents)
    return [Change(number, document, to_json(document)) for number, document in shown]


class Reader:
    """One reader's place in the feed: every change up to `position` was given to it, or was before its time."""

    def __init__(self, feed_: "Feed", position: int, *, was_reset: bool) -> None:
        self.position = position
        self.was_reset = was_reset
        """The changes that were asked for are not known, so this reads from now on."""
        self._feed = feed_

    async def next(self, seconds: float) -> list[Change]:
        """Return the next changes; none after so many seconds without one, and when the service stops."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                changes = await self._feed.changes_after(self.position)
                self.position = changes[-1].number if changes else self.position
                return changes
        return []


class Feed:
    """All readers of this process, and the latest changes, which are kept for all of them together."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._readers = 0
        self._work: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()
        self._recent: deque[Change] = deque()
        self._recent_bytes = 0
        self._kept_after = 0
        """Every change after this number and up to `_read_to` is among the recent ones."""
        self._read_to = 0

    @asynccontextmanager
    async def reader(self, after: int | None) -> AsyncIterator[Reader]:
        """Open a reader of everything after a number, or from now on. Raises `StoreUnavailable`."""
        latest, is_known = await self._services.store.read(lambda session: _locate(session, after))
        position = latest if after is None or not is_known else after
        self._readers += 1
        try:
            if not self._work:
                self._start_watching(latest)
            yield Reader(self, position, was_reset=not is_known)
        finally:
            self._readers -= 1
            if not self._readers:
                self._stop_watching()

    async def changes_after(self, position: int) -> list[Change]:
        """Return the next changes after a number once there are any; none when the service stops.

        Raises `StoreUnavailable` where it has to read what is not kept.
        """
        while not self._services.stopping.is_set():
            news, kept_after = self._news, self._kept_after
            if position < kept_after:
                changes = await self._read_after(position)
                position = kept_after  # if there is nothing, whatever is left is newer
            else:
                changes = self._recent_after(position)
            if changes:
                return changes
            if position >= self._kept_after:
                await news.wait()
        return []

    async def _read_after(self, position: int) -> list[Change]:
        return await self._services.store.read(lambda session: read_changes(self._services, session, position))

    def _recent_after(self, position: int) -> list[Change]:
        found: list[Change] = []
        for change in reversed(self._recent):
            if change.number <= position:
                break
            found.append(change)
        return found[::-1]

    def _start_watching(self, latest: int) -> None:
        self._kept_after = self._read_to = latest
        start = self._services.background.start
        self._work = [start(self._watch()), start(self._wake_at_stop())]

    def _stop_watching(self) -> None:
        for task in self._work:
            task.cancel()
        self._work = []
        self._recent.clear()
        self._recent_bytes = 0

    async def _watch(self) -> None:
        store = self._services.store
        while not self._services.stopping.is_set():
            try:
                found = await store.until(
                    lambda session: read_changes(self._services, session, self._read_to), bool, WATCH_SECONDS
                )
            except StoreUnavailable:
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._publish(found)

    async def _wake_at_stop(self) -> None:
        await self._services.stopping.wait()
        self._news.set()

    def _publish(self, changes: list[Change]) -> None:
        for change in changes:
            self._recent.append(change)
            self._recent_bytes += len(change.data)
            self._read_to = change.number
        while self._recent_bytes > RECENT_BYTES:
            dropped = self._recent.popleft()
            self._recent_bytes -= len(dropped.data)
            self._kept_after = dropped.number
        news, self._news = self._news, asyncio.Event()
        news.set()


def _locate(session: Session, after: int | None) -> tuple[int, bool]:
    """Return the latest number, and whether everything after the one that is asked for is known."""
    return feed.read_latest(session), after is None or feed.knows_all_after(session, after)
