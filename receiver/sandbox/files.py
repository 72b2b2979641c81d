"""The files that were uploaded to the sandbox: on disk while it runs, and deleted afterwards.

`uploads` stores them; anyone with their URL can fetch them. They are untrusted: they are served as the type that their
first bytes show, and never so that a browser would execute them.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import FileResponse, Response

MEGABYTE = 1024 * 1024
# The oldest files are deleted to make room.
MAX_TOTAL_BYTES = 512 * MEGABYTE
HEAD_BYTES = 16
HARMLESS = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"}

BEGINNINGS = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\x1a\x45\xdf\xa3": "video/webm",
    b"OggS": "audio/ogg",
    b"ID3": "audio/mpeg",
    b"\xff\xfb": "audio/mpeg",
    b"\xff\xf3": "audio/mpeg",
    b"\xff\xf1": "audio/aac",
    b"\xff\xf9": "audio/aac",
}
RIFF_KINDS = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
FTYP_BRANDS = {b"qt  ": "video/quicktime", b"M4A ": "audio/mp4", b"heic": None, b"mif1": None, b"avif": None}


@dataclass(frozen=True, slots=True)
class Stored:
    """One file, and the provider to which it was uploaded; `mime_type` is by its first bytes, None if unknown."""

    id: str
    provider: str
    name: str
    size: int
    mime_type: str | None
    duration_token: str


class IncomingFile:
    """A file that is being received: written up to `limit` bytes, only counted beyond."""

    def __init__(self, file_id: str, file: BinaryIO, limit: int) -> None:
        """Prepare to write to this file."""
        self.id = file_id
        self.limit = limit
        self.size = 0
        self.head = b""
        self._file = file

    def write(self, piece: bytes) -> None:
        """Write the next chunk."""
        self.size += len(piece)
        self.head = (self.head + piece[:HEAD_BYTES])[:HEAD_BYTES]
        if self.size <= self.limit:
            self._file.write(piece)


class FileStore:
    """All uploaded files, by their id."""

    def __init__(self) -> None:
        """Start empty."""
        self.by_id: dict[str, Stored] = {}
        self._folder: Path | None = None

    @contextmanager
    def open_directory(self) -> Iterator[None]:
        """Have a directory while the context lasts."""
        with TemporaryDirectory(prefix="sandbox-") as folder:
            self._folder = Path(folder)
            try:
                yield
            finally:
                self._folder = None
                self.by_id.clear()

    @contextmanager
    def receiving(self, limit: int) -> Iterator[IncomingFile]:
        """Yield a file to write to, which is deleted after the context unless `keep` was called."""
        file_id = f"file_{secrets.token_hex(12)}"
        path = self._path(file_id)
        try:
            with path.open("wb") as file:
                yield IncomingFile(file_id, file, limit)
        finally:
            if file_id not in self.by_id:
                path.unlink(missing_ok=True)

    def keep(self, incoming: IncomingFile, provider: str, name: str) -> Stored:
        """Store a received file."""
        stored = Stored(
            id=incoming.id,
            provider=provider,
            name=name,
            size=incoming.size,
            mime_type=mime_type(incoming.head),
            duration_token=f"dur_{secrets.token_hex(16)}",
        )
        while self.by_id and sum(kept.size for kept in self.by_id.values()) + stored.size > MAX_TOTAL_BYTES:
            oldest = next(iter(self.by_id))
            del self.by_id[oldest]
            self._path(oldest).unlink(missing_ok=True)
        self.by_id[stored.id] = stored
        return stored

    async def show(self, request: Request) -> Response:
        """Serve a file to anyone who has its URL."""
        stored = self.by_id.get(request.path_params["id"])
        if stored is None:
            return Response("Not found", 404, media_type="text/plain")
        return FileResponse(
            self._path(stored.id), media_type=stored.mime_type or "application/octet-stream", headers=HARMLESS
        )

    def _path(self, file_id: str) -> Path:
        if self._folder is None:
            raise RuntimeError("The sandbox is not running: enter Sandbox.running() before it takes files")
        return self._folder / file_id


def mime_type(head: bytes) -> str | None:
    """Return a file's type by its first bytes; only the documented types are known."""
    if head[:4] == b"RIFF":
        return RIFF_KINDS.get(head[8:12])
    if head[4:8] == b"ftyp":
        return FTYP_BRANDS.get(head[8:12], "video/mp4")
    return next((told for beginning, told in BEGINNINGS.items() if head.startswith(beginning)), None)
