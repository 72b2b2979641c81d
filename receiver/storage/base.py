"""What every place for files can do. `archive` writes to it, `web` and `cli` read from it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from receiver.core.errors import ReceiverError


class StorageError(ReceiverError):
    """The storage cannot be written or read now; says why, and what to do."""


class StorageFull(StorageError):
    """The storage has no room for another file."""


class FileMissing(StorageError):
    """There is no file of this name."""


class Upload(Protocol):
    """One file on its way in. Nobody sees it before it is finished, and one that is dropped leaves nothing behind."""

    async def write(self, piece: bytes) -> None:
        """Add a piece. Raises `StorageError`, also for the piece before."""
        ...

    async def finish(self) -> str:
        """Publish the file, in place of any other of its name, durably; returns its SHA-256 in hexadecimal.

        Raises `StorageError`.
        """
        ...

    async def drop(self) -> None:
        """Throw the file away, unless it is finished."""
        ...


class Storage(Protocol):
    """A place for files."""

    at_once: int
    """How many uploads may be under way."""

    async def begin(self, name: str, part: str, expected: int | None) -> Upload:
        """Begin a file, for `expected` bytes if they are known. `part` is a name that no other upload has.

        Raises `StorageFull` and `StorageError`.
        """
        ...

    def read(self, name: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes of a file from `start` to before `end`. Raises `FileMissing` and `StorageError`."""
        ...

    async def load(self, name: str, most: int) -> bytes:
        """Return a small file, at most so many bytes of it. Raises `FileMissing` and `StorageError`."""
        ...

    def local_path(self, name: str) -> Path | None:
        """Return where a file is on this machine, if it is."""
        ...

    async def delete(self, name: str) -> None:
        """Remove a file, if it is there. Raises `StorageError`."""
        ...

    async def drop_parts(self, prefix: str) -> None:
        """Remove the unfinished uploads whose names begin like this. Raises `StorageError`."""
        ...
