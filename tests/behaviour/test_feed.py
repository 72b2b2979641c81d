"""`GET /api/events`: every change of every task reaches every reader, also one that comes back later."""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from receiver.feed import RECENT_BYTES, Change, Feed
from receiver.store import Store
from receiver.store.feed import KEPT
from tests.behaviour.families import APIXO, REVID
from tests.behaviour.listener import Event, listening
from tests.behaviour.service import TOKEN, Service
from tests.measuring import HANG, move_on

pytestmark = [pytest.mark.anyio, pytest.mark.row("B16")]

URL = "https://cdn.example.com/a.mp4"


async def test_a_reader_is_told_of_changes_from_now_on_as_get_gives_them(service: Service) -> None:
    old = await service.order(REVID.order())
    async with listening(service) as listener:
        assert listener.headers["content-type"].startswith("text/event-stream")
        new = await service.order(REVID.order())
        first, data = await listener.change()
        while data["state"] != "submitted":
            number, data = await listener.change()
            assert data["id"] == new["id"] != old["id"]
            assert number > first
        assert data == await service.task(new["id"])


async def test_a_reader_that_comes_back_gets_the_latest_state_of_all_that_it_missed(service: Service) -> None:
    first, second = [await service.order(REVID.order()) for _ in range(2)]
    kept, changed = first["id"], second["id"]
    async with listening(service) as listener:
        seen = int(listener.headers["last-event-id"])
    await service.call_back(changed, REVID.done(second["remote_id"], URL))
    third = (await service.order(REVID.order()))["id"]
    async with listening(service, seen) as listener:
        events = [await listener.change() for _ in range(2)]
        assert [(data["id"], data["state"]) for _, data in events] == [(changed, "succeeded"), (third, "submitted")]
        assert seen < events[0][0] < events[1][0]
        async with listening(service, 0) as all_over:
            assert [(await all_over.change())[1]["id"] for _ in range(3)] == [kept, changed, third]
        await service.call_back(kept, REVID.done(first["remote_id"], URL))
        number, data = await listener.change()
        assert (data["id"], data["state"]) == (kept, "succeeded")
        assert number > events[1][0]


async def test_a_number_from_the_future_is_answered_by_a_reset(service: Service) -> None:
    await service.order(REVID.order())
    for future in (10**6, 10**29):
        async with listening(service, future) as listener:
            reset = await listener.next()
            assert (reset.name, reset.number) == ("reset", int(listener.headers["last-event-id"]))
            new = await service.order(REVID.order())
            assert (await listener.change())[1]["id"] == new["id"]


async def test_a_sweep_forgets_what_is_long_past_and_who_asks_for_it_is_told(service: Service) -> None:
    await service.order(REVID.order())
    with service.database.connected() as connection:  # as if there had been very many changes since
        connection.execute("INSERT INTO feed (number, task_id) SELECT ?, id FROM task", (KEPT + 100,))
    await service.poll()
    assert service.database.rows("SELECT count(*) FROM feed WHERE number < 100") == [(0,)]
    async with listening(service, 1) as listener:
        assert (await listener.next()).name == "reset"
    async with listening(service, KEPT + 99) as listener:
        assert (await listener.change())[0] == KEPT + 100


@pytest.mark.parametrize("number", ["-1", "x", "1.5", "1" * 31, "٣"])
async def test_an_id_that_is_no_number_is_refused(service: Service, number: str) -> None:
    sent = {"Last-Event-ID": number.encode()}
    answer = await service.client.get("/api/events", headers=sent)  # type: ignore[arg-type]  # httpx takes bytes
    assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (422, ["header", "Last-Event-ID"])


async def test_unknown_parameters_are_refused_by_name(service: Service) -> None:
    answer = await service.client.get("/api/events?state=done&since=1")
    assert {error["loc"][1] for error in answer.json()["errors"]} == {"state", "since"}
    assert (await service.stranger.get("/api/events")).status_code == 401


async def test_a_reader_may_ask_for_some_states_and_one_account_only(service: Service) -> None:
    async with listening(service, query="state=succeeded&state=failed&provider=revid") as listener:
        task = await service.order(REVID.order())
        other = await service.order(APIXO.order())
        await service.call_back(other["id"], APIXO.done(other["remote_id"], URL))
        await service.call_back(task["id"], REVID.done(task["remote_id"], URL))
        _, data = await listener.change()
        assert (data["id"], data["state"]) == (task["id"], "succeeded")
        assert listener.silent()


async def test_a_comment_comes_when_nothing_else_does(service: Service) -> None:
    async with listening(service) as listener:
        assert await listener.next() == Event(None)
        for _ in range(2):
            await asyncio.sleep(0)
            comment = asyncio.create_task(listener.next())
            await patient(lambda: comment.done())  # noqa: B023, PLW0108 - it is the one of this turn
            assert comment.result() == Event(None)


async def patient(condition: Callable[[], bool]) -> None:
    """Let fifteen seconds pass until a condition holds."""
    async with asyncio.timeout(HANG * 1000):
        while not condition():
            await asyncio.sleep(0.01)
            move_on(15)


async def test_a_stop_ends_the_stream_in_order(service: Service) -> None:
    async with listening(service) as listener:
        service.app.state.services.stopping.set()
        await asyncio.wait_for(listener.ended.wait(), HANG)


async def test_a_session_may_read_until_it_ends(service: Service) -> None:
    transport = httpx.ASGITransport(service.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as browser:
        assert (await browser.post("/login", data={"password": TOKEN})).status_code == 303
        cookie = f"receiver_session={browser.cookies['receiver_session']}"
        form = (await browser.get("/")).text.partition('name="csrf" value="')[2].partition('"')[0]
        async with listening(service, authorization="", cookie=cookie) as listener:
            assert listener.status == 200
            assert (await browser.post("/logout", data={"csrf": form})).status_code == 303
            await patient(listener.ended.is_set)


# --- many readers, slow readers


class Counting(Store):
    """Counts what is read."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.reads = 0

    async def read(self, query: Any) -> Any:
        self.reads += 1
        return await super().read(query)


async def test_a_change_is_read_once_for_all_readers(service: Service) -> None:
    services = service.app.state.services
    store = Counting(services.settings.database)
    feed = Feed(dataclasses.replace(services, store=store))
    async with feed.reader(None) as first, feed.reader(None) as second:
        others = [feed.reader(None) for _ in range(50)]
        readers = [first, second, *[await each.__aenter__() for each in others]]
        waiting = [asyncio.create_task(reader.next(HANG)) for reader in readers]
        before = store.reads
        await service.order(REVID.order())
        found: list[list[Change]] = await asyncio.gather(*waiting)
        assert store.reads - before <= 10
        assert all(changes[0] is found[0][0] for changes in found)
        for each in others:
            await each.__aexit__(None, None, None)
    assert not feed._work, "nobody watches when nobody reads"
    await store.close()


async def test_a_reader_that_falls_far_behind_still_gets_the_latest_of_every_task(service: Service) -> None:
    feed: Feed = service.app.state.feed
    prompt = "x" * 300_000
    number = RECENT_BYTES // len(prompt) + 3
    async with feed.reader(None) as slow, feed.reader(None) as quick:
        ids, told = [], set()
        for _ in range(number):
            ids.append((await service.order(REVID.order(prompt, validate=False)))["id"])
            while ids[-1] not in told:
                told |= {change.task["id"] for change in await quick.next(HANG)}
        assert feed._recent_bytes <= RECENT_BYTES
        seen: dict[str, Change] = {}
        numbers = []
        while len(seen) < number:
            changes = await slow.next(HANG)
            numbers += [change.number for change in changes]
            seen |= {change.task["id"]: change for change in changes}
        assert numbers == sorted(set(numbers))
        assert list(seen) == ids
        assert seen[ids[0]].task == await service.task(ids[0])
