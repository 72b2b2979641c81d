"""Posters are small pictures of archived files, and no file, however it was made, costs more than little to look at."""

import io
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from receiver.archive.poster_process import EDGE
from receiver.archive.posters import Posters, poster_name
from receiver.storage import Directory
from tests.archive.conftest import Site
from tests.archive.file_server import FileServer, serves
from tests.storage.test_storage import put

pytestmark = pytest.mark.anyio

SANDBOX_VIDEO = Path(__file__).parents[2] / "receiver" / "sandbox" / "media.mp4"


def picture(kind: str, width: int = 2000, height: int = 1000) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (width, height), "orange").save(written, kind)
    return written.getvalue()


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Make a PNG whose header says so, with these chunks after it."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))

    def written(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    return b"\x89PNG\r\n\x1a\n" + b"".join(written(*chunk) for chunk in (header, *chunks, (b"IEND", b"")))


async def poster_of(directory: Path, content: bytes, kind: str = "image") -> bytes | None:
    storage = Directory(str(directory), 0)
    await put(storage, "a.bin", content)
    return await Posters(storage).get("a.bin", len(content), kind)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_an_image_has_a_small_poster(tmp_path: Path, kind: str) -> None:
    poster = await poster_of(tmp_path, picture(kind))
    assert poster is not None
    shown = Image.open(io.BytesIO(poster))
    assert (shown.format, shown.size) == ("WEBP", (EDGE, EDGE // 2))


async def test_a_video_has_its_first_frame_as_a_poster(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="SKIPPED, NOT TESTED: the extra `video` is not installed")
    poster = await poster_of(tmp_path, SANDBOX_VIDEO.read_bytes(), "video")
    assert poster is not None
    assert Image.open(io.BytesIO(poster)).format == "WEBP"


BOMBS = {
    "a picture whose header says that it is huge": png(60_000, 60_000, (b"IDAT", zlib.compress(bytes(1000)))),
    "a picture of nothing that is wide": png(2**31 - 1, 1),
    "a picture that is huge and compresses well": png(
        12_000, 12_000, (b"IDAT", zlib.compress(bytes(12_000 * 36_001 // 8)))
    ),
    "a text that inflates without end": png(
        10, 10, (b"zTXt", b"x\0\0" + zlib.compress(bytes(256 * 1024 * 1024), 9)), (b"IDAT", zlib.compress(bytes(310)))
    ),
    "an image of another kind": picture("BMP"),
    "PostScript, which runs": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "half a picture": picture("PNG")[:200],
    "nothing": b"x",
}


@pytest.mark.row("E13")
@pytest.mark.parametrize("bomb", BOMBS)
async def test_no_poster_is_made_of_a_file_that_would_cost_much(tmp_path: Path, bomb: str) -> None:
    poster = await poster_of(tmp_path, BOMBS[bomb])
    assert poster is None
    assert not (tmp_path / poster_name("a.bin")).exists()


async def test_a_poster_is_made_once_and_kept(tmp_path: Path) -> None:
    storage = Directory(str(tmp_path), 0)
    content = picture("PNG")
    await put(storage, "a.png", content)
    first = await Posters(storage).get("a.png", len(content), "image")
    await storage.delete("a.png")  # so it could not be made again
    assert await Posters(storage).get("a.png", len(content), "image") == first


async def test_the_api_serves_the_poster_of_an_archived_image(site: Site, host: FileServer) -> None:
    task = await site.succeeded(
        host.at("/a.png", serves(picture("PNG"))), host.at("/b.mp3", serves(b"ID3" + bytes(99)))
    )
    for number in (0, 1):
        await site.until_output(task["id"], "stored", number)
    answer = await site.service.client.get(f"/api/tasks/{task['id']}/outputs/0/poster")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
    assert answer.content[8:12] == b"WEBP"
    assert (await site.service.client.get(f"/api/tasks/{task['id']}/outputs/1/poster")).status_code == 404
    assert (await site.service.stranger.get(f"/api/tasks/{task['id']}/outputs/0/poster")).status_code == 401
