"""The service is killed at each place in a submission's life: the provider charges for no order twice, what is unclear
says so and is never sent again, and everything comes to an end."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.behaviour.families import FAMILIES
from tests.behaviour.provider import Provider, family_of
from tests.behaviour.service import Database
from tests.system.processes import free_port, service
from tests.torture import driver, witness
from tests.torture.driver import Driver
from tests.torture.fire import DATABASE, Restarts
from tests.torture.harness import Torture
from tests.torture.places import DEAD, PLACES, Scene, deaf_port, result_of
from tests.torture.witness import Found

pytestmark = pytest.mark.anyio

TIMES = {
    "RECEIVER_TIMEOUT": "3",
    "RECEIVER_CALLBACK_GRACE": "0.3",
    "RECEIVER_POLL_AFTER": "0.3",
    "RECEIVER_POLL_EVERY": "0.3",
    "RECEIVER_POLL_MAX": "1",
}
SECONDS = 1200.0
ASKED = "asked about"
"""The place that is never reached where a callback has settled the task before."""


@dataclass
class Rounds:
    """One kill after the other; every second order's callback is sent once the service is back."""

    scene: Scene
    driver: Driver
    restarts: Restarts
    tasks: dict[str, str] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)

    async def play(self, names: list[str]) -> None:
        """Kill once at each of these places."""
        async with asyncio.TaskGroup() as ordering:
            for number, name in enumerate(names):
                place, accounts = PLACES[name]
                mark, account = f"place-{number}", accounts[number // len(PLACES) % len(accounts)]
                waiting = asyncio.create_task(place(self.scene, mark))
                await asyncio.sleep(0)  # it has set its trap
                ordering.create_task(self._order(account, mark, tell=number % 2 == 0 and name != ASKED))
                await waiting
                await asyncio.to_thread(self.scene.serving.kill)
                self.restarts.number += 1
                await self.restarts.start(self.scene.serving)

    async def _order(self, account: str, mark: str, *, tell: bool) -> None:
        order = family_of(account).order(mark) | {"provider": account}
        task_id = self.tasks[mark] = await self.driver.order(order, mark)
        if tell and self.scene.bought[mark] and account not in {"rivya", DEAD}:
            self.told.add(mark)
            await self._until_it_is_unclear(task_id)
            await self.driver.deliver(driver.done(account, task_id, mark, mark, result_of(mark)))

    async def _until_it_is_unclear(self, task_id: str) -> None:
        """Wait until nobody holds the submission any more: what the kill left behind is resolved."""
        state = "submitting"
        while state in ("queued", "submitting"):
            await asyncio.sleep(0.1)
            state = (await self.driver.ask("GET", f"/api/tasks/{task_id}")).json()["state"]


@asynccontextmanager
async def rounds(directory: Path, deadline: str) -> AsyncIterator[Rounds]:
    """Run a service whose provider is here, with one account more, at which no request ever leaves."""
    provider = Provider()
    with deaf_port() as deaf:
        async with provider.serving():
            port = free_port()
            more = {"GATEWAY_DEAD_API_KEY": "a-key", "GATEWAY_DEAD_BASE_URL": f"http://127.0.0.1:{deaf}"}
            settings = driver.SETTINGS | TIMES | more | {"RECEIVER_DEADLINE": deadline}
            serving = service(directory, port, int(provider.url.rpartition(":")[2]), **settings)
            scene = Scene(serving, provider, Database(directory / DATABASE))
            scene.open()
            url = f"http://127.0.0.1:{port}"
            async with Driver(url, directory / "acked.log") as driving:
                await asyncio.to_thread(serving.start)
                try:
                    yield Rounds(scene, driving, Restarts(url))
                finally:
                    serving.kill()


@pytest.mark.row("A2")
async def test_a_kill_at_any_place_buys_nothing_twice_and_leaves_nothing_behind(
    tmp_path: Path, torture: Torture
) -> None:
    names = shuffled(torture.random, torture.size(1, 25))
    async with rounds(tmp_path, "30" if torture.full else "10") as played, asyncio.timeout(SECONDS):
        await played.play(names)
        await played.driver.all_settled(SECONDS)
        assert played.scene.serving.stop() == 0
    tasks = {task.prompt: task for task in witness.look(tmp_path / DATABASE).values()}
    witness.assert_each_ended_once(tasks)
    assert {mark: task.id for mark, task in tasks.items()} == played.tasks
    charges = {mark: len(played.scene.bought[mark]) for mark in tasks}
    assert max(charges.values()) <= 1, charges
    for number, name in enumerate(names):
        assert_ended_right(name, tasks[f"place-{number}"], played, charges)
    torture.figures(
        places=len(PLACES),
        kills=played.restarts.number,
        charges=sum(charges.values()),
        twice=sum(number > 1 for number in charges.values()),
        unconfirmed=sum(task.cut_off for task in tasks.values()),
        settled_by_their_callbacks=len(played.told),
    )


def shuffled(chance: random.Random, times: int) -> list[str]:
    """Every place so many times, each block in an order of its own."""
    return [name for _ in range(times) for name in chance.sample(list(PLACES), len(PLACES))]


def assert_ended_right(name: str, task: Found, played: Rounds, charges: Mapping[str, int]) -> None:
    """An order that may have been received is unclear until its callback or its deadline, and never sent again."""
    assert not any(before == "unconfirmed" and to in ("queued", "submitting") for before, to in task.moves), task
    assert task.attempts == (2 if name == "repeated" else 1), (name, task)
    if task.prompt in played.told:
        assert (task.state, task.remote_id) == ("succeeded", task.prompt), (name, task)
    elif task.remote_id is None:
        assert task.cut_off, (name, task)
        assert task.state == "expired", (name, task)
    else:
        assert (task.state, task.remote_id, charges[task.prompt]) == ("succeeded", task.prompt, 1), (name, task)
    if name in ("request arrived", "answer read", "repeated", "attempt committed"):
        assert task.cut_off, (name, task)
    assert task.provider == DEAD or task.provider in FAMILIES
