"""The service is killed at any step between a task's end and its receiver's answer: every message arrives, under one id
and with the same bytes."""

import asyncio
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from receiver.notifications.sender import AT_ONCE_PER_HOST
from tests.behaviour.families import REVID
from tests.behaviour.service import Stage, staged
from tests.measuring import HANG, until
from tests.notifications.receiver import OK, Received, Receiver
from tests.notifications.rig import SECRET, URL, send_due, until_delivered
from tests.system import postgres
from tests.torture import driver, witness
from tests.torture.crowd import Crowd, crowd
from tests.torture.fire import DATABASE
from tests.torture.harness import Torture

pytestmark = pytest.mark.anyio

LEASE = 21.001
"""Seconds after which a dead service's messages are sent by whoever looks then."""
SECONDS = 20 * HANG


@pytest.mark.row("B9")
async def test_a_kill_after_any_commit_and_at_the_receiver_loses_no_message(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, torture: Torture
) -> None:
    """What is committed at a moment is what a kill leaves then: another service goes on with a copy of it."""
    async with Receiver().serving() as application, staged(tmp_path, tmp_path_factory) as stage:
        first, remains = await live_once(stage, application)
        states = [await go_on(place, application, first) for place in remains]
    assert states == sorted(states, reverse=True), "once it was delivered, it stays so"
    assert states.count("waiting") >= 4, "written, claimed, its body kept, at the receiver"
    assert "delivered" in states
    torture.figures(killed_at=len(states))


async def live_once(stage: Stage, application: Receiver) -> tuple[Received, list[Stage]]:
    """Let a task end and its message be delivered; returns it, and what was committed at each moment since the end."""
    remains: list[Stage] = []

    def take() -> None:
        place = stage.beside(f"killed-{len(remains)}")
        service.database.image(place.directory / "receiver.db")
        remains.append(place)

    async def at_the_receiver(exchange: Any) -> None:
        take()
        await OK(exchange)
        take()

    async with stage.serve(NOTIFY_URL=application.url, NOTIFY_SECRETS=SECRET) as service:
        task = await service.order(REVID.order())
        store = service.app.state.services.store
        write = store.write

        async def write_and_take(unit: Any) -> Any:
            result = await write(unit)
            if service.database.rows("SELECT 1 FROM notification"):
                take()
            return result

        store.write = write_and_take
        application.answers(at_the_receiver, OK)
        await service.call_back(task["id"], REVID.done(task["remote_id"], URL))
        (received,) = await application.until_received(1)
        await until_delivered(service)
    return received, remains


async def go_on(place: Stage, application: Receiver, first: Received) -> str:
    """Start a service on what a kill left; returns the message's state then, after it was delivered in the end."""
    before = len(application.received)
    async with place.serve(NOTIFY_URL=application.url, NOTIFY_SECRETS=SECRET) as service:
        ((state, kept),) = service.database.rows("SELECT state, body FROM notification")
        place.clock.advance(LEASE)
        await send_due(service)
        if state == "delivered":
            assert len(application.received) == before, "it was delivered, and is sent again"
            return str(state)
        await application.until_received(before + 1)
        await until_delivered(service)
    again = application.received[-1]
    assert again.id == first.id, "a repeat has the id of its message"
    if kept is not None:
        assert again.body == first.body
    return str(state)


@pytest.mark.row("B9")
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_of_many_messages_none_is_lost_while_their_senders_are_killed(
    tmp_path: Path, torture: Torture, kind: str
) -> None:
    if not torture.full:
        pytest.skip("at full size only: dead leases are waited for; the copies after each commit stand for it")
    if kind == "postgresql" and postgres.binaries() is None:
        pytest.skip("SKIPPED, NOT TESTED: no PostgreSQL binaries")
    with ExitStack() as stack:
        url = stack.enter_context(postgres.server()) if kind == "postgresql" else None
        await kill_senders(tmp_path, torture, 5000, {"RECEIVER_DATABASE_URL": url} if url else {})


async def kill_senders(directory: Path, torture: Torture, number: int, settings: dict[str, str]) -> None:
    """Let two services tell of so many tasks, and kill one of them again and again just when messages arrive."""
    async with Receiver().serving() as application:
        settings |= {"RECEIVER_NOTIFY_URL": application.url, "RECEIVER_POLLER": "off"}
        async with crowd(directory, 2, 0, **settings) as running, asyncio.timeout(SECONDS):
            tasks = await order(running, number)
            letters = [driver.done("revid", task_id, mark, mark, URL) for mark, task_id in tasks.items()]
            killing = asyncio.create_task(kill_at_arrivals(running, application, number))
            await running.drivers[0].post(letters, torture.random)
            await until(lambda: len({it.json["data"]["id"] for it in application.received}) == number, SECONDS)
            kills = await killing
            await all_delivered(running)
            assert [serving.stop() for serving in running.services] == [0, 0]
    by_id: dict[str, set[bytes]] = defaultdict(set)
    for received in application.received:
        by_id[received.id].add(received.body)
    repeats = len(application.received) - len(by_id)
    assert len(by_id) == number, "each message has one id"
    assert all(len(bodies) == 1 for bodies in by_id.values()), "a repeat has the bytes of the first try"
    assert repeats <= kills * AT_ONCE_PER_HOST, "only those are sent again whose answers a kill lost"
    torture.figures(messages=number, kills=kills, lost=0, sent_again=repeats)
    if "RECEIVER_DATABASE_URL" not in settings:
        witness.assert_each_ended_once(witness.look(directory / DATABASE))


async def order(running: Crowd, number: int) -> dict[str, str]:
    """Order so many tasks of one account; returns their ids by mark."""
    tasks: dict[str, str] = {}
    waiting = list(range(number))

    async def client() -> None:
        while waiting:
            mark = f"place-{waiting.pop()}"
            tasks[mark] = await running.drivers[0].order(REVID.order(mark), mark)

    await asyncio.gather(*(client() for _ in range(driver.CLIENTS)))
    return tasks


async def kill_at_arrivals(running: Crowd, application: Receiver, number: int) -> int:
    """Kill one service at every fortieth part of the messages, and start it again; returns how often."""
    kills = 0
    for part in range(1, 40):
        await application.until(lambda part=part: len(application.received) >= part * number // 40)  # type: ignore[misc]
        dying = running.services[part % 2]
        await asyncio.to_thread(dying.kill)
        await asyncio.to_thread(dying.start)
        kills += 1
    return kills


async def all_delivered(running: Crowd) -> None:
    """Wait until every message is recorded as delivered."""
    while True:
        answer = await running.drivers[0].ask("GET", "/api/notifications", params={"state": "waiting"})
        if not answer.json()["notifications"]:
            return
        await asyncio.sleep(0.2)
