"""The reader of uploads: every well-formed one however it is cut into chunks, and no other."""

from collections.abc import Iterator

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from receiver.sandbox.multipart import MAX_FIELD_BYTES, Form, read_form
from receiver.sandbox.orders import OrderError

pytestmark = pytest.mark.anyio

TYPE = 'multipart/form-data; boundary="b-1"'
# What looks nearly like the boundary.
CONTENT = b"\r\n--b-\r\n--b-2\r\n\r\n--\x00\xff\r\n--b" * 20


def part(name: str, content: bytes, more: str = "") -> bytes:
    return f'--b-1\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


def a_file(content: bytes = CONTENT) -> bytes:
    return part("file", content, '; filename="a “cat”.png"\r\nContent-Type: image/png')


def cut(raw: bytes, size: int = 1000) -> Iterator[bytes]:
    return (raw[at : at + size] for at in range(0, len(raw), size))


def request(chunks: Iterator[bytes], content_type: str = TYPE, *, lost: bool = False) -> Request:
    async def receive() -> Message:
        chunk = next(chunks, None)
        if chunk is None and lost:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    headers = [(b"content-type", content_type.encode())]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


async def read(raw: bytes, size: int = 1000) -> tuple[Form, bytes]:
    written = bytearray()
    form = await read_form(request(cut(raw, size)), written.extend)
    return form, bytes(written)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 100_000])
async def test_an_upload_is_the_same_however_it_is_cut(size: int) -> None:
    raw = part("kind", b"image") + a_file() + part("model", b"sora-2") + b"--b-1--\r\nepilogue"
    form, written = await read(raw, size)
    assert form == Form({"kind": "image", "model": "sora-2"}, "a “cat”.png")
    assert written == CONTENT


async def test_an_upload_may_be_empty() -> None:
    assert await read(b"--b-1--") == (Form(), b"")


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"", "cut off"),
        (a_file(), "cut off"),
        (a_file()[:-4], "cut off"),
        (a_file() + b"--b-1??", "cut off"),
        (b"preamble\r\n" + a_file() + b"--b-1--", "not well-formed"),
        (b"--b-1\r\nContent-Type: text/plain\r\n\r\nx\r\n--b-1--", "no name"),
        (part("kind", b"image") + part("kind", b"video") + b"--b-1--", "kind is given twice"),
        (a_file() + a_file() + b"--b-1--", "file is given twice"),
        (part("file", b"no file") + b"--b-1--", "must be a file"),
        (part("kind", b"x" * (MAX_FIELD_BYTES + 1)) + b"--b-1--", "too long"),
        (b"--b-1\r\n" + b"x" * 30_000 + b"--b-1--", "not well-formed"),
        (b"--b-1\r\n" + (b"X-Y: " + b"y" * 3000 + b"\r\n") * 3 + b"\r\n--b-1--", "too long"),
        (b"".join(part(f"field-{number}", b"") for number in range(20)) + b"--b-1--", "too many parts"),
    ],
)
async def test_what_is_not_well_formed_is_refused_and_read_to_its_end(raw: bytes, complaint: str) -> None:
    chunks = cut(raw)
    with pytest.raises(OrderError, match=complaint):
        await read_form(request(chunks), lambda _piece: None)
    assert next(chunks, None) is None


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "multipart/form-data", "multipart/form-data; boundary="]
)
async def test_what_is_no_upload_is_refused(content_type: str) -> None:
    with pytest.raises(OrderError, match="not multipart"):
        await read_form(request(cut(b"--b-1--"), content_type), lambda _piece: None)


async def test_a_client_that_goes_away_is_noticed() -> None:
    with pytest.raises(ClientDisconnect):
        await read_form(request(cut(a_file()), lost=True), lambda _piece: None)
