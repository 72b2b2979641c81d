"""The service is told to stop in the middle of everything: it answers what it took, sends nothing new, gives its
leases back, and is gone in time."""

import asyncio
import json
import signal
from collections import Counter
from pathlib import Path

import pytest

from receiver.services import clock
from receiver.tasks.poller import AT_ONCE
from tests.behaviour.families import FAMILIES
from tests.behaviour.provider import Exchange, hangs, says
from tests.measuring import HANG, Duration, Stopwatch, longest
from tests.torture import driver, witness
from tests.torture.clients import Load, coming_in, refuses_connections, stuck
from tests.torture.crowd import Crowd, crowd
from tests.torture.fire import DATABASE
from tests.torture.harness import Torture
from tests.torture.places import accepts, result_of

pytestmark = pytest.mark.anyio

STOP_SECONDS = 10.0
SECONDS = 5 * HANG
CONNECTIONS = 200
SIGNALS = (
    (signal.SIGTERM, signal.SIGINT),
    (signal.SIGTERM, signal.SIGTERM),
    (signal.SIGINT, signal.SIGINT),
    (signal.SIGTERM,),
)


@pytest.mark.row("G2")
async def test_a_stop_under_load_answers_what_it_took_and_stores_what_it_answered(
    tmp_path: Path, torture: Torture
) -> None:
    stops, counted = list[Duration](), Counter[str]()
    for number, signals in enumerate(SIGNALS[: torture.size(1, len(SIGNALS))]):
        directory = tmp_path / str(number)
        directory.mkdir()
        async with crowd(directory, 1, 0, RECEIVER_TIMEOUT="25") as running:
            load, took = await stop_under_load(running, signals, torture.size(100, 500))
        log = running.services[0].log.read_text()
        assert "Traceback" not in log, log
        assert "background_work_failed" not in log, log
        assert_stored_and_answered_agree(directory / DATABASE, load)
        torture.within(took, STOP_SECONDS)
        stops.append(took)
        counted.update(str(status) for status in load.answers.values())
        counted["cut_before_it_was_read"] += len(load.broken)
    torture.figures(longest_stop_s=longest(stops), **{f"answered_{name}": number for name, number in counted.items()})


async def stop_under_load(running: Crowd, signals: tuple[signal.Signals, ...], sockets: int) -> tuple[Load, Duration]:
    """Stop a service that has everything in flight; returns what was answered, and how long it took to go."""
    [serving], [driving] = running.services, running.drivers

    async def slowly(exchange: Exchange) -> None:
        await asyncio.sleep(0.2)
        await accepts(exchange)

    tasks = {mark: it for mark, it in (await running.order(12)).items() if it[0] != "rivya"}
    letters = [driver.working(*it, mark, f"{mark}-{n}") for n in range(800) for mark, it in tasks.items()]
    orders = [f"place-{n}" for n in range(1000, 2000)]
    running.scene.creates |= dict.fromkeys(orders, slowly) | dict.fromkeys(orders[-3:], hangs(stubborn=True))
    load = Load(driving.url)
    with stuck(driving.url, sockets):
        sending = [asyncio.create_task(load.call_back(letters)) for _ in range(CONNECTIONS)]
        sending += [asyncio.create_task(load.order(orders)) for _ in range(8)]
        await load.until(2 * CONNECTIONS)
        watch = Stopwatch()
        for number in signals:
            serving.send(number)
            await asyncio.sleep(0.2)  # the second one comes while it stops
        code = await asyncio.to_thread(serving.ended)
        took = watch.read()
        await asyncio.gather(*sending)
    assert code == 0
    return load, took


def assert_stored_and_answered_agree(database: Path, load: Load) -> None:
    """What was answered 200 or 201 is stored; what is stored was answered, if only that the service stops."""
    found = witness.look(database)
    stored = {mark for task in found.values() for mark in task.stored if mark}
    ordered = {task.prompt for task in found.values()}
    taken = {mark for mark, status in load.answers.items() if status in (200, 201)}
    assert not any(task.unstored for task in found.values()), "the row needs fewer callbacks to one task"
    assert taken <= stored | ordered
    unanswered = (stored | ordered) & set(load.broken)
    assert not unanswered, f"taken, and not answered: {unanswered}"
    assert set(load.answers.values()) <= {200, 201, 503}
    for task in found.values():
        assert task.state != "submitting", task
        assert task.lease is None, task


@pytest.mark.row("G2")
async def test_nothing_new_leaves_after_the_signal_and_the_next_start_sends_it(
    tmp_path: Path, torture: Torture
) -> None:
    """As many orders as may be are on the wire, more wait for their turn, and one is just coming in."""
    number, at_once, release = AT_ONCE + 12, asyncio.Semaphore(0), asyncio.Event()
    waiting = [f"place-{n}" for n in range(number)]

    async def hold(exchange: Exchange) -> None:
        at_once.release()
        await release.wait()
        await accepts(exchange)

    settings = {"RECEIVER_TIMEOUT": "25", "RECEIVER_POLLER": "off"}
    async with crowd(tmp_path, 1, 0, **settings) as running, asyncio.timeout(SECONDS):
        [serving], [driving], scene = running.services, running.drivers, running.scene
        scene.creates |= dict.fromkeys(waiting, says({"message": "busy"}, 429, Retry_After="1"))
        for mark in waiting:
            await driving.order(FAMILIES["revid"].order(mark), mark)
        scene.creates |= dict.fromkeys([*waiting, "place-99"], hold)
        not_due = "SELECT 1 FROM task WHERE next_check_at > ?"
        while scene.database.rows(not_due, clock()):  # noqa: ASYNC110 - time has to pass
            await asyncio.sleep(0.05)
        sweeping = asyncio.create_task(Load(driving.url).sweep())
        for _ in range(AT_ONCE):
            await at_once.acquire()
        async with coming_in(driving.url, json.dumps(FAMILIES["revid"].order("place-99")).encode()) as order:
            bought = len(scene.provider.bought())
            serving.send(signal.SIGTERM)
            await refuses_connections(driving.url)
            answer = await order.finish()
            release.set()
            await sweeping
            code = await asyncio.to_thread(serving.ended)
        assert code == 0
        sent_after = len(scene.provider.bought()) - bought
        assert sent_after == 0, "orders left after the signal"
        left = witness.look(tmp_path / DATABASE).values()
        assert answer.startswith((b"HTTP/1.1 201 ", b"HTTP/1.1 503 ")), answer
        assert len(left) == number + 1 or (len(left) == number and b" 503 " in answer)
        states = Counter(task.state for task in left)
        assert states["queued"] == len(left) - AT_ONCE, states
        assert states["submitted"] + states["unconfirmed"] == AT_ONCE, states  # as many as were answered in time
        assert all(task.lease is None for task in left)
        serving.environ = {**serving.environ, "RECEIVER_POLLER": "on"}
        await asyncio.to_thread(serving.start)
        cut = [task for task in left if task.state == "unconfirmed"]
        await driving.post(
            [driver.done("revid", it.id, it.prompt, "", result_of(it.prompt)) for it in cut], torture.random
        )
        await driving.all_settled(SECONDS)
        assert serving.stop() == 0
    found = witness.look(tmp_path / DATABASE)
    witness.assert_each_ended_once(found)
    assert Counter(task.state for task in found.values()) == {"succeeded": len(left)}
    assert len(scene.provider.bought()) == bought + len(left) - AT_ONCE, "each was bought once"
    torture.figures(sent_after_the_signal=sent_after)
