"""Find files that are to be downloaded, and download them: soonest to expire first, several at once, few from a host.

`app` runs an `Archiver` beside the poller, `receiver poll` and `receiver archive` run one until nothing is due. Leases
in the database share the work between processes; they are renewed while a download lasts, so that a dead process's
files are free again soon.
"""

import asyncio
from collections import Counter

import structlog

from receiver.archive.fetch import fetch
from receiver.core.errors import StoreUnavailable
from receiver.lifecycle import files as lifecycle
from receiver.services import Services
from receiver.storage import Storage
from receiver.store import Transaction, files
from receiver.store.files import FileRow

log = structlog.get_logger()

POLL_INTERVAL = 0.5
"""Seconds between two looks for files that are due."""
BUSY_SECONDS = 0.01
"""How late the event loop is when it is busy: callbacks come first then, and downloads begin one by one."""
MAX_PUT_OFF = 60_000
"""Milliseconds for which a file is put off at most because the loop is busy."""
FROM_ONE_HOST = 6
"""Downloads at once from one host."""
LEASE_SECONDS = 30.0
RENEW_SECONDS = 8.0


class Archiver:
    """The downloads of one process."""

    def __init__(self, services: Services, storage: Storage) -> None:
        """Begin with nothing under way."""
        self.stored = 0
        self.failed = 0
        self._services = services
        self._storage = storage
        self._running: dict[asyncio.Task[None], FileRow] = {}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Download whatever is due, as long as the service runs."""
        renewing = asyncio.create_task(self._renew())
        try:
            while not self._services.stopping.is_set():
                try:
                    await self._start_due()
                except StoreUnavailable as error:
                    log.warning("archive_waits", reason=str(error))
                await self._wait(POLL_INTERVAL)
        finally:
            renewing.cancel()
            await self._give_back()

    async def sweep(self, stop: asyncio.Event) -> None:
        """Download what is due now, until nothing is; after `stop`, only what was begun is finished."""
        renewing = asyncio.create_task(self._renew())
        try:
            while not stop.is_set() and (await self._start_due() or self._running):
                await self._wait(POLL_INTERVAL)
            while self._running:
                await self._wait(POLL_INTERVAL)
        finally:
            renewing.cancel()
            await self._give_back()

    async def fetch_now(self, output_id: int) -> None:
        """Download one file, due or not, also one that was given up; wait for whoever downloads it already."""
        renewing = asyncio.create_task(self._renew())
        try:
            while (row := await self._claim_one(output_id)) is None:
                if not await self._services.store.read(lambda session: files.is_waiting(session, output_id)):
                    return
                await asyncio.sleep(POLL_INTERVAL)
            self._start(row)
            while self._running:
                await self._wait(POLL_INTERVAL)
        finally:
            renewing.cancel()
            await self._give_back()

    async def _claim_one(self, output_id: int) -> FileRow | None:
        now, until = self._services.clock(), self._lease_end()

        def unit(tx: Transaction) -> FileRow | None:
            lifecycle.fetch_again(tx, output_id, now)
            return files.claim_one(tx, output_id, now, until)

        return await self._services.store.write(unit)

    async def _start_due(self) -> int:
        """Claim as many files as there are places for, and start their downloads; returns how many."""
        most = self._storage.at_once
        if not await self._has_time():
            await asyncio.sleep(POLL_INTERVAL)
            most = 1
        if len(self._running) >= most:
            return 0
        now, until = self._services.clock(), self._lease_end()
        hosts = await self._services.store.read(lambda session: files.hosts_to_fetch_from(session, now, until))
        if not hosts:
            return 0
        under_way = Counter(row.host for row in self._running.values())
        places = {host: FROM_ONE_HOST - under_way[host] for host in hosts if under_way[host] < FROM_ONE_HOST}
        claimed = await self._services.store.write(lambda tx: self._claim(tx, places, most))
        for row in claimed:
            self._start(row)
        return len(claimed)

    def _start(self, row: FileRow) -> None:
        task = asyncio.create_task(self._fetch(row))
        self._running[task] = row
        task.add_done_callback(self._ended)

    async def _has_time(self) -> bool:
        """Return whether the event loop has time for many downloads, or files have been put off for long enough."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(BUSY_SECONDS)
        if loop.time() - began < 2 * BUSY_SECONDS:
            return True
        before = self._services.clock() - MAX_PUT_OFF
        return await self._services.store.read(lambda session: files.is_overdue(session, before))

    def _claim(self, tx: Transaction, places: dict[str, int], most: int) -> list[FileRow]:
        """Claim files host by host, so that one with many does not keep the others waiting."""
        free, claimed = most - len(self._running), list[FileRow]()
        now, until = self._services.clock(), self._lease_end()
        for host, of_host in places.items():
            if free <= len(claimed):
                break
            claimed += files.claim_from(tx, host, now, until, min(of_host, free - len(claimed)))
        return claimed

    async def _fetch(self, row: FileRow) -> None:
        try:
            stored = await fetch(self._services, self._storage, row)
        except StoreUnavailable as error:  # its lease runs out
            log.warning("archive_waits", task=row.task_id, reason=str(error))
            return
        self.stored += stored
        self.failed += not stored

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("archive_failed", exc_info=error)

    async def _wait(self, seconds: float) -> None:
        """Wait for a download to end, for the service to stop, or for so many seconds."""
        self._changed.clear()
        waiting = [
            asyncio.ensure_future(self._changed.wait()),
            asyncio.ensure_future(self._services.stopping.wait()),
        ]
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            held, until = [(row.id, row.fetch_claim) for row in self._running.values()], self._lease_end()
            if not held:
                continue
            try:
                await self._services.store.write(lambda tx: files.renew(tx, held, until))  # noqa: B023 - awaited here
            except StoreUnavailable as error:
                log.warning("archive_waits", reason=str(error))

    async def _give_back(self) -> None:
        """Break off what is under way, and let others take it at once."""
        rows = list(self._running.values())
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if rows:
            self._services.background.start(self._services.store.write(lambda tx: _free(tx, rows)))

    def _lease_end(self) -> int:
        return self._services.clock() + round(LEASE_SECONDS * 1000)


def _free(tx: Transaction, rows: list[FileRow]) -> None:
    for row in rows:
        files.change(tx, row, fetch_leased_until=None)
