"""Reads a multipart upload as it comes, with hardly more than one chunk of it in memory.

The uploads use it. It knows nothing of files: what one part holds is written to whoever the caller names.
"""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from starlette.requests import Request

from receiver.sandbox.orders import OrderError

LONGEST_HEAD = 8 * 1024
LONGEST_FIELD = 4 * 1024
MOST_PARTS = 16

BOUNDARY = re.compile(r'multipart/form-data\s*;(?:.*;)?\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
DISPOSITION = re.compile(r"^content-disposition\s*:\s*form-data\s*;(.*)$", re.IGNORECASE | re.MULTILINE)
PARAMETER = re.compile(r'(?:^|;)\s*(name|filename)="([^"]*)"', re.IGNORECASE)


@dataclass(slots=True)
class Form:
    """The text fields of an upload, and the name of its file, None while there is none."""

    fields: dict[str, str] = field(default_factory=dict)
    file_name: str | None = None


async def read_form(request: Request, write: Callable[[bytes], object]) -> Form:
    """Read an upload whose part `file` goes to `write`, piece by piece.

    Raises OrderError when it is not well-formed, and reads it to its end all the same: a client that is still sending
    would not see the answer.
    """
    chunks = request.stream()
    try:
        return await _read_parts(_Cursor(chunks), _boundary(request), write)
    finally:
        async for _ in chunks:
            pass


async def _read_parts(cursor: "_Cursor", boundary: bytes, write: Callable[[bytes], object]) -> Form:
    form = Form()
    mark = b"\r\n--" + boundary
    await cursor.skip_to(mark)
    for _ in range(MOST_PARTS):
        if await cursor.line() == b"--":
            return form
        name, file_name = _disposition(await cursor.text_to(b"\r\n\r\n", LONGEST_HEAD))
        if name in form.fields or (name == "file" and form.file_name is not None):
            raise OrderError(f"{name} is given twice")
        if name == "file":
            if file_name is None:
                raise OrderError("file must be a file")
            form.file_name = file_name
            await cursor.copy_to(mark, write)
        else:
            form.fields[name] = await cursor.text_to(mark, LONGEST_FIELD)
    raise OrderError("The upload has too many parts")


class _Cursor:
    """A place in a stream of bytes, which is moved from mark to mark."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        # The first boundary has no line before it, the others have.
        self._ahead = b"\r\n"

    async def copy_to(self, mark: bytes, write: Callable[[bytes], object]) -> None:
        """Write everything before the next mark, and go behind the mark."""
        while (found := self._ahead.find(mark)) < 0:
            # What is at the end may be the beginning of the mark.
            safe = max(len(self._ahead) - len(mark) + 1, 0)
            write(self._ahead[:safe])
            self._ahead = self._ahead[safe:] + await self._more()
        write(self._ahead[:found])
        self._ahead = self._ahead[found + len(mark) :]

    async def skip_to(self, mark: bytes) -> None:
        """Go behind the next mark."""
        await self.copy_to(mark, lambda _piece: None)

    async def text_to(self, mark: bytes, longest: int) -> str:
        """The text before the next mark, at most so many bytes of it."""
        kept = bytearray()

        def keep(piece: bytes) -> None:
            kept.extend(piece)
            if len(kept) > longest:
                raise OrderError("A field of the upload is too long")

        await self.copy_to(mark, keep)
        return kept.decode(errors="replace")

    async def line(self) -> bytes:
        """What follows a boundary: b"--" behind the last one, else an empty line."""
        while len(self._ahead) < 2:
            self._ahead += await self._more()
        follows, self._ahead = self._ahead[:2], self._ahead[2:]
        if follows not in {b"--", b"\r\n"}:
            raise OrderError("The upload is not well-formed")
        return follows.strip()

    async def _more(self) -> bytes:
        # The stream ends with an empty chunk.
        if chunk := await anext(self._chunks, b""):
            return chunk
        raise OrderError("The upload is cut off")


def _boundary(request: Request) -> bytes:
    found = BOUNDARY.match(request.headers.get("content-type", ""))
    if found is None:
        raise OrderError("The request body is not multipart/form-data")
    return (found[1] or found[2]).encode("latin-1")


def _disposition(head: str) -> tuple[str, str | None]:
    """The name of a part's field, and of its file if it is one."""
    found = DISPOSITION.search(head)
    parameters = {} if found is None else {name.lower(): value for name, value in PARAMETER.findall(found[1])}
    if "name" not in parameters:
        raise OrderError("A part of the upload has no name")
    return parameters["name"], parameters.get("filename")
