"""Files in an object store (S3 and what speaks its protocol, Google Cloud Storage, Azure), through `obstore`.

Credentials are the usual variables of each cloud. A file is there when its upload is completed, and not before; what a
kill leaves of a large one is an incomplete upload, which the bucket's own lifecycle rule removes.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from receiver.core.errors import ConfigError
from receiver.storage.base import FileMissing, StorageError

if TYPE_CHECKING:
    from obstore import AsyncWritableFile

T = TypeVar("T")

PART_BYTES = 5 * 1024 * 1024
"""Bytes of one part of a large upload: the smallest that S3 takes. Each upload holds up to two of them in memory."""
READ_BYTES = 1024 * 1024
SECONDS = 60
"""Seconds for one request to the store."""


class ObjectStore:
    """A bucket, or a part of one."""

    at_once = 4

    def __init__(self, url: str) -> None:
        """Open it. Raises `ConfigError` for a URL or credentials that cannot be used at all."""
        parts = urlsplit(url)
        self._shown = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
        try:
            self._store: Any = from_url(
                url,
                client_options={"allow_http": True, "timeout": f"{SECONDS}s"},
                retry_config={"max_retries": 3},
            )
        except (BaseError, ValueError) as error:
            raise ConfigError(f"RECEIVER_ARCHIVE: {self._shown} cannot be used: {_in_a_line(error)}") from error

    async def begin(self, name: str, part: str, expected: int | None) -> "ObjectUpload":  # noqa: ARG002 - see `Storage`
        """Begin a file; nothing is sent before its first part is full."""
        writer = obstore.open_writer_async(self._store, name, buffer_size=PART_BYTES, max_concurrency=1)
        return ObjectUpload(self, writer)

    async def read(self, name: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes of a file from `start` to before `end`. Raises `FileMissing` and `StorageError`."""
        while start < end:
            upto = min(start + READ_BYTES, end)
            piece = bytes(await self.run(obstore.get_range_async(self._store, name, start=start, end=upto)))
            if len(piece) != upto - start:
                raise StorageError(f"{name} in {self._shown} is shorter than when it was stored")
            yield piece
            start = upto

    async def load(self, name: str, most: int) -> bytes:
        """Return a small file, at most so many bytes of it. Raises `FileMissing` and `StorageError`."""
        found = await self.run(obstore.get_async(self._store, name, options={"range": (0, most)}))
        return bytes(await self.run(found.bytes_async()))

    def local_path(self, name: str) -> None:
        """Return nothing: it is not on this machine."""

    async def delete(self, name: str) -> None:
        """Remove a file, if it is there. Raises `StorageError`."""
        with contextlib.suppress(FileMissing):
            await self.run(obstore.delete_async(self._store, name))

    async def drop_parts(self, prefix: str) -> None:
        """Do nothing: the store keeps unfinished uploads to itself."""

    async def run(self, request: Awaitable[T]) -> T:
        """Return what a request returns, with the store's errors as ours."""
        try:
            return await request
        except FileNotFoundError as error:
            raise FileMissing(f"there is no such file in {self._shown}") from error
        except (BaseError, ValueError, OSError) as error:
            raise StorageError(f"RECEIVER_ARCHIVE: {self._shown}: {_in_a_line(error)}") from error


class ObjectUpload:
    """A file that is being sent to the store."""

    def __init__(self, store: ObjectStore, writer: "AsyncWritableFile") -> None:
        self._store = store
        self._writer = writer
        self._digest = hashlib.sha256()

    async def write(self, piece: bytes) -> None:
        """Add a piece. Raises `StorageError`."""
        await asyncio.to_thread(self._digest.update, piece)
        await self._store.run(self._writer.write(piece))

    async def finish(self) -> str:
        """Complete the upload; returns the file's SHA-256. Raises `StorageError`."""
        await self._store.run(self._writer.close())
        return self._digest.hexdigest()

    async def drop(self) -> None:
        """Never complete the upload: then there is no file."""


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
