"""Files in a directory and in an object store: whole or not there, byte for byte, in any part."""

import asyncio
import hashlib
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.core.errors import ConfigError
from receiver.storage import Directory, FileMissing, Storage, StorageError, StorageFull, open_storage
from receiver.storage.directory import PARTS

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
LARGE = os.urandom(11 * MIB + 17)
BUCKET = "results"
S3_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A real S3 server in a process of its own, with one bucket; gives its address."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", S3_SERVER]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as server:  # noqa: S603 - our own
        assert server.stdin is not None
        assert server.stdout is not None
        address = f"http://127.0.0.1:{int(server.stdout.readline())}"
        request = urllib.request.Request(f"{address}/{BUCKET}", method="PUT")  # noqa: S310 - our own server
        urllib.request.urlopen(request).close()  # noqa: S310 - likewise
        yield address
        server.stdin.close()


@pytest.fixture(params=["directory", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    if request.param == "directory":
        return open_storage(str(tmp_path / "outputs"), 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return open_storage(f"s3://{BUCKET}/some/prefix", 0)


async def put(storage: Storage, name: str, content: bytes, part: str = "1-1") -> str:
    upload = await storage.begin(name, part, len(content))
    for start in range(0, len(content), MIB):
        await upload.write(content[start : start + MIB])
    return await upload.finish()


async def get(storage: Storage, name: str, start: int, end: int) -> bytes:
    return b"".join([piece async for piece in storage.read(name, start, end)])


@pytest.mark.parametrize("content", [b"x", LARGE], ids=["small", "large"])
async def test_a_file_comes_back_as_it_was_put_there(storage: Storage, content: bytes) -> None:
    assert await put(storage, "2026-11-28/a.mp4", content) == hashlib.sha256(content).hexdigest()
    assert await get(storage, "2026-11-28/a.mp4", 0, len(content)) == content


async def test_any_part_of_a_file_can_be_read(storage: Storage) -> None:
    await put(storage, "a.mp4", LARGE)
    for start, end in ((0, 1), (5, 5), (MIB - 3, 3 * MIB + 1), (len(LARGE) - 2, len(LARGE))):
        assert await get(storage, "a.mp4", start, end) == LARGE[start:end]


async def test_a_file_replaces_another_of_its_name(storage: Storage) -> None:
    for content in (LARGE, b"second"):
        await put(storage, "a.mp4", content)
    assert await get(storage, "a.mp4", 0, 6) == b"second"


async def test_nobody_sees_a_file_before_it_is_finished_or_after_it_was_dropped(storage: Storage) -> None:
    upload = await storage.begin("unfinished.mp4", "1-1", None)
    for _ in range(7):
        await upload.write(bytes(MIB))
    with pytest.raises(FileMissing):
        await get(storage, "unfinished.mp4", 0, 1)
    await upload.drop()
    with pytest.raises(FileMissing):
        await get(storage, "unfinished.mp4", 0, 1)
    if (directory := storage.local_path(PARTS)) is not None:
        assert list(directory.iterdir()) == []


async def test_a_deleted_file_is_gone_and_deleting_it_again_is_nothing(storage: Storage) -> None:
    await put(storage, "a.mp4", b"content")
    for _ in range(2):
        await storage.delete("a.mp4")
    with pytest.raises(FileMissing):
        await get(storage, "a.mp4", 0, 1)


async def test_a_file_that_is_shorter_than_it_was_is_told(storage: Storage) -> None:
    await put(storage, "a.mp4", b"content")
    with pytest.raises(StorageError, match="shorter"):
        await get(storage, "a.mp4", 0, 100)


async def test_many_files_may_be_put_into_one_place_at_once(storage: Storage) -> None:
    contents = [bytes([number]) * 1000 for number in range(storage.at_once)]
    await asyncio.gather(
        *(put(storage, f"2026-11-28/{number}.mp4", content, f"{number}-1") for number, content in enumerate(contents))
    )
    assert [await get(storage, f"2026-11-28/{number}.mp4", 0, 1000) for number in range(len(contents))] == contents


# --- a directory


async def test_unfinished_files_of_a_dead_process_are_dropped_by_their_beginning(tmp_path: Path) -> None:
    storage = Directory(str(tmp_path / "outputs"), 0)
    for part in ("1-1", "1-2", "11-1"):
        await storage.begin("a.mp4", part, None)
    await storage.drop_parts("1-")
    assert [part.name for part in (tmp_path / "outputs" / PARTS).iterdir()] == ["11-1"]


async def test_a_file_whose_unfinished_part_was_dropped_is_never_published(tmp_path: Path) -> None:
    storage = Directory(str(tmp_path / "outputs"), 0)
    upload = await storage.begin("2026-11-28/a.mp4", "1-1", None)
    await upload.write(b"content")
    await storage.drop_parts("1-")
    with pytest.raises(StorageError):
        await upload.finish()
    with pytest.raises(FileMissing):
        await get(storage, "2026-11-28/a.mp4", 0, 1)


async def test_a_disk_without_room_takes_no_file_and_says_what_to_do(tmp_path: Path) -> None:
    storage = Directory(str(tmp_path / "outputs"), 2**60)
    with pytest.raises(StorageFull, match="RECEIVER_ARCHIVE_KEEP_FREE"):
        await storage.begin("a.mp4", "1-1", 1)
    assert list((tmp_path / "outputs" / PARTS).iterdir()) == []


async def test_files_belong_to_nobody_else(tmp_path: Path) -> None:
    await put(Directory(str(tmp_path / "outputs"), 0), "2026-11-28/a.mp4", b"content")
    found = {file.relative_to(tmp_path): file.stat().st_mode & 0o777 for file in (tmp_path / "outputs").rglob("*")}
    assert found == {
        Path("outputs", PARTS): 0o700,
        Path("outputs/2026-11-28"): 0o700,
        Path("outputs/2026-11-28/a.mp4"): 0o600,
    }


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("a file")
    with pytest.raises(StorageError, match="RECEIVER_ARCHIVE"):
        await Directory(str(tmp_path / "outputs"), 0).begin("a.mp4", "1-1", None)


# --- an object store


async def test_a_bucket_that_does_not_exist_is_named(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("ENDPOINT_URL", s3),
        ("ACCESS_KEY_ID", "a"),
        ("SECRET_ACCESS_KEY", "b"),
        ("REGION", "us-east-1"),
    ):
        monkeypatch.setenv(f"AWS_{name}", value)
    with pytest.raises(StorageError, match="s3://nobody/prefix"):
        await put(open_storage("s3://nobody/prefix", 0), "a.mp4", b"content")


def test_a_place_that_is_no_place_is_refused() -> None:
    with pytest.raises(ConfigError, match="RECEIVER_ARCHIVE"):
        open_storage("nonsense://bucket", 0)
