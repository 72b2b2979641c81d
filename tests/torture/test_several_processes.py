"""Several processes on one database, and callbacks from everywhere at once: each task is asked about by one at a time,
moves once, and is left behind by nobody."""

import asyncio
import itertools
import random
import signal
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.behaviour.families import CALLING_BACK, FAMILIES
from tests.behaviour.provider import Exchange, family_of, says, slams
from tests.measuring import HANG, until
from tests.system import postgres
from tests.system.processes import Process
from tests.torture import driver, witness
from tests.torture.crowd import crowd
from tests.torture.driver import Driver, Letter
from tests.torture.fire import DATABASE
from tests.torture.harness import Torture
from tests.torture.places import Scene, accepts, asked_id, finds_it_done, finds_it_working, mark_of, result_of, was_read
from tests.torture.stopped import until_still
from tests.torture.witness import Found

pytestmark = pytest.mark.anyio


AT_ONCE = 40
"""Orders that wait for their answers; the callbacks before these need connections, too."""


def patience(torture: Torture) -> float:
    """Give up what takes longer."""
    return torture.size(10, 20) * HANG


# --- B1: the same callbacks over and over


@pytest.mark.row("B1")
async def test_the_same_callback_from_many_clients_counts_once_also_beside_checks(
    tmp_path: Path, torture: Torture
) -> None:
    async with crowd(tmp_path, 1, 0, RECEIVER_CALLBACK_GRACE="0") as running, asyncio.timeout(patience(torture)):
        tasks = await running.order(torture.size(80, 1336))  # a quarter is at Rivya, which never calls back
        told = {mark: it for mark, it in tasks.items() if it[0] != "rivya"}
        letters = [driver.done(*it, mark, mark, result_of(mark)) for mark, it in told.items()]
        await running.drivers[0].post(letters * 5, torture.random)
        await running.drivers[0].all_settled(patience(torture))
        assert running.services[0].stop() == 0
        acked = running.drivers[0].acknowledged()
    found = witness.look(tmp_path / DATABASE)
    assert_all_succeeded_once(found, running.scene)
    assert acked == Counter({(it[1], mark): 5 for mark, it in told.items()})
    assert witness.lost(found, acked) == []
    assert all(found[it[1]].stored == {mark: 5} for mark, it in told.items()), "each is stored as often as it came"
    checks = sum(task.checks for task in found.values())
    torture.figures(tasks=len(found), callbacks=acked.total(), checks_beside_them=checks)


def assert_all_succeeded_once(tasks: dict[str, Found], scene: Scene) -> None:
    """Every order was bought once, and moved once into its final state, with the provider's own result."""
    witness.assert_each_ended_once(tasks)
    for task in tasks.values():
        assert (task.state, task.outputs) == ("succeeded", [result_of(task.prompt)]), task
        assert (task.remote_id, task.attempts, len(scene.bought[task.prompt])) == (task.prompt, 1, 1), task


# --- B3: the callback comes before the answer


@pytest.mark.row("B3")
async def test_a_callback_before_the_answer_finds_its_task_also_where_the_answer_is_lost(
    tmp_path: Path, torture: Torture
) -> None:
    number, chance = torture.size(40, 500), torture.random
    seconds = 2.0 if torture.full else 0.5
    lost: set[str] = set()
    async with crowd(tmp_path, 1, 0) as running, asyncio.timeout(patience(torture)):

        async def early(exchange: Exchange) -> None:
            url, mark = exchange.request.callback_url, mark_of(exchange.request)
            assert url is not None
            body = driver.done(exchange.request.account, "", mark, mark, result_of(mark)).body
            delivered = running.drivers[0].deliver(Letter(mark, urlsplit(url).path, mark, body))
            wait = chance.uniform(0, seconds)
            await asyncio.gather(delivered, asyncio.sleep(wait))
            if chance.random() < 0.1:
                lost.add(mark)
                await slams()(exchange)
            else:
                await accepts(exchange)

        running.scene.creates.update({f"place-{n}": early for n in range(number)})
        orders = [CALLING_BACK[n % len(CALLING_BACK)].order(f"place-{n}") for n in range(number)]
        gate = asyncio.Semaphore(AT_ONCE)

        async def order(one: dict[str, Any]) -> None:
            async with gate:
                await running.drivers[0].order(one, one["input"]["prompt"])

        await asyncio.gather(*map(order, orders))
        await running.drivers[0].all_settled(patience(torture))
        assert running.services[0].stop() == 0
        without_a_task = running.scene.database.rows("SELECT count(*) FROM delivery WHERE task_id IS NULL")
    found = witness.look(tmp_path / DATABASE)
    assert_all_succeeded_once(found, running.scene)
    assert without_a_task == [(0,)]
    assert all(task.stored == {task.prompt: 1} for task in found.values())
    torture.figures(callbacks_before_the_answer=len(found), answers_lost=len(lost))


# --- B4: two services and three polls


@pytest.mark.row("B4")
async def test_two_services_and_three_polls_ask_about_no_task_twice_at_once(tmp_path: Path, torture: Torture) -> None:
    asked = await ask_from_everywhere(tmp_path, torture, 3)
    assert_asked_one_at_a_time(witness.look(tmp_path / DATABASE), asked, torture)


@pytest.mark.row("B4")
@pytest.mark.skipif(postgres.binaries() is None, reason="PostgreSQL is not installed")
async def test_the_same_holds_on_postgresql(tmp_path: Path, torture: Torture) -> None:
    with postgres.server() as database:
        asked = await ask_from_everywhere(tmp_path, torture, torture.size(1, 3), RECEIVER_DATABASE_URL=database)
        assert_asked_one_at_a_time(witness.look_at_server(database), asked, torture)


Asked = dict[str, list[tuple[int, int]]]
"""Of each question about a task, the numbers of two events: its request has arrived, its answer ends."""


async def ask_from_everywhere(directory: Path, torture: Torture, polls: int, **settings: str) -> Asked:
    """Let two services and so many polls ask about the same tasks, thrice each, while callbacks come, too."""
    chance: random.Random = torture.random
    events = itertools.count()
    asked: Asked = defaultdict(list)

    async def slowly(exchange: Exchange) -> None:
        task, began = asked_id(exchange.request), next(events)
        await asyncio.sleep(chance.uniform(0.05, 0.3))
        await (finds_it_done if len(asked[task]) >= 2 else finds_it_working)(exchange)
        asked[task].append((began, next(events)))

    number = torture.size(24, 1000)
    async with crowd(directory, 2, polls, **settings) as running, asyncio.timeout(patience(torture)):
        running.scene.checks.update({f"place-{n}": slowly for n in range(number)})
        tasks = await running.order(number)
        told = [driver.working(*it, mark, mark) for mark, it in tasks.items() if it[0] != "rivya"]
        await asyncio.gather(*(driving.post(told, chance) for driving in running.drivers))
        await running.drivers[1].all_settled(patience(torture))
        assert [serving.stop() for serving in running.services] == [0, 0]
    return asked


def assert_asked_one_at_a_time(tasks: dict[str, Found], asked: Asked, torture: Torture) -> None:
    """No request arrived about a task before the one before it was answered, and each has its row."""
    witness.assert_each_ended_once(tasks)
    by_prompt = {task.prompt: task for task in tasks.values()}
    assert len(by_prompt) == len(tasks) == torture.size(24, 1000)
    twice = 0
    for mark, task in by_prompt.items():
        times = sorted(asked[mark])
        twice += sum(later[0] < earlier[1] for earlier, later in itertools.pairwise(times))
        assert (task.state, task.attempts) == ("succeeded", 1), task
        assert task.checks == len(times), (task, times)
    assert twice == 0, f"{twice} requests about a task that was just being asked about"
    torture.figures(tasks=len(tasks), status_requests=sum(map(len, asked.values())), at_once=twice)


# --- B6: a process that comes back from the dead


@pytest.mark.row("B6")
async def test_a_process_that_was_stopped_beyond_its_leases_writes_nothing_over(
    tmp_path: Path, torture: Torture
) -> None:
    number, beyond = torture.size(2, 8), 30.0 if torture.full else 0.0
    settings = {"RECEIVER_TIMEOUT": "3", "RECEIVER_CALLBACK_GRACE": "5"}
    async with crowd(tmp_path, 2, 0, **settings) as running, asyncio.timeout(patience(torture)):
        late, other = running.services
        other.send(signal.SIGSTOP)
        stand = Standstill(running.scene, number)
        through_late = asyncio.create_task(stand.begin(running.drivers[0]))
        await stand.stop(late)
        other.send(signal.SIGCONT)
        await stand.until_taken_over()
        await asyncio.sleep(beyond)  # the length that the row is about: nothing is awaited here
        late.send(signal.SIGCONT)
        tasks = await through_late
        assert (await running.drivers[0].ask("GET", "/readyz")).status_code == 200  # what it held back is written
        stand.truth = finds_it_done
        letters = [driver.done("apixo", tasks[mark], mark, mark, result_of(mark)) for mark in stand.bought]
        await running.drivers[1].post(letters, torture.random)
        await running.drivers[1].all_settled(patience(torture))
        assert [late.stop(), other.stop()] == [0, 0]
    found = witness.look(tmp_path / DATABASE)
    assert_all_succeeded_once(found, running.scene)
    assert all(found[tasks[mark]].cut_off for mark in stand.bought), "they were taken over"
    torture.figures(leases=2 * number, seconds_beyond_the_lease=beyond)


class Standstill:
    """A service that stands still just when it has read its answers and cannot write them down.

    It holds the leases of some orders that it hands over, and of some that it asks about: of these it was told that
    they failed, and everybody who asks later hears that they go on.
    """

    def __init__(self, scene: Scene, number: int) -> None:
        self.bought = [f"place-{n}" for n in range(number)]
        self.asked = [f"place-{n}" for n in range(number, 2 * number)]
        self.truth = finds_it_working
        self._scene = scene
        self._held: list[Exchange] = []
        self._arrived = asyncio.Semaphore(0)
        self._over = asyncio.Event()
        scene.creates.update(dict.fromkeys(self.bought, self._hold))
        scene.checks.update(dict.fromkeys(self.asked, self._hold))

    async def begin(self, driving: Driver) -> dict[str, str]:
        """Order everything, and ask about one half; gives the tasks' ids by mark, when it answers again."""
        tasks = {mark: await driving.order(FAMILIES["revid"].order(mark), mark) for mark in self.asked}
        ordering = [driving.order(FAMILIES["apixo"].order(mark), mark) for mark in self.bought]
        checking = [driving.ask("POST", f"/api/tasks/{it}/check") for it in tasks.values()]
        answered, _ = await asyncio.gather(asyncio.gather(*ordering), asyncio.gather(*checking))
        return tasks | dict(zip(self.bought, answered, strict=True))

    async def stop(self, late: Process) -> None:
        """Answer everything while the database is locked, and stop the service when it has read that."""
        for _ in (*self.bought, *self.asked):
            await self._arrived.acquire()
        async with self._scene.locked():
            for exchange in self._held:
                request = exchange.request
                if request.kind == "create":
                    await accepts(exchange)
                else:
                    await says(family_of(request.account).failed(asked_id(request)))(exchange)
            await asyncio.gather(*map(was_read, self._held))
            late.send(signal.SIGSTOP)
            await until_still(late)  # before the lock is given back, which it would else take with it
        self._over.set()

    async def until_taken_over(self) -> None:
        """Wait until another process has resolved what was handed over, and asked about the rest."""
        states = {"unconfirmed": self.bought, "running": self.asked}
        for state, marks in states.items():
            for mark in marks:
                query = "SELECT 1 FROM task WHERE prompt = ? AND state = ?"
                await until(partial(self._scene.database.rows, query, mark, state))

    async def _hold(self, exchange: Exchange) -> None:
        if self._over.is_set():
            await self.truth(exchange)
            return
        self._held.append(exchange)
        self._arrived.release()
        await self._over.wait()
