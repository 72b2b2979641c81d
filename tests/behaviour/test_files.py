"""Interface, section 3, `POST /api/files`: a reference file is checked, streamed to its provider, and answered with
what an order's `input` needs."""

import asyncio
import contextlib
import io
import json
import re
from collections.abc import AsyncIterator
from email import message_from_bytes
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from receiver.accounts import NewFile
from receiver.cli.commands import cli
from receiver.cli.service import upload as upload_command
from receiver.core.errors import Unreadable
from receiver.providers.base import Upload, Uploaded
from receiver.providers.kie import Kie, KieConfig
from tests.behaviour.families import RIVYA
from tests.behaviour.provider import Received, cuts, says
from tests.behaviour.service import DEAD_PORT, Service, Stage

pytestmark = pytest.mark.anyio

MEGABYTE = 1024 * 1024
PNG = b"\x89PNG\r\n\x1a\n\r\n--not the boundary\r\n" + bytes(range(256))
URL = "https://files.example.com/boat.png"
FIELDS = {"provider": "rivya", "model": "sora-2", "kind": "image"}
KEPT = {"id": "file_7", "url": URL, "kind": "image", "mime_type": "image/png"}


async def send(
    service: Service, content: bytes = PNG, mime_type: str | None = "image/png", name: str = "boat.png", **fields: str
) -> httpx.Response:
    file = (name, content) if mime_type is None else (name, content, mime_type)
    return await service.client.post("/api/files", data=FIELDS | fields, files={"file": file})


def parts(content_type: str, body: bytes) -> dict[str, Any]:
    """The parts of a form by name, each with its file name, type and bytes; read by the standard library."""
    message = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    found: dict[str, Any] = {}
    for part in message.get_payload():
        assert not isinstance(part, str)
        name = str(part.get_param("name", header="Content-Disposition"))
        found[name] = (part.get_filename(), part.get_content_type(), part.get_payload(decode=True))
    return found


def form_of(request: Received) -> dict[str, Any]:
    assert int(request.headers["content-length"]) == len(request.body)
    return parts(request.headers["content-type"], request.body)


def faults(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {".".join(map(str, fault["loc"])): fault["msg"] for fault in answer.json()["errors"]}


@pytest.mark.parametrize("size", [len(PNG), 100_000, 3 * MEGABYTE])
async def test_rivya_receives_the_file_as_it_is(service: Service, size: int) -> None:
    service.provider.on_check(RIVYA, says(KEPT))
    content = (PNG * (size // len(PNG) + 1))[:size]
    answer = await send(service, content)
    assert answer.status_code == 200, answer.text
    item = {"url": URL, "kind": "image", "name": "boat.png", "mimeType": "image/png"}
    told = {"provider": "rivya", "id": "file_7", "url": URL, "input": {"referenceMediaItems": [item]}}
    assert answer.json() == told
    (request,) = service.provider.asked()
    assert (request.method, request.path) == ("POST", "/api/v1/files")
    assert request.headers["authorization"] == "Bearer the-key-of-rivya"
    form = form_of(request)
    assert content in request.body
    assert form["file"][:2] == ("boat.png", "image/png")
    assert (form["kind"][2], form["model"][2]) == (b"image", b"sora-2")
    assert 0 < len(form["client_request_id"][2]) <= 128
    assert set(form) == {"file", "kind", "model", "client_request_id"}


@pytest.mark.parametrize(
    "told", [{"url": URL}, {"file_url": URL}, {"data": {"url": URL, "id": 3}}, {"code": 200, "data": {"url": URL}}]
)
async def test_rivyas_answer_is_read_generously(service: Service, told: dict[str, Any]) -> None:
    service.provider.on_check(RIVYA, says(told, 201))
    assert (await send(service)).json()["url"] == URL


async def test_the_duration_token_goes_into_the_order_under_its_other_name(service: Service) -> None:
    service.provider.on_check(RIVYA, says({"id": "file_8", "url": URL, "duration_token": "dt.abc"}))
    answer = await send(service, b"film", "video/mp4; codecs=avc1", "boat.mp4", kind="video")
    (item,) = answer.json()["input"]["referenceMediaItems"]
    assert item == {
        "url": URL,
        "kind": "video",
        "name": "boat.mp4",
        "mimeType": "video/mp4",
        "durationToken": "dt.abc",
    }
    order = RIVYA.order() | {"input": {"prompt": "a boat"} | answer.json()["input"]}
    await service.order(order)
    assert service.provider.bought()[0].json["params"]["referenceMediaItems"] == [item]


async def test_a_path_is_not_a_name_and_a_type_that_is_not_sent_is_that_of_the_name(service: Service) -> None:
    service.provider.on_check(RIVYA, says({"url": URL}))
    answer = await send(service, mime_type="application/octet-stream", name="C:\\holiday\\a boat.png")
    (item,) = answer.json()["input"]["referenceMediaItems"]
    assert (item["name"], item["mimeType"]) == ("a boat.png", "image/png")


@pytest.mark.parametrize(
    ("given", "place", "words"),
    [
        ({"provider": "nobody"}, "provider", "is not configured"),
        ({"provider": "apixo"}, "provider", "documents no uploads"),
        ({"kind": "book"}, "kind", "must be one of: image, video, audio"),
        ({"mime_type": "image/gif"}, "file", "image/jpeg, image/png, image/webp"),
        ({"mime_type": "video/mp4"}, "file", 'has the type "video/mp4"'),
        ({"content": b""}, "file", "is empty"),
        ({"model": ""}, "model", "at least 1 character"),
        ({"colour": "red"}, "colour", "is not a known field"),
    ],
)
async def test_what_would_be_refused_is_not_sent(
    service: Service, given: dict[str, Any], place: str, words: str
) -> None:
    found = faults(await send(service, **given))
    assert list(found) == [place]
    assert words in found[place]
    assert service.provider.received == []


async def test_missing_fields_are_named(service: Service) -> None:
    answer = await service.client.post("/api/files", data={}, files={"another": ("boat.png", PNG, "image/png")})
    assert set(faults(answer)) == {"provider", "model", "kind", "file", "another"}
    assert service.provider.received == []


async def test_a_file_that_is_too_large_for_its_kind_is_413(service: Service) -> None:
    service.provider.on_check(RIVYA, says(KEPT))
    assert (await send(service, bytes(10 * MEGABYTE + 1))).status_code == 413
    assert service.provider.received == []
    assert (await send(service, bytes(10 * MEGABYTE))).status_code == 200


async def test_the_whole_body_is_bounded_declared_or_not(service: Service) -> None:
    pieces = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal pieces
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
        while True:
            pieces += 1
            yield bytes(MEGABYTE)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = await service.client.post("/api/files", content=endless(), headers=headers)
    assert (answer.status_code, pieces) == (413, 51)
    declared = await service.client.post("/api/files", content=b"", headers=headers | {"Content-Length": "60000000"})
    assert declared.status_code == 413
    assert service.provider.received == []


async def test_only_forms_with_one_file_and_a_token_are_taken(service: Service) -> None:
    assert (await service.post("/api/files", FIELDS)).status_code == 415
    two = [("file", ("a.png", PNG, "image/png")), ("file", ("b.png", PNG, "image/png"))]
    assert (await service.client.post("/api/files", data=FIELDS, files=two)).status_code == 400
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    assert (await service.client.post("/api/files", content=b"nothing", headers=broken)).status_code == 400
    assert (await service.stranger.post("/api/files", data=FIELDS, files=two)).status_code == 401
    assert service.provider.received == []


async def test_the_providers_refusal_is_told_in_its_words(service: Service) -> None:
    refusal = {"error": {"code": "api_scope_denied", "message": "This key may not create files"}}
    service.provider.on_check(RIVYA, says(refusal, 403))
    answer = await send(service)
    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    assert "This key may not create files" in answer.json()["detail"]
    assert "try again" not in answer.json()["detail"]


@pytest.mark.parametrize("script", [cuts(KEPT), says({}, 500), says({"id": "file_7"}), says({"error": "slow"}, 429)])
async def test_an_answer_that_tells_nothing_may_be_tried_again(service: Service, script: Any) -> None:
    service.provider.on_check(RIVYA, script)
    answer = await send(service)
    assert answer.status_code == 409
    assert "try again" in answer.json()["detail"]
    assert len(service.provider.received) == 1


async def test_a_provider_out_of_reach_is_told_likewise(stage: Stage) -> None:
    async with stage.serve(RIVYA_BASE_URL=DEAD_PORT) as service:
        answer = await send(service)
    assert answer.status_code == 409
    assert "try again" in answer.json()["detail"]


# --- kie, at the flow: its host for files is another


def kie_upload(kind: str, told: Any) -> tuple[httpx.Request, bytes, Uploaded]:
    kie = Kie("kie", KieConfig(api_key=SecretStr("the-key"), webhook_secret=None))
    file = Upload("file_1", kind, "veo3_fast", "boat.png", "image/png", len(PNG), io.BytesIO(PNG))
    flow = kie.upload(file)
    request = next(flow)
    body = request.read()
    with pytest.raises(StopIteration) as done:
        flow.send(httpx.Response(200, content=json.dumps(told).encode(), request=request))
    return request, body, done.value.value


@pytest.mark.parametrize(("kind", "name"), [("image", "image_urls"), ("video", "video_urls"), ("audio", "audio_urls")])
@pytest.mark.parametrize("field", ["downloadUrl", "fileUrl"])
def test_kie_takes_files_at_another_host(kind: str, name: str, field: str) -> None:
    told = {"success": True, "code": 200, "msg": "File uploaded successfully", "data": {field: URL}}
    request, body, made = kie_upload(kind, told)
    assert str(request.url) == "https://kieai.redpandaai.co/api/file-stream-upload"
    form = parts(request.headers["content-type"], body)
    assert form["uploadPath"][2] == b"receiver"
    assert form["fileName"][2] == b"file_1-boat.png"
    assert form["file"][:2] == ("boat.png", "image/png")
    assert PNG in body
    assert made == Uploaded(URL, {name: [URL]})


def test_kies_refusal_in_a_200_is_no_file() -> None:
    with pytest.raises(Unreadable, match="disk is full"):
        kie_upload("image", {"success": False, "code": 500, "msg": "disk is full"})


# --- memory: neither way holds a file


class Swallowing:
    """A provider that keeps nothing of a file but its size, and watches this process' memory meanwhile."""

    def __init__(self) -> None:
        self.size = 0
        self.peak = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        left = int(re.findall(rb"content-length: (\d+)", head)[0])
        while left:
            piece = await reader.read(min(left, 65536))
            left -= len(piece)
            self.size += len(piece)
            self.peak = max(self.peak, resident())
        body = json.dumps({"url": URL}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        async with await asyncio.start_server(self.connected, "127.0.0.1", 0) as server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def resident() -> int:
    """The bytes of memory that this process has."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
async def test_a_large_file_is_never_in_memory_as_a_whole(stage: Stage, tmp_path: Path) -> None:
    film, provider = tmp_path / "film.mp4", Swallowing()
    with film.open("wb") as file:
        for _ in range(40):
            file.write(bytes(MEGABYTE))
    async with provider.serving() as url, stage.serve(RIVYA_BASE_URL=url) as service:
        assert (await send(service)).status_code == 200  # warm
        before = resident()
        provider.peak = provider.size = 0
        with film.open("rb") as content:
            files = {"file": ("film.mp4", content, "video/mp4")}
            answer = await service.client.post("/api/files", data=FIELDS | {"kind": "video"}, files=files)
        assert answer.status_code == 200, answer.text
        assert provider.size > 40 * MEGABYTE
        assert max(provider.peak, resident()) - before < 15 * MEGABYTE


# --- the command


def test_the_command_prints_the_piece_of_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: list[NewFile] = []

    async def upload(_services: None, new: NewFile) -> Uploaded:
        given.append(new)
        return Uploaded(URL, {"image_urls": [URL]})

    monkeypatch.setitem(upload_command.__globals__, "upload_file", upload)
    monkeypatch.setitem(upload_command.__globals__, "run", lambda work: asyncio.run(work(None)))
    boat = tmp_path / "boat.png"
    boat.write_bytes(PNG)
    done = CliRunner().invoke(cli, ["upload", "kie", str(boat), "--kind", "image", "--model", "veo3", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output) == {"image_urls": [URL]}
    (new,) = given
    assert (new.provider, new.model, new.kind, new.name) == ("kie", "veo3", "image", "boat.png")
    assert (new.mime_type, new.size) == ("image/png", len(PNG))
