"""Results come home before their links die: byte for byte, once, or with the reason why not."""

import asyncio
import hashlib
import random
import zlib
from pathlib import Path

import pytest

from receiver.archive import fetch
from receiver.archive.archiver import Archiver
from receiver.lifecycle import files as lifecycle
from receiver.store import files
from tests.archive.conftest import ID, Site
from tests.archive.file_server import (
    MP4,
    PNG,
    FileServer,
    Script,
    breaks_off,
    endless,
    hangs,
    head,
    leads_to,
    raw,
    says,
    serves,
)
from tests.behaviour import provider as scripts
from tests.behaviour.families import REVID
from tests.behaviour.service import Stage, milliseconds
from tests.measuring import HANG, POLL_INTERVAL, move_on

pytestmark = pytest.mark.anyio

LARGE = MP4 + random.Random(1).randbytes(3_000_000)  # noqa: S311 - it only has to be as hard to compress as a video


async def test_a_result_is_archived_byte_for_byte_and_told_of(site: Site, host: FileServer) -> None:
    task = await site.succeeded(host.at("/a.mp4", serves(LARGE)))
    output = await site.until_output(task["id"], "stored")
    stored = output["stored"]
    assert output["problem"] is None
    assert stored["url"] == f"https://hooks.example.com/api/tasks/{task['id']}/outputs/0"
    assert (stored["bytes"], stored["media_type"]) == (len(LARGE), "video/mp4")
    assert stored["sha256"] == hashlib.sha256(LARGE).hexdigest()
    assert milliseconds(stored["at"]) == site.service.clock.now
    assert site.files() == [f"2026-11-20/{task['id']}-0.mp4"]
    assert (site.directory / site.files()[0]).read_bytes() == LARGE
    answer = await site.service.client.get(f"/api/tasks/{task['id']}/outputs/0")
    assert answer.content == LARGE
    notes = [event["text"] for event in await site.service.history(task["id"], "note")]
    assert any("stored" in text for text in notes)


async def test_only_the_files_of_a_task_that_succeeded_are_fetched(stage: Stage, host: FileServer) -> None:
    url = host.at("/a.mp4", serves(MP4))
    async with stage.serve(ARCHIVE=None, ARCHIVE_KEEP_FREE="0", CONFIRM="always") as service:
        site = Site(service, stage)
        stage.provider.on_create(REVID, scripts.says(REVID.accepted(ID)))
        stage.provider.on_check(REVID, scripts.says(REVID.working(ID)))
        task = await service.order(REVID.order())
        assert await service.call_back(task["id"], REVID.done(ID, url)) == "confirming"
        await service.until_checked(task["id"])
        other = await site.succeeded(host.at("/other.mp4", serves(MP4)), remote_id="another-id")
        await site.until_output(other["id"], "stored")  # whatever was due before has been begun
        assert host.asked_for("/a.mp4") == []
        stage.provider.on_check(REVID, scripts.says(REVID.done(ID, url)))
        await service.client.post(f"/api/tasks/{task['id']}/check")
        await site.until_output(task["id"], "stored")


async def test_without_an_archive_only_links_are_kept(stage: Stage, host: FileServer) -> None:
    async with stage.serve(ARCHIVE="off") as service:
        site = Site(service, stage)
        task = await site.succeeded(host.at("/a.mp4", serves(MP4)))
        assert (task["outputs"][0]["archive"], task["outputs"][0]["stored"]) == ("off", None)
        answer = await service.client.get(f"/api/tasks/{task['id']}/outputs/0")
        assert answer.status_code == 404
        assert "archive --missing" in answer.json()["detail"]
    assert host.asked == []


async def test_what_was_never_archived_is_downloaded_when_somebody_asks_for_it(stage: Stage, host: FileServer) -> None:
    async with stage.serve(ARCHIVE="off") as service:
        task = await Site(service, stage).succeeded(host.at("/a.mp4", serves(MP4)))
    async with stage.serve(ARCHIVE=None, ARCHIVE_KEEP_FREE="0") as service:
        store = service.app.state.services.store
        (missing,) = await store.read(files.list_missing)
        assert await store.write(lambda tx: lifecycle.fetch_again(tx, missing, service.clock.now))
        await Site(service, stage).until_output(task["id"], "stored")
        assert await store.read(files.list_missing) == []


async def test_several_files_of_a_task_are_stored_apart(site: Site, host: FileServer) -> None:
    urls = [host.at("/a.png", serves(PNG)), host.at("/b.mp4", serves(MP4))]
    task = await site.succeeded(*urls)
    for number in (0, 1):
        await site.until_output(task["id"], "stored", number)
    assert [name.rpartition("-")[2] for name in site.files()] == ["0.png", "1.mp4"]


# --- what is not a file


@pytest.mark.row("E10")
@pytest.mark.parametrize(
    ("script", "words"),
    [
        (says(200, b"<!DOCTYPE html><html>gone</html>", Content_Type="video/mp4"), "page or a message"),
        (says(200, b'\n<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'), "page or a message"),
        (says(200, b'{"code": 404, "message": "gone"}', Content_Type="application/json"), "page or a message"),
        (says(200, b""), "empty"),
        (says(500), "answered 500"),
        (says(204), "answered 204"),
        (raw(b""), "cannot be reached"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + PNG[:20]), "broke off"),
        (raw(head(200, Content_Encoding="br", Content_Length=len(PNG)) + PNG), "compressed it as 'br'"),
        (raw(head(200, Content_Encoding="gzip", Content_Length=len(PNG)) + PNG), "cannot be read"),
    ],
)
async def test_what_is_no_file_is_tried_again_and_then_given_up(
    site: Site, host: FileServer, script: Script, words: str
) -> None:
    task = await site.succeeded(host.at("/a.mp4", script))
    output = await site.until_problem(task["id"], words)
    assert output["archive"] == "waiting"
    site.service.clock.advance(5)  # the first repeat comes within five seconds
    await host.until_asked(2)
    site.service.clock.advance(lifecycle.UNKNOWN_END)
    output = await site.until_output(task["id"], "failed")
    assert words in output["problem"]
    assert site.files() == []
    answer = await site.service.client.get(f"/api/tasks/{task['id']}/outputs/0")
    assert answer.status_code == 404
    assert words in answer.json()["detail"]


@pytest.mark.row("E9")
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("http://user:word@127.0.0.1/a.mp4", "user name"),
        ("http://169.254.169.254/latest/meta-data", "not a public address"),
        ("http://[fe80::1]/a.mp4", "not a public address"),
        ("http://0.0.0.0/a.mp4", "not a public address"),
    ],
)
async def test_a_link_that_must_not_be_followed_is_given_up_at_once(site: Site, path: str, words: str) -> None:
    task = await site.succeeded(path)
    output = await site.until_output(task["id"], "failed")
    assert words in output["problem"]


@pytest.mark.row("E8")
async def test_redirects_are_followed_five_times_and_checked_each_time(site: Site, host: FileServer) -> None:
    host.at("/end.mp4", serves(MP4))
    for number in range(6):
        host.at(f"/{number}", leads_to("/end.mp4" if number == 0 else f"/{number - 1}", 301 + number % 3))
    task = await site.succeeded(f"http://127.0.0.1:{host.port}/4", f"http://127.0.0.1:{host.port}/5")
    await site.until_output(task["id"], "stored", 0)
    assert "redirects" in (await site.until_output(task["id"], "failed", 1))["problem"]


@pytest.mark.row("E8")
async def test_a_redirect_into_a_forbidden_place_is_not_followed(site: Site, host: FileServer) -> None:
    task = await site.succeeded(host.at("/a", leads_to("http://169.254.169.254/latest")))
    assert "not a public address" in (await site.until_output(task["id"], "failed"))["problem"]


@pytest.mark.row("E8")
async def test_cookies_and_credentials_are_never_sent(site: Site, host: FileServer) -> None:
    host.at("/b.mp4", serves(MP4))
    task = await site.succeeded(host.at("/a.mp4", says(302, Location="/b.mp4", Set_Cookie="a=b")))
    await site.until_output(task["id"], "stored")
    for asked in host.asked:
        assert not {"cookie", "authorization", "referer"} & asked.headers.keys()
        assert asked.headers["accept-encoding"] == "identity"


# --- bounds


@pytest.mark.row("E13")
async def test_a_file_above_the_limit_is_given_up_before_and_while_it_is_downloaded(
    stage: Stage, host: FileServer
) -> None:
    async with stage.serve(ARCHIVE=None, ARCHIVE_KEEP_FREE="0", ARCHIVE_MAX_BYTES="1000000") as service:
        site = Site(service, stage)
        task = await site.succeeded(host.at("/told.mp4", serves(LARGE)), host.at("/endless.mp4", endless()))
        for number in (0, 1):
            output = await site.until_output(task["id"], "failed", number)
            assert "RECEIVER_ARCHIVE_MAX_BYTES" in output["problem"]
        assert site.files() == []


@pytest.mark.row("E13")
async def test_a_compressed_file_is_stored_as_it_is_and_a_bomb_is_given_up(site: Site, host: FileServer) -> None:
    packed, bomb = zlib.compress(LARGE), zlib.compress(bytes(64 * 1024 * 1024))
    task = await site.succeeded(
        host.at("/a.mp4", raw(head(200, Content_Encoding="deflate", Content_Length=len(packed)) + packed)),
        host.at("/b.mp4", raw(head(200, Content_Encoding="deflate", Content_Length=len(bomb)) + bomb)),
    )
    stored = (await site.until_output(task["id"], "stored", 0))["stored"]
    assert stored["sha256"] == hashlib.sha256(LARGE).hexdigest()
    assert "compressed" in (await site.until_output(task["id"], "failed", 1))["problem"]


@pytest.mark.row("E13")
async def test_a_server_that_hangs_is_left_and_tried_again(site: Site, host: FileServer) -> None:
    url = host.at("/a.mp4", hangs(), hangs(head(200, Content_Length=5000) + MP4[:100]), serves(MP4))
    task = await site.succeeded(url)
    for number in (1, 2):
        await host.until_asked(number)
        move_on(31)
        await site.until_problem(task["id"], "no answer" if number == 1 else "less than")
        site.service.clock.advance(10)
    await site.until_output(task["id"], "stored")


@pytest.mark.row("A7")
async def test_a_full_disk_keeps_files_waiting_and_says_so(stage: Stage, host: FileServer) -> None:
    async with stage.serve(ARCHIVE=None, ARCHIVE_KEEP_FREE=str(2**60)) as service:
        site = Site(service, stage)
        task = await site.succeeded(host.at("/a.mp4", serves(MP4)))
        output = await site.until_problem(task["id"], "RECEIVER_ARCHIVE_KEEP_FREE")
        assert output["archive"] == "waiting"
        assert site.files() == []
    async with stage.serve(ARCHIVE=None, ARCHIVE_KEEP_FREE="0") as service:
        service.clock.advance(lifecycle.FULL_PAUSE)
        await Site(service, stage).until_output(task["id"], "stored")


# --- what breaks off, and links that die


async def test_a_download_that_breaks_off_goes_on_where_it_stopped(site: Site, host: FileServer) -> None:
    task = await site.succeeded(host.at("/a.mp4", breaks_off(LARGE, 1_500_000), breaks_off(LARGE, 100), serves(LARGE)))
    await _move_on_until(site, host, 3)
    stored = (await site.until_output(task["id"], "stored"))["stored"]
    assert stored["sha256"] == hashlib.sha256(LARGE).hexdigest()
    assert [asked.headers.get("range") for asked in host.asked] == [None, "bytes=1500000-", "bytes=1500100-"]


async def test_a_file_that_changed_meanwhile_is_downloaded_as_a_whole(site: Site, host: FileServer) -> None:
    changed = serves(LARGE[::-1], etag='"v2"')
    task = await site.succeeded(host.at("/a.mp4", breaks_off(LARGE, 1_500_000), changed))
    await _move_on_until(site, host, 2)
    stored = (await site.until_output(task["id"], "stored"))["stored"]
    assert stored["sha256"] == hashlib.sha256(LARGE[::-1]).hexdigest()
    assert len(site.files()) == 1


async def _move_on_until(site: Site, host: FileServer, requests: int) -> None:
    while len(host.asked) < requests:
        move_on(fetch.RESUME_PAUSE)
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_for_a_dead_link_the_provider_is_asked_for_a_new_one(site: Site, host: FileServer, status: int) -> None:
    host.at("/new.mp4", serves(MP4))
    old, new = host.at("/old.mp4", says(status)), f"http://127.0.0.1:{host.port}/new.mp4"
    provider = site.stage.provider
    provider.on_create(REVID, scripts.says(REVID.accepted(ID)))
    provider.on_check(REVID, scripts.says(REVID.done(ID, new)))
    task = await site.service.order(REVID.order())
    await site.service.call_back(task["id"], REVID.done(ID, old))
    output = await site.until_output(task["id"], "stored")
    assert output["url"] == new
    shown = await site.service.task(task["id"])
    assert (shown["checks"], shown["next_check_at"], shown["state"]) == (1, None, "succeeded")


async def test_a_link_that_is_dead_again_is_given_up_at_once(site: Site, host: FileServer) -> None:
    task = await site.succeeded(host.at("/a.mp4", says(404)))  # a check names the same link again
    output = await site.until_output(task["id"], "failed")
    assert "answered 404" in output["problem"]
    assert (await site.service.task(task["id"]))["checks"] == 1


async def test_a_dead_link_is_tried_once_more_when_the_provider_cannot_name_another(
    site: Site, host: FileServer
) -> None:
    provider = site.stage.provider
    provider.on_create(REVID, scripts.says(REVID.accepted(ID)))
    provider.on_check(REVID, scripts.says({}, status=502))
    task = await site.service.order(REVID.order())
    await site.service.call_back(task["id"], REVID.done(ID, host.at("/a.mp4", says(404), serves(MP4))))
    await site.until_problem(task["id"], "answered 404")
    await site.service.until_checked(task["id"])
    site.service.clock.advance(lifecycle.FRESH_LINK_SECONDS)
    await site.until_output(task["id"], "stored")


async def test_an_answer_without_a_link_for_each_file_is_not_asked_for_again(site: Site, host: FileServer) -> None:
    provider = site.stage.provider
    provider.on_create(REVID, scripts.says(REVID.accepted(ID)))
    provider.on_check(REVID, scripts.says(REVID.done(ID, host.at("/other.mp4", serves(MP4)))))
    task = await site.service.order(REVID.order())
    await site.service.call_back(task["id"], REVID.done(ID, host.at("/a.mp4", says(403)), host.at("/b.mp4", says(403))))
    await site.service.until_checked(task["id"])
    shown = await site.service.until(task["id"], lambda task: task["next_check_at"] is None)
    assert "different URLs" in shown["notices"][0]
    site.service.clock.advance(lifecycle.FRESH_LINK_SECONDS)
    for number in (0, 1):
        assert "403" in (await site.until_output(task["id"], "failed", number))["problem"]


async def test_a_lost_result_is_on_the_attention_list_until_it_is_stored(site: Site, host: FileServer) -> None:
    task = await site.succeeded(host.at("/a.mp4", says(404)))
    await site.until_output(task["id"], "failed")
    assert await _attention(site) == [(task["id"], "result_lost")]
    host.at("/a.mp4", serves(MP4))
    services = site.service.app.state.services
    await Archiver(services, services.storage).fetch_now(1)
    await site.until_output(task["id"], "stored")
    assert await _attention(site) == []


async def test_a_storage_without_room_is_on_the_attention_list_once(stage: Stage, host: FileServer) -> None:
    async with stage.serve(ARCHIVE=None, ARCHIVE_KEEP_FREE=str(2**60)) as service:
        site = Site(service, stage)
        task = await site.succeeded(host.at("/a.mp4", serves(MP4)))
        await site.until_problem(task["id"], "RECEIVER_ARCHIVE_KEEP_FREE")
        assert await _attention(site) == [(task["id"], "not_archived")]
        await service.post(f"/api/tasks/{task['id']}/acknowledge")
        service.clock.advance(lifecycle.FULL_PAUSE)
        await host.until_asked(2)
        given_back = "SELECT count(*) FROM output WHERE fetch_at > ? AND fetch_leased_until IS NULL"
        async with asyncio.timeout(HANG):
            while service.database.rows(given_back, service.clock.now) != [(1,)]:  # noqa: ASYNC110 - the database
                await asyncio.sleep(POLL_INTERVAL)
        assert await _attention(site) == []


async def _attention(site: Site) -> list[tuple[str, str]]:
    items = (await site.service.client.get("/api/attention")).json()["items"]
    return [(item["task"]["id"], item["reason"]) for item in items]


async def test_a_broken_download_never_changes_the_state_of_its_task(site: Site, host: FileServer) -> None:
    task = await site.succeeded(host.at("/a.mp4", says(500)))
    await site.until_problem(task["id"], "answered 500")
    assert (await site.service.task(task["id"]))["state"] == "succeeded"


# --- leases


@pytest.mark.row("A7")
async def test_a_restart_goes_on_with_what_it_left(stage: Stage, host: FileServer) -> None:
    url = host.at("/a.mp4", hangs(head(200, Content_Length=len(MP4)) + MP4[:50]), serves(MP4))
    async with stage.serve(ARCHIVE=None, ARCHIVE_KEEP_FREE="0") as service:
        task = await Site(service, stage).succeeded(url)
        await host.until_asked(1)
    async with stage.serve(ARCHIVE=None, ARCHIVE_KEEP_FREE="0") as service:  # its lease was given back
        site = Site(service, stage)
        await site.until_output(task["id"], "stored")
        assert len(site.files()) == 1


@pytest.mark.row("B4")
async def test_two_services_download_each_file_once(stage: Stage, host: FileServer, tmp_path: Path) -> None:
    urls = [host.at(f"/{number}.mp4", serves(MP4)) for number in range(30)]
    more: dict[str, str | None] = {"ARCHIVE": None, "ARCHIVE_KEEP_FREE": "0"}
    async with stage.serve(**more) as service, stage.serve(**more):
        site = Site(service, stage)
        task = await site.succeeded(*urls)
        for number in range(30):
            await site.until_output(task["id"], "stored", number)
    assert sorted(asked.path for asked in host.asked) == sorted(f"/{number}.mp4" for number in range(30))
