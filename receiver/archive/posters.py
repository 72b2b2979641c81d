"""Posters: small pictures of archived images and videos, made when somebody first looks, and kept in the archive.

The pages show them. Each is made by a process of its own (`poster_process`), one at a time.
"""

import asyncio
import sys
import tempfile
from collections import OrderedDict

import structlog

from receiver.storage import FileMissing, Storage, StorageError

log = structlog.get_logger()

MAKING_SECONDS = 30.0
MAX_POSTER = 1024 * 1024
"""Bytes of a poster; real ones have a tenth of that."""
MAX_FILE = 512 * 1024 * 1024
"""Bytes of a file of which a poster is made."""
REMEMBERED = 1000
"""Files without a poster that are remembered, so that nobody tries again at each look."""


class Posters:
    """Makes and reads posters for one process."""

    def __init__(self, storage: Storage) -> None:
        """Begin with nothing remembered."""
        self._storage = storage
        self._one_at_a_time = asyncio.Lock()
        self._without: OrderedDict[str, None] = OrderedDict()

    async def get(self, name: str, size: int, kind: str) -> bytes | None:
        """Return the poster of an archived file, WebP; None if there is none. Raises `StorageError`.

        `kind` is `image` or `video`.
        """
        if name in self._without or size > MAX_FILE:
            return None
        poster = await self._read(name)
        if poster is not None:
            return poster
        async with self._one_at_a_time:
            poster = await self._read(name) or await self._make(name, size, kind)
        if poster is None:
            self._without[name] = None
            if len(self._without) > REMEMBERED:
                self._without.popitem(last=False)
        return poster

    async def _read(self, name: str) -> bytes | None:
        try:
            return await self._storage.load(poster_name(name), MAX_POSTER)
        except FileMissing:
            return None

    async def _make(self, name: str, size: int, kind: str) -> bytes | None:
        """Make a poster and keep it; what cannot be kept is shown all the same."""
        path = self._storage.local_path(name)
        with tempfile.TemporaryFile() if path is None else path.open("rb") as file:
            if path is None:
                async for piece in self._storage.read(name, 0, size):
                    await asyncio.to_thread(file.write, piece)
                file.seek(0)
            poster = await _run(file.fileno(), kind)
        if poster is None:
            return None
        try:
            upload = await self._storage.begin(poster_name(name), f"poster-{name.replace('/', '_')}", len(poster))
            await upload.write(poster)
            await upload.finish()
        except StorageError as error:
            log.warning("poster_not_kept", file=name, reason=str(error))
        return poster


def poster_name(name: str) -> str:
    """Return the name of the poster of an archived file."""
    return f"{name}.poster.webp"


async def _run(file: int, kind: str) -> bytes | None:
    """Return what the process that makes posters writes; None if it fails or takes too long."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "receiver.archive.poster_process",
        kind,
        stdin=file,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(MAKING_SECONDS):
            written, problem = await process.communicate()
    except TimeoutError:
        log.info("no_poster", reason=f"it took more than {MAKING_SECONDS:g} s")
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0 or not 0 < len(written) <= MAX_POSTER:
        log.info("no_poster", reason=problem.decode("utf-8", "replace")[:300] or f"exit code {process.returncode}")
        return None
    return written
