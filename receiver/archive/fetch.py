"""Download one claimed file into the storage, and record what became of it.

`archiver` calls it. The name under which a file will be stored is committed before the file can be there, and that it
is stored is committed last: a kill at any moment leaves nothing that counts without being whole, and nothing that no
row knows of. Names differ from claim to claim, so that what an overtaken process deletes is never a stored file.
"""

import asyncio
from datetime import UTC, datetime
from urllib.parse import urlsplit

import structlog

from receiver.config.addresses import is_private
from receiver.core.errors import DownloadBroken, DownloadError, LinkRefused
from receiver.core.media_types import BEGINNING, UNKNOWN, is_error_page, sniff
from receiver.lifecycle import files as lifecycle
from receiver.lifecycle.files import StoredFile
from receiver.outbound.download import Resume
from receiver.services import Services
from receiver.storage import Storage, StorageError, Upload
from receiver.store import files
from receiver.store.files import FileRow

log = structlog.get_logger()

RESUME_PAUSE = 1.0
"""Seconds before a download that broke off goes on; each further pause without a byte in between is twice as long."""
MAX_IDLE_RESUMES = 4
"""Resumes that bring nothing, after which the download begins anew some time later."""
LOOKED_AT = 4096
"""Bytes that are looked at for an error page."""


class Overtaken(Exception):
    """Another process has claimed the file since."""


async def fetch(services: Services, storage: Storage, row: FileRow) -> bool:
    """Download a claimed file and store it; returns whether it is stored now. Raises `StoreUnavailable`."""
    job = _Fetch(services, storage, row)
    try:
        found = await job.run()
    except Overtaken:
        await job.delete_own()
    except StorageError as error:
        await job.storage_failed(error)
    except DownloadError as error:
        await job.download_failed(error)
    else:
        log.info("archived", task=row.task_id, output=row.position, bytes=found.size, media_type=found.media_type)
        return True
    return False


class _Fetch:
    """The download of one file."""

    def __init__(self, services: Services, storage: Storage, row: FileRow) -> None:
        self._services = services
        self._storage = storage
        self._row = row
        self._upload: Upload | None = None
        self._name: str | None = None
        self._media_type = UNKNOWN
        self._expected: int | None = None
        self._size = 0

    async def run(self) -> StoredFile:
        """Download the file, store it, and record that."""
        if self._row.fetch_claim > 1:
            await self._storage.drop_parts(f"{self._row.id}-")  # of earlier claims: what is left of them ends nowhere
        try:
            await self._download()
            if self._upload is None or self._name is None:
                raise DownloadBroken("the file is empty")
            digest = await self._upload.finish()
        finally:
            await self._drop()
        found = StoredFile(self._name, self._size, digest, self._media_type.name)
        context = self._services.context(self._row.provider)
        if not await self._services.store.write(lambda tx: lifecycle.file_stored(tx, self._row, found, context)):
            raise Overtaken
        return found

    async def _download(self) -> None:
        """Pass the whole file on to the storage, however often the connection breaks while that gets further."""
        resume, idle = None, 0
        while True:
            before, validator = self._size, None
            try:
                async with self._services.downloads.open(
                    self._row.url, may_be_private=self._may_be_private, resume=resume
                ) as download:
                    if download.offset == 0:
                        await self._restart()
                    validator, self._expected = download.validator, download.size
                    self._require_size(download.size or 0)
                    return await download.read(self._write)
            except DownloadBroken:
                validator = validator or (resume.validator if resume else None)
                idle = 0 if self._size > before else idle + 1
                if validator is None or self._size == 0 or idle > MAX_IDLE_RESUMES:
                    raise
            await asyncio.sleep(RESUME_PAUSE * 2**idle)
            resume = Resume(self._size, validator)

    async def _write(self, piece: bytes) -> None:
        if self._upload is None:
            self._upload = await self._begin(piece)
        self._size += len(piece)
        self._require_size(self._size)
        await self._upload.write(piece)

    async def _begin(self, beginning: bytes) -> Upload:
        """Find out what the file is, commit the name that it will have, and begin to store it."""
        row = self._row
        if is_error_page(beginning[:LOOKED_AT], row.kind):
            raise DownloadBroken("the file's server sent a page or a message instead of the file")
        self._media_type = sniff(beginning[:BEGINNING])
        day = datetime.fromtimestamp(row.created_at / 1000, UTC).strftime("%Y-%m-%d")
        again = "" if row.fetch_claim == 1 else f".{row.fetch_claim}"
        name = self._name = f"{day}/{row.task_id}-{row.position}{again}{self._media_type.ending}"
        if not await self._services.store.write(lambda tx: files.change(tx, row, stored=name)):
            raise Overtaken
        if row.stored is not None:
            await self._storage.delete(row.stored)
        return await self._storage.begin(name, f"{row.id}-{row.fetch_claim}", self._expected)

    async def _restart(self) -> None:
        await self._drop()
        self._size = 0

    async def _drop(self) -> None:
        upload, self._upload = self._upload, None
        if upload is not None:
            await upload.drop()

    def _require_size(self, size: int) -> None:
        most = self._services.settings.archive_max_bytes
        if size > most:
            raise LinkRefused(f"the file is larger than RECEIVER_ARCHIVE_MAX_BYTES, {most:,} bytes")

    @property
    def _may_be_private(self) -> bool:
        """Return whether the file may be in a private place: its provider's own address is then private, too."""
        config = self._services.settings.providers.get(self._row.provider)
        return config is not None and is_private(urlsplit(config.base_url).hostname or "")

    async def storage_failed(self, error: StorageError) -> None:
        """Record that our own storage failed."""
        problem, row = f"{error}.", self._row
        context = self._services.context(row.provider)
        await self._services.store.write(lambda tx: lifecycle.storage_failed(tx, row, problem, context))
        log.warning("archive_storage_failed", task=row.task_id, output=row.position, problem=str(error))

    async def download_failed(self, error: DownloadError) -> None:
        """Record that the download failed; ask the provider for a new link, or give the file up."""
        row = self._row
        context = self._services.context(row.provider)
        asks, given_up = await self._services.store.write(lambda tx: lifecycle.download_failed(tx, row, error, context))
        log.info("archive_download_failed", task=row.task_id, output=row.position, problem=str(error))
        if asks:
            self._services.due_now.notify(row.provider, row.task_id)
        if given_up:
            await self.delete_own()
            if row.stored is not None:
                await self._storage.delete(row.stored)

    async def delete_own(self) -> None:
        """Delete what this claim may have stored and nothing counts."""
        if self._name is not None:
            await self._storage.delete(self._name)
