"""Reads a multipart upload as a stream, with hardly more than one chunk of it in memory.

The parsing is python-multipart's; the bounds are ours. The content of the part `file` goes to the caller's `write`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from receiver.sandbox.orders import OrderError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_HEAD_BYTES = 8 * 1024
MAX_FIELD_BYTES = 4 * 1024
MAX_PARTS = 16


@dataclass(slots=True)
class Form:
    """The text fields of an upload, and the name of its file, None without one."""

    fields: dict[str, str] = field(default_factory=dict)
    file_name: str | None = None


async def read_form(request: Request, write: Callable[[bytes], object]) -> Form:
    """Return the fields of an upload, and pass the content of its part `file` to `write`, chunk by chunk.

    Raises `OrderError` if the upload is not well-formed or too large. It is read to its end all the same: a client that
    is still sending would not see the answer.
    """
    chunks = request.stream()
    try:
        receiver = _FormReceiver(write)
        parser = MultipartParser(_boundary(request), receiver.callbacks())
        async for chunk in chunks:
            parser.write(chunk)
    except FormParserError as error:
        raise OrderError("The upload is not well-formed") from error
    finally:
        async for _ in chunks:
            pass
    if not receiver.is_complete:
        raise OrderError("The upload is cut off")
    return receiver.form


class _FormReceiver:
    """Collects what the parser reports, within the bounds."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self.form = Form()
        self.is_complete = False
        self._write = write
        self._parts = 0

    def callbacks(self) -> "MultipartCallbacks":
        """Return the functions that the parser calls."""
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise OrderError("The upload has too many parts")
        self._head_bytes = 0
        self._header_name, self._header_content, self._disposition = b"", b"", b""
        self._text: bytearray | None = None

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._count_head(end - start)
        self._header_name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_head(end - start)
        self._header_content += data[start:end]

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            raise OrderError("The head of a part is too long")

    def _header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_content
        self._header_name, self._header_content = b"", b""

    def _headers_finished(self) -> None:
        kind, parameters = parse_options_header(self._disposition)
        if kind != b"form-data" or b"name" not in parameters:
            raise OrderError("A part of the upload has no name")
        self._name = parameters[b"name"].decode(errors="replace")
        if self._name in self.form.fields or (self._name == "file" and self.form.file_name is not None):
            raise OrderError(f"{self._name} is given twice")
        if self._name != "file":
            self._text = bytearray()
        elif b"filename" not in parameters:
            raise OrderError("file must be a file")
        else:
            self.form.file_name = parameters[b"filename"].decode(errors="replace")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._text is None:
            self._write(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > MAX_FIELD_BYTES:
            raise OrderError("A field of the upload is too long")

    def _part_end(self) -> None:
        if self._text is not None:
            self.form.fields[self._name] = self._text.decode(errors="replace")

    def _end(self) -> None:
        self.is_complete = True


def _boundary(request: Request) -> bytes:
    kind, parameters = parse_options_header(request.headers.get("content-type", ""))
    boundary = parameters.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise OrderError("The request body is not multipart/form-data")
    return boundary
