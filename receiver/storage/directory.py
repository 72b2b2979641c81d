"""Files in a directory of this machine: written aside, synced, then renamed, so that a kill leaves no half file.

All of it happens on threads. Unfinished files are in a directory of their own.
"""

import asyncio
import contextlib
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from receiver.storage.base import FileMissing, StorageError, StorageFull

T = TypeVar("T")

PARTS = ".unfinished"
READ_BYTES = 256 * 1024
LOOK_EVERY = 64 * 1024 * 1024
"""Bytes written between two looks at what is free."""


class Directory:
    """A directory, created when the first file comes."""

    at_once = 20

    def __init__(self, path: str, keep_free: int) -> None:
        """Prepare; `keep_free` bytes of the disk are left free."""
        self._path = Path(path)
        self._keep_free = keep_free

    async def begin(self, name: str, part: str, expected: int | None) -> "PartFile":
        """Begin a file. Raises `StorageFull` and `StorageError`."""

        def create() -> int:
            parts = self._path / PARTS
            if not parts.is_dir():
                parts.mkdir(mode=0o700, parents=True, exist_ok=True)
                for made in (parts, self._path):
                    _sync_directory(made.parent)
            self.require_free(expected or 0)
            return os.open(parts / part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)

        return PartFile(self, await self.on_thread(create), self._path / PARTS / part, self._path / name)

    async def read(self, name: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes of a file from `start` to before `end`. Raises `FileMissing` and `StorageError`."""
        file = await self.on_thread(lambda: os.open(self._path / name, os.O_RDONLY | os.O_CLOEXEC))
        try:
            while start < end:
                piece = await self.on_thread(partial(os.pread, file, min(READ_BYTES, end - start), start))
                if not piece:
                    raise StorageError(f"{self._path / name} is shorter than when it was stored")
                yield piece
                start += len(piece)
        finally:
            os.close(file)

    async def load(self, name: str, most: int) -> bytes:
        """Return a small file, at most so many bytes of it. Raises `FileMissing` and `StorageError`."""

        def read() -> bytes:
            with (self._path / name).open("rb") as file:
                return file.read(most)

        return await self.on_thread(read)

    def local_path(self, name: str) -> Path:
        """Return where a file is."""
        return self._path / name

    async def delete(self, name: str) -> None:
        """Remove a file, if it is there. Raises `StorageError`.

        Its directory stays, even if it is empty now: another file may be about to be renamed into it.
        """
        await self.on_thread(lambda: (self._path / name).unlink(missing_ok=True))

    async def drop_parts(self, prefix: str) -> None:
        """Remove the unfinished files whose names begin like this. Raises `StorageError`."""

        def remove() -> None:
            for name in self._parts():
                if name.startswith(prefix):
                    (self._path / PARTS / name).unlink(missing_ok=True)

        await self.on_thread(remove)

    def _parts(self) -> list[str]:
        try:
            return [file.name for file in (self._path / PARTS).iterdir()]
        except FileNotFoundError:
            return []

    def require_free(self, expected: int) -> None:
        """Raise `StorageFull` if so many bytes more would leave too little of the disk free."""
        free = shutil.disk_usage(self._path).free
        if free - expected < self._keep_free:
            raise StorageFull(
                f"the disk of {self._path} has {_megabytes(free)} free, and RECEIVER_ARCHIVE_KEEP_FREE keeps"
                f" {_megabytes(self._keep_free)}; make room on it, or lower that"
            )

    async def on_thread(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, with the errors of the system as ours."""
        try:
            return await asyncio.to_thread(work)
        except FileNotFoundError as error:
            raise FileMissing(f"there is no file {error.filename}") from error
        except OSError as error:
            raise StorageError(f"RECEIVER_ARCHIVE: {error.filename or self._path}: {error.strerror}") from error


class PartFile:
    """A file that is being written. One piece is written while the next arrives."""

    def __init__(self, directory: Directory, file: int, part: Path, target: Path) -> None:
        self._directory = directory
        self._file: int | None = file
        self._part = part
        self._target = target
        self._digest = hashlib.sha256()
        self._written = 0
        self._writing: asyncio.Task[None] | None = None

    async def write(self, piece: bytes) -> None:
        """Add a piece. Raises `StorageError`, also for the piece before."""
        await self._settle()
        self._writing = asyncio.create_task(self._directory.on_thread(lambda: self._put(piece)))

    async def finish(self) -> str:
        """Sync the file, rename it, sync its directory; returns its SHA-256. Raises `StorageError`."""
        await self._settle()
        await self._directory.on_thread(self._publish)
        return self._digest.hexdigest()

    async def drop(self) -> None:
        """Close and remove the file, unless it is finished."""
        for work in (self._settle(), self._directory.on_thread(self._remove)):
            with contextlib.suppress(StorageError):
                await work

    async def _settle(self) -> None:
        """Wait for the piece that is being written."""
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing

    def _put(self, piece: bytes) -> None:
        assert self._file is not None  # noqa: S101 - narrows for the type checker
        before, self._written = self._written, self._written + len(piece)
        if before // LOOK_EVERY != self._written // LOOK_EVERY:
            self._directory.require_free(0)
        self._digest.update(piece)
        view = memoryview(piece)
        while view:
            view = view[os.write(self._file, view) :]

    def _publish(self) -> None:
        file, self._file = self._file, None
        assert file is not None  # noqa: S101 - narrows for the type checker
        try:
            os.fsync(file)
        finally:
            os.close(file)
        folder = self._target.parent
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)
            _sync_directory(folder.parent)
        self._part.rename(self._target)
        _sync_directory(folder)

    def _remove(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)
        self._part.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _megabytes(size: int) -> str:
    return f"{size / 1024 / 1024:,.0f} MiB"
