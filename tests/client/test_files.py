"""Downloading: whole files or none, under names that are safe, going on where a connection broke."""

import asyncio
import hashlib
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from receiver.client import AsyncClient, BrokenDownload, NotFound, Unreachable
from receiver.client.files import LONGEST_NAME, safe_name
from tests.measuring import HANG, wait_for

from .rig import TASK, TOKEN, Asked, Break, Either, Fake, answer, head, problem, raw

BODY = bytes(range(256)) * 40
SUM = hashlib.sha256(BODY).hexdigest()


def output(archive: str = "stored", sha256: str = SUM) -> dict[str, Any]:
    stored = {"url": "-", "bytes": len(BODY), "sha256": sha256, "media_type": "video/mp4", "at": "-"}
    return {"url": "https://x.example/a", "kind": "video", "archive": archive, "stored": stored}


def serving(*outputs: dict[str, Any], files: Callable[[Asked, int], Any]) -> Callable[[Asked, int], Any]:
    """Answer with a task of these outputs, and to requests of a file, counted from 0, with what `files` gives."""
    asked_before = 0

    def behave(asked: Asked, _: int) -> Any:
        nonlocal asked_before
        if "/outputs/" not in asked.path:
            return answer(TASK | {"outputs": list(outputs)})
        asked_before += 1
        return files(asked, asked_before - 1)

    return behave


def file(body: bytes = BODY, name: str = "boat.mp4", **headers: str) -> list[bytes | Break]:
    return raw(body, **{"Content-Disposition": f'attachment; filename="{name}"', "ETag": '"1"'} | headers)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_files_are_written_whole_into_a_directory_that_is_made(call: Either, fake: Fake, tmp_path: Path) -> None:
    directory = tmp_path / "made" / "here"
    other = b"another"
    second = output(sha256=hashlib.sha256(other).hexdigest())
    fake.behave = serving(output(), second, files=lambda _, number: file(other if number else BODY, f"{number}.mp4"))
    paths = call(fake, "download", "tsk_1", str(directory))
    assert paths == [directory / "0.mp4", directory / "1.mp4"]
    assert [path.read_bytes() for path in paths] == [BODY, other]
    assert names(directory) == ["0.mp4", "1.mp4"]
    assert stat.S_IMODE(paths[0].stat().st_mode) == 0o666 & ~_umask(), "as any other new file"
    asked = fake.asked[-1]
    assert (asked.path, asked.query) == ("/api/tasks/tsk_1/outputs/1", [("download", "1")])
    assert asked.headers["accept-encoding"] == "identity"


def _umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="boat.mp4"', "boat.mp4"),
        ("attachment; filename=boat.mp4", "boat.mp4"),
        ("attachment; filename*=UTF-8''s%C3%BC%C3%9F.png", "süß.png"),
        ('attachment; filename="../../../etc/passwd"', "passwd"),
        ("attachment; filename*=UTF-8''..%2F..%2Fboat.mp4", "boat.mp4"),
        (r'attachment; filename="C:\\temp\\boat.mp4"', "boat.mp4"),
        ('attachment; filename=".bashrc"', "bashrc"),
        ('attachment; filename="-rf"', "rf"),
        ('attachment; filename=".."', "its-own"),
        ('attachment; filename="a/"', "its-own"),
        ("attachment; filename*=UTF-8''a%00%0A%1B%5B31mb.mp4", "a[31mb.mp4"),
        ("attachment; filename*=UTF-8''boat%E2%80%AE4pm.exe", "boat4pm.exe"),
        ("attachment; filename*=nonsense''%FF%FE", None),
        ("attachment; filename*=UTF-8''%ED%A0%80", None),
        ("inline", "its-own"),
        ("", "its-own"),
        (None, "its-own"),
        ('attachment; filename="' + "ü" * 400 + '.mp4"', "ü" * 98 + ".mp4"),
    ],
)
def test_a_name_is_safe_in_any_directory(disposition: str | None, name: str | None, tmp_path: Path) -> None:
    found = safe_name(disposition, "its-own")
    assert name is None or found == name
    assert Path(found).name == found
    (tmp_path / found).write_bytes(b"")
    assert names(tmp_path) == [found]


@given(st.text(max_size=400), st.booleans())
@example(name="a" * 300 + ".\u1e70\u1e70", quoted=True)  # an ending whose characters take several bytes
def test_no_name_leads_out_of_the_directory(name: str, quoted: bool) -> None:  # noqa: FBT001 - drawn
    found = safe_name(f'attachment; filename="{name}"' if quoted else f"attachment; filename*={name}", "its-own")
    assert found
    assert found not in (".", "..")
    assert not set(found) & {"/", "\\", "\0", "\n", "\r"}
    assert found[0] not in ".-"
    assert len(found.encode()) <= LONGEST_NAME


def test_another_file_of_the_same_name_is_left_alone_and_the_same_file_is_not_kept_twice(
    call: Either, fake: Fake, tmp_path: Path
) -> None:
    (tmp_path / "boat.mp4").write_bytes(b"mine")
    (tmp_path / "boat-2.mp4").symlink_to(tmp_path / "gone")
    fake.behave = serving(output(), files=lambda *_: file())
    for _ in range(2):
        assert call(fake, "download", "tsk_1", tmp_path) == [tmp_path / "boat-3.mp4"]
    assert names(tmp_path) == ["boat-2.mp4", "boat-3.mp4", "boat.mp4"]
    assert (tmp_path / "boat.mp4").read_bytes() == b"mine"


def test_a_broken_download_goes_on_where_it_broke(call: Either, fake: Fake, tmp_path: Path) -> None:
    def files(asked: Asked, number: int) -> Any:
        given = asked.headers.get("range")
        start = int(given.removeprefix("bytes=").removesuffix("-")) if given else 0
        rest = BODY[start:]
        status = "206 Partial Content" if given else "200 OK"
        headers = {"Content-Length": str(len(rest)), "ETag": '"1"', "Content-Disposition": "attachment; filename=b"}
        headers |= {"Content-Range": f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"} if given else {}
        return [head(status, **headers), rest] if number == 2 else [head(status, **headers), rest[:1000]]

    fake.behave = serving(output(), files=files)
    (path,) = call(fake, "download", "tsk_1", tmp_path)
    assert path.read_bytes() == BODY
    first, second, third = (asked.headers for asked in fake.asked[1:])
    assert "range" not in first
    assert (second["range"], second["if-range"]) == ("bytes=1000-", '"1"')
    assert third["range"] == "bytes=2000-"


@pytest.mark.parametrize("etag", ['W/"1"', None])
@pytest.mark.parametrize("status", ["200 OK", "206 Partial Content"])
def test_a_download_begins_anew_where_it_cannot_go_on(
    call: Either, fake: Fake, tmp_path: Path, etag: str | None, status: str
) -> None:
    """The second answer is whole, or says that it is a part and not which."""
    headers = {} if etag is None else {"ETag": etag}
    whole = [head(status, Content_Length=str(len(BODY)), **headers), BODY]
    broken = [head(Content_Length=str(len(BODY)), **headers), BODY[:1000]]
    fake.behave = serving(output(), files=lambda _, number: whole if number else broken)
    (path,) = call(fake, "download", "tsk_1", tmp_path)
    assert path.read_bytes() == BODY
    assert path.name == "tsk_1-0", "a file without a name gets one"
    assert "range" not in fake.asked[-1].headers
    assert len(fake.asked) == 3, "the second answer was taken as it is"


def test_a_file_with_a_wrong_checksum_is_fetched_once_more_and_then_not_kept(
    call: Either, fake: Fake, tmp_path: Path
) -> None:
    fake.behave = serving(output(), files=lambda _, number: file(b"wrong" if number == 0 else BODY))
    (path,) = call(fake, "download", "tsk_1", tmp_path)
    assert path.read_bytes() == BODY
    path.unlink()
    fake.behave = serving(output(), files=lambda *_: file(b"wrong"))
    with pytest.raises(BrokenDownload, match="Output 0 of tsk_1"):
        call(fake, "download", "tsk_1", tmp_path)
    assert names(tmp_path) == []


def test_a_download_that_never_gets_further_ends_with_the_patience_and_leaves_nothing(
    call: Either, fake: Fake, tmp_path: Path
) -> None:
    broken = [head(Content_Length=str(len(BODY))), BODY[:1000], Break()]
    fake.behave = serving(output(), files=lambda *_: broken)
    with pytest.raises(Unreachable):
        call(fake, "download", "tsk_1", tmp_path, patience=0.5)
    assert names(tmp_path) == []
    assert len(fake.asked) > 2


def test_what_can_be_had_is_written_before_it_is_said_what_cannot(call: Either, fake: Fake, tmp_path: Path) -> None:
    gone = problem("404 Not Found", "The link had died.")
    fake.behave = serving(output("failed"), output(), files=lambda _, number: file() if number else gone)
    with pytest.raises(NotFound, match="The link had died"):
        call(fake, "download", "tsk_1", tmp_path)
    assert names(tmp_path) == ["boat.mp4"]


def test_a_download_waits_for_the_end_and_for_the_archive(call: Either, fake: Fake, tmp_path: Path) -> None:
    def behave(asked: Asked, number: int) -> Any:
        if number == 0:
            return answer(TASK | {"state": "running"})
        if "/outputs/" in asked.path:
            return file()
        return answer(TASK | {"outputs": [output("waiting" if number == 1 else "stored")]})

    fake.behave = behave
    assert call(fake, "download", "tsk_1", tmp_path) == [tmp_path / "boat.mp4"]
    assert [asked.path for asked in fake.asked] == ["/api/tasks/tsk_1"] * 3 + ["/api/tasks/tsk_1/outputs/0"]


def test_a_task_without_outputs_has_no_files(call: Either, fake: Fake, tmp_path: Path) -> None:
    fake.behave = lambda *_: answer(TASK | {"state": "failed"})
    assert call(fake, "download", "tsk_1", tmp_path / "unmade") == []
    assert names(tmp_path) == []


def test_a_download_that_is_cancelled_leaves_nothing(fake: Fake, tmp_path: Path) -> None:
    begun, ended = threading.Event(), threading.Event()

    def files(*_: Any) -> Any:
        yield head(Content_Length=str(len(BODY)))
        yield BODY[:1000]
        begun.set()
        ended.wait(HANG)

    async def go() -> None:
        async with AsyncClient(fake.url, TOKEN, timeout=HANG) as client:
            downloading = asyncio.create_task(client.download("tsk_1", tmp_path))
            await asyncio.to_thread(begun.wait, HANG)
            await asyncio.to_thread(wait_for, lambda: names(tmp_path) != [])
            downloading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await downloading

    fake.behave = serving(output(), files=files)
    try:
        asyncio.run(go())
    finally:
        ended.set()
    assert names(tmp_path) == []


def test_a_file_that_cannot_be_written_is_an_error_of_its_own(call: Either, fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    fake.behave = serving(output(), files=lambda *_: file())
    with pytest.raises(OSError, match="file"):
        call(fake, "download", "tsk_1", tmp_path / "file" / "below")
