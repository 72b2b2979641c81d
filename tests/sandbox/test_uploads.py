"""Reference files, held against the documents of Rivya's Files API and of kie's service for files."""

import tempfile
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.sandbox.app import Sandbox
from receiver.sandbox.files import FileStore

from .conftest import Clock
from .rig import HEADERS, Buyer, Rig, unserved

pytestmark = pytest.mark.anyio

RIVYA = "/rivya/api/v1/files"
KIE = "/kie-files/api/file-stream-upload"
MEGABYTE = 1024 * 1024
PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 100
MP4 = b"\x00\x00\x00\x18ftypisom" + b"\x00" * 100

BEGINNINGS = {
    "image/jpeg": b"\xff\xd8\xff\xe0",
    "image/png": PNG[:8],
    "image/webp": b"RIFF\x00\x00\x00\x00WEBP",
    "video/mp4": MP4[:12],
    "video/quicktime": b"\x00\x00\x00\x14ftypqt  ",
    "video/webm": b"\x1a\x45\xdf\xa3",
    "audio/mpeg": b"ID3\x04",
    "audio/wav": b"RIFF\x00\x00\x00\x00WAVE",
    "audio/mp4": b"\x00\x00\x00\x18ftypM4A ",
    "audio/ogg": b"OggS",
    "audio/aac": b"\xff\xf1",
}


async def upload(shop: Buyer, content: bytes, name: str = "reference.png", **fields: str) -> httpx.Response:
    return await shop.client.post(RIVYA, files={"file": (name, content)}, data=fields, headers=HEADERS["rivya"])


async def upload_to_kie(shop: Buyer, content: bytes, name: str = "reference.png", **fields: str) -> httpx.Response:
    return await shop.client.post(KIE, files={"file": (name, content)}, data=fields, headers=HEADERS["kie"])


async def test_an_image_is_told_with_its_url_and_without_a_duration(shop: Buyer) -> None:
    body = (await upload(shop, PNG, kind="image", model="sora-2", client_request_id="r-1")).json()
    file_id = body["id"]
    assert file_id.startswith("file_")
    assert body == {
        "id": file_id,
        "url": f"http://sandbox.example/media/files/{file_id}/reference.png",
        "kind": "image",
        "name": "reference.png",
        "mime_type": "image/png",
        "size": len(PNG),
    }
    assert (await shop.client.get(f"{RIVYA}/{file_id}", headers=HEADERS["rivya"])).json() == body


@pytest.mark.parametrize("kind", ["video", "audio"])
async def test_what_has_a_duration_comes_with_a_token_for_it(shop: Buyer, kind: str) -> None:
    content = MP4 if kind == "video" else BEGINNINGS["audio/wav"]
    body = (await upload(shop, content, kind=kind)).json()
    assert body["kind"] == kind
    assert body["duration_token"]
    again = await shop.client.get(f"{RIVYA}/{body['id']}", headers=HEADERS["rivya"])
    assert again.json() == body


async def test_an_uploaded_file_can_be_fetched_and_used_in_an_order(rig: Rig) -> None:
    told = (await upload(rig, PNG, "a “cat” #1.png", kind="image", model="sora-2")).json()
    fetched = await rig.client.get(told["url"])
    assert (fetched.content, fetched.headers["content-type"]) == (PNG, "image/png")
    item = {"url": told["url"], "kind": told["kind"], "name": told["name"], "mimeType": told["mime_type"]}
    body = {"model": "sora-2", "prompt": "A cat", "params": {"referenceMediaItems": [item]}}
    answer = await rig.client.post("/rivya/api/v1/generations", json=body, headers=HEADERS["rivya"])
    assert answer.status_code == 200


@pytest.mark.parametrize("mime_type", BEGINNINGS)
async def test_a_file_is_what_its_first_bytes_say(shop: Buyer, mime_type: str) -> None:
    answer = await upload(shop, BEGINNINGS[mime_type] + b"\x00" * 20, "a.bin", kind=mime_type.partition("/")[0])
    assert answer.json()["mime_type"] == mime_type


@pytest.mark.parametrize(
    ("content", "fields", "complaint"),
    [
        (PNG, {}, "kind must be one of image, video, audio"),
        (PNG, {"kind": "document"}, "kind must be one of image, video, audio"),
        (PNG, {"kind": "video"}, "must be one of video/mp4, video/quicktime, video/webm"),
        (b"GIF89a", {"kind": "image"}, "must be one of image/jpeg, image/png, image/webp"),
        (b"\x00\x00\x00\x18ftypheic", {"kind": "image"}, "must be one of image/jpeg"),
        (b"", {"kind": "image"}, "must be one of image/jpeg"),
        (MP4, {"kind": "video", "model": "sora-2"}, "sora-2 takes image files only"),
        (PNG, {"kind": "image", "client_request_id": "x" * 129}, "128"),
        (PNG + b"\x00" * 10 * MEGABYTE, {"kind": "image"}, "must not exceed 10 MB"),
        (BEGINNINGS["audio/ogg"] + b"\x00" * 10 * MEGABYTE, {"kind": "audio"}, "must not exceed 10 MB"),
        (MP4 + b"\x00" * 50 * MEGABYTE, {"kind": "video"}, "must not exceed 50 MB"),
    ],
)
async def test_a_file_against_the_document_is_refused(
    rig: Rig, content: bytes, fields: dict[str, str], complaint: str
) -> None:
    answer = await upload(rig, content, **fields)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "validation_failed")
    assert complaint in answer.json()["error"]["message"]


@pytest.mark.parametrize(("kind", "beginning", "megabytes"), [("image", PNG, 10), ("video", MP4, 50)])
async def test_a_file_as_large_as_allowed_is_taken(rig: Rig, kind: str, beginning: bytes, megabytes: int) -> None:
    answer = await upload(rig, beginning.ljust(megabytes * MEGABYTE, b"\x00"), kind=kind)
    assert answer.json()["size"] == megabytes * MEGABYTE


async def test_a_request_that_is_no_upload_is_refused(shop: Buyer) -> None:
    for content in (b"{}", b""):
        answer = await shop.client.post(RIVYA, content=content, headers=HEADERS["rivya"])
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "validation_failed")


async def test_an_upload_is_never_whole_in_memory(rig: Rig) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n' + MP4
        for _ in range(400):
            yield b"\x00" * 64 * 1024
        yield b'\r\n--b\r\nContent-Disposition: form-data; name="kind"\r\n\r\nvideo\r\n--b--\r\n'

    headers = HEADERS["rivya"] | {"Content-Type": "multipart/form-data; boundary=b"}
    tracemalloc.start()
    try:
        answer = await rig.client.post(RIVYA, content=body(), headers=headers)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.json()["size"] == len(MP4) + 25 * MEGABYTE
    assert peak < 4 * MEGABYTE


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files are put."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def files_in(disk: Path) -> int:
    return sum(path.is_file() for path in disk.rglob("*"))


async def test_what_is_refused_and_what_was_uploaded_leaves_nothing_on_the_disk(disk: Path, clock: Clock) -> None:
    async with unserved(Sandbox(clock=clock)) as shop:
        await upload(shop, PNG, kind="image")
        await upload(shop, PNG, kind="video")
        assert files_in(disk) == 1
    assert files_in(disk) == 0


def test_what_is_too_large_is_counted_but_not_written(disk: Path) -> None:
    files = FileStore()
    with files.open_directory():
        with files.receiving(limit=10) as incoming:
            for _ in range(3):
                incoming.write(b"12345")
            files.keep(incoming, "kie", "a.bin")
        (path,) = disk.rglob(incoming.id)
        assert (incoming.size, path.stat().st_size) == (15, 10)


async def test_rivyas_files_are_for_those_with_a_key_and_one_has_to_know_their_id(shop: Buyer) -> None:
    kies = (await upload_to_kie(shop, PNG, uploadPath="images")).json()["data"]["downloadUrl"].split("/")[-2]
    assert (await shop.client.post(RIVYA, files={"file": PNG})).status_code == 401
    assert (await shop.client.get(f"{RIVYA}/{kies}")).status_code == 401
    for file_id in ("file_1", kies):
        answer = await shop.client.get(f"{RIVYA}/{file_id}", headers=HEADERS["rivya"])
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert (await shop.client.get("/media/files/file_1/a.png")).status_code == 404


async def test_kie_tells_of_an_upload_in_its_own_words(shop: Buyer) -> None:
    fields = {"uploadPath": "/images/user-uploads/", "fileName": "my-image.png"}
    body = (await upload_to_kie(shop, PNG, **fields)).json()
    url = body["data"].pop("downloadUrl")
    assert body == {
        "success": True,
        "code": 200,
        "msg": "File uploaded successfully",
        "data": {
            "fileName": "my-image.png",
            "filePath": "images/user-uploads/my-image.png",
            "fileSize": len(PNG),
            "mimeType": "image/png",
            "uploadedAt": "2025-09-11T09:49:24.490Z",
        },
    }
    assert (await shop.client.get(url)).content == PNG


async def test_kie_makes_up_a_name_and_takes_any_kind_of_file(shop: Buyer) -> None:
    data = (await upload_to_kie(shop, b"plain words", "notes.txt", uploadPath="notes")).json()["data"]
    assert (data["fileName"] != "notes.txt", data["fileName"].endswith(".txt")) == (True, True)
    assert data["mimeType"] == "text/plain"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"data": {}}, "uploadPath"),
        ({"data": {"uploadPath": "/"}}, "uploadPath"),
        ({"files": {"other": b"x"}}, "no name|file"),
        ({"files": {"file": b""}}, "file"),
    ],
)
async def test_kie_refuses_an_incomplete_upload(shop: Buyer, change: dict[str, Any], complaint: str) -> None:
    asked: dict[str, Any] = {"files": {"file": PNG}, "data": {"uploadPath": "images"}, "headers": HEADERS["kie"]}
    answer = await shop.client.post(KIE, **(asked | change))
    assert (answer.status_code, answer.json()["success"], answer.json()["code"]) == (400, False, 400)
    assert any(word in answer.json()["msg"] for word in complaint.split("|"))


async def test_kies_uploads_need_a_key(shop: Buyer) -> None:
    answer = await shop.client.post(KIE, files={"file": PNG}, data={"uploadPath": "images"})
    assert (answer.status_code, answer.json()["success"]) == (401, False)


async def test_a_page_that_somebody_uploaded_does_not_run(shop: Buyer) -> None:
    page = b"<script>alert(1)</script>"
    data = (await upload_to_kie(shop, page, "a.html", uploadPath="x", fileName="a/../b.html")).json()["data"]
    answer = await shop.client.get(data["downloadUrl"])
    assert answer.content == page
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]


async def test_the_oldest_files_make_room_for_new_ones(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, disk: Path
) -> None:
    monkeypatch.setattr("receiver.sandbox.files.MAX_TOTAL_BYTES", 2 * len(PNG))
    async with unserved(Sandbox(clock=clock)) as shop:
        urls = [(await upload(shop, PNG, kind="image")).json()["url"] for _ in range(3)]
        assert [(await shop.client.get(url)).status_code for url in urls] == [404, 200, 200]
        assert files_in(disk) == 2
