"""The files that were uploaded to the sandbox: on the disk while it runs, and gone with it.

The uploads put them here, whoever has their URL can fetch them. They are untrusted: they are served as what their first
bytes show them to be, and never so that a browser would run them.
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
# The oldest files make room for new ones.
MOST_BYTES = 512 * MEGABYTE
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
    """One file, and to which provider it was uploaded; `mime_type` is what its first bytes say, None if nothing."""

    id: str
    provider: str
    name: str
    size: int
    mime_type: str | None
    duration_token: str


class Incoming:
    """A file that is being received: written up to `limit` bytes, only counted beyond."""

    def __init__(self, file_id: str, file: BinaryIO, limit: int) -> None:
        """Take where to write."""
        self.id = file_id
        self.limit = limit
        self.size = 0
        self.head = b""
        self._file = file

    def write(self, piece: bytes) -> None:
        """Take the next piece."""
        self.size += len(piece)
        self.head = (self.head + piece[:HEAD_BYTES])[:HEAD_BYTES]
        if self.size <= self.limit:
            self._file.write(piece)


class Shelf:
    """All uploaded files, by their id."""

    def __init__(self) -> None:
        """Begin empty."""
        self.files: dict[str, Stored] = {}
        self._folder: Path | None = None

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Have a place on the disk while the context lasts."""
        with TemporaryDirectory(prefix="sandbox-") as folder:
            self._folder = Path(folder)
            try:
                yield
            finally:
                self._folder = None
                self.files.clear()

    @contextmanager
    def receiving(self, limit: int) -> Iterator[Incoming]:
        """A file to write to, which is gone after the context unless it was kept."""
        file_id = f"file_{secrets.token_hex(12)}"
        path = self._path(file_id)
        try:
            with path.open("wb") as file:
                yield Incoming(file_id, file, limit)
        finally:
            if file_id not in self.files:
                path.unlink(missing_ok=True)

    def keep(self, incoming: Incoming, provider: str, name: str) -> Stored:
        """Put a received file on the shelf."""
        stored = Stored(
            id=incoming.id,
            provider=provider,
            name=name,
            size=incoming.size,
            mime_type=mime_type(incoming.head),
            duration_token=f"dur_{secrets.token_hex(16)}",
        )
        while self.files and sum(kept.size for kept in self.files.values()) + stored.size > MOST_BYTES:
            oldest = next(iter(self.files))
            del self.files[oldest]
            self._path(oldest).unlink(missing_ok=True)
        self.files[stored.id] = stored
        return stored

    async def show(self, request: Request) -> Response:
        """Serve a file to whoever has its URL."""
        stored = self.files.get(request.path_params["id"])
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
    """What a file is, by its first bytes; only what the documents name is known."""
    if head[:4] == b"RIFF":
        return RIFF_KINDS.get(head[8:12])
    if head[4:8] == b"ftyp":
        return FTYP_BRANDS.get(head[8:12], "video/mp4")
    return next((told for beginning, told in BEGINNINGS.items() if head.startswith(beginning)), None)
