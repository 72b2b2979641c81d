"""Archived files over HTTP: whole or in parts, to those who may, never as a page of ours."""

import hashlib
import random

import httpx
import pytest

from tests.archive.conftest import Site
from tests.archive.file_server import MP4, PNG, FileServer, serves
from tests.behaviour.service import TOKEN, milliseconds

pytestmark = pytest.mark.anyio

CONTENT = MP4 + random.Random(2).randbytes(700_000)  # noqa: S311 - any bytes will do
END = len(CONTENT)


@pytest.fixture
async def path(site: Site, host: FileServer) -> str:
    """The path of an archived file."""
    task = await site.succeeded(host.at("/a.mp4", serves(CONTENT)))
    await site.until_output(task["id"], "stored")
    return f"/api/tasks/{task['id']}/outputs/0"


async def get(site: Site, path: str, **headers: str) -> httpx.Response:
    return await site.service.client.get(path, headers={name.replace("_", "-"): each for name, each in headers.items()})


async def test_a_file_is_served_as_what_was_found_in_it_and_runs_nothing(site: Site, path: str) -> None:
    answer = await get(site, path)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-length"] == str(END)
    assert answer.headers["etag"] == f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert answer.headers["content-disposition"].startswith("inline; filename=")


async def test_a_head_request_brings_the_same_headers(site: Site, path: str) -> None:
    answer = await site.service.client.head(path)
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, str(END), b"")


async def test_it_can_be_asked_for_as_an_attachment(site: Site, path: str) -> None:
    answer = await get(site, f"{path}?download=1")
    assert answer.headers["content-disposition"].startswith("attachment; filename=")


async def test_a_part_is_served_exactly(site: Site, path: str) -> None:
    for asked, start, end in (
        ("bytes=0-0", 0, 1),
        ("bytes=5-", 5, END),
        ("bytes=-7", END - 7, END),
        ("bytes=100-300000", 100, 300_001),
        (f"bytes={END - 1}-", END - 1, END),
        (f"bytes=10-{END + 50}", 10, END),
        (f"bytes=-{END + 50}", 0, END),
    ):
        answer = await get(site, path, Range=asked)
        assert (answer.status_code, answer.content) == (206, CONTENT[start:end]), asked
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{END}"


async def test_a_part_that_is_not_there_is_416(site: Site, path: str) -> None:
    for asked in (f"bytes={END}-", "bytes=-0", f"bytes={END + 5}-{END + 9}"):
        answer = await get(site, path, Range=asked)
        assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{END}"), asked


async def test_what_is_no_single_range_is_answered_with_the_whole(site: Site, path: str) -> None:
    for asked in ("bytes=9-5", "bytes=a-b", "items=0-5", "bytes=0-1,5-6", "bytes=-", "", "bytes=1"):
        answer = await get(site, path, Range=asked)
        assert (answer.status_code, answer.content) == (200, CONTENT), asked


async def test_a_part_of_another_version_is_answered_with_the_whole(site: Site, path: str) -> None:
    etag = (await get(site, path)).headers["etag"]
    assert (await get(site, path, Range="bytes=0-0", If_Range=etag)).status_code == 206
    assert (await get(site, path, Range="bytes=0-0", If_Range='"other"')).status_code == 200


async def test_who_has_it_already_gets_304(site: Site, path: str) -> None:
    etag = (await get(site, path)).headers["etag"]
    for known in (etag, f'"x", {etag}', f"W/{etag}", "*"):
        answer = await get(site, path, If_None_Match=known)
        assert (answer.status_code, answer.content) == (304, b"")
    assert (await get(site, path, If_None_Match='"x"')).status_code == 200


async def test_a_stranger_gets_nothing_without_a_link(site: Site, path: str) -> None:
    assert (await site.service.stranger.get(path)).status_code == 401
    assert (await site.service.stranger.get(f"{path}?link=guessed")).status_code == 401
    assert (await site.service.stranger.post(f"{path}/link", json={})).status_code == 401


async def test_a_link_opens_one_file_until_it_ends(site: Site, path: str) -> None:
    made = (await site.service.post(f"{path}/link", {"seconds": 60})).json()
    assert milliseconds(made["expires_at"]) == site.service.clock.now + 60_000
    link = made["url"].removeprefix("https://hooks.example.com")
    assert link.startswith(path)
    answer = await site.service.stranger.get(link, headers={"Range": "bytes=0-9"})
    assert (answer.status_code, answer.content) == (206, CONTENT[:10])
    other = link.replace("/outputs/0", "/outputs/1")
    assert (await site.service.stranger.get(other)).status_code == 401
    site.service.clock.advance(60)
    ended = await site.service.stranger.get(link)
    assert ended.status_code == 410
    assert "ended" in ended.json()["detail"]


async def test_a_link_for_no_time_is_refused_by_name(site: Site, path: str) -> None:
    for seconds in (0, -5, "60", None, 1e300, True):
        answer = await site.service.post(f"{path}/link", {"seconds": seconds})
        assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (422, ["seconds"]), seconds


async def test_a_link_without_a_body_lasts_an_hour(site: Site, path: str) -> None:
    made = (await site.service.post(f"{path}/link")).json()
    assert milliseconds(made["expires_at"]) == site.service.clock.now + 3_600_000


async def test_what_does_not_exist_is_404(site: Site, path: str) -> None:
    for missing in (path[:-1] + "1", path[:-1] + "x", path[:-1] + "-1", "/api/tasks/tsk_none/outputs/0"):
        assert (await get(site, missing)).status_code == 404
        assert (await site.service.post(f"{missing}/link", {})).status_code == 404


async def test_an_unknown_parameter_is_refused_by_name(site: Site, path: str) -> None:
    answer = await get(site, f"{path}?size=5")
    assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (422, ["query", "size"])


async def test_a_file_that_somebody_deleted_is_told(site: Site, path: str) -> None:
    (site.directory / site.files()[0]).unlink()
    answer = await get(site, path)
    assert answer.status_code == 404
    assert "gone" in answer.json()["detail"]


@pytest.mark.row("E10")
async def test_what_is_no_media_is_only_ever_an_attachment(site: Site, host: FileServer) -> None:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    task = await site.succeeded(host.at("/a.png", serves(svg, kind="image/svg+xml")), host.at("/b.png", serves(PNG)))
    assert (await site.until_output(task["id"], "stored"))["stored"]["media_type"] == "application/octet-stream"
    answer = await get(site, f"/api/tasks/{task['id']}/outputs/0")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    await site.until_output(task["id"], "stored", 1)


async def test_the_page_of_a_task_shows_what_is_stored_from_here(site: Site, host: FileServer) -> None:
    task = await site.succeeded(host.at("/a.png", serves(PNG)), host.at("/b.mp4", serves(MP4)))
    for number in (0, 1):
        await site.until_output(task["id"], "stored", number)
    page = await _page(site, f"/tasks/{task['id']}")
    path = f"/api/tasks/{task['id']}/outputs"
    assert f'href="{path}/0"' in page
    assert f'src="{path}/0/poster"' in page
    assert f'poster="{path}/1/poster" src="{path}/1"' in page
    assert "Stored: video/mp4" in page


async def _page(site: Site, path: str) -> str:
    """Get a page as somebody who has logged in."""
    await site.service.stranger.post("/login", data={"password": TOKEN})
    return (await site.service.stranger.get(path)).text
