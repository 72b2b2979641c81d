"""A service under fire: callers order, providers call back, and somebody keeps killing it."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.behaviour.families import FAMILIES
from tests.measuring import HANG, Duration, Stopwatch, slowness
from tests.system.processes import Process, free_port, provider, service
from tests.torture import driver
from tests.torture.driver import CLIENTS, Driver, Letter
from tests.torture.witness import Ledger

DATABASE = Path("data") / "receiver.db"
KNOBS = ("", "callback=twice", "callback=drop", "submit=break", "result=fail", "submit=busy", "", "callback=early")
ACCOUNTS = ("apixo", "revid", "gateway", "rivya")
KEEPS = 100
"""Deliveries that are kept of a task; this many more letters to one task show that further ones are counted."""


@dataclass
class Restarts:
    """How often the service was stopped, and how long it took from each new start to its first answer."""

    url: str
    number: int = 0
    took: list[Duration] = field(default_factory=list)

    async def start(self, serving: Process) -> None:
        """Start it, and wait for its first answer 200."""
        watch = Stopwatch()
        await asyncio.to_thread(serving.spawn)
        async with httpx.AsyncClient(base_url=self.url, timeout=HANG, trust_env=False) as client:
            while True:
                assert serving.running is not None
                assert serving.running.poll() is None, serving.said()
                try:
                    answer = await client.get("/readyz")
                except httpx.TransportError:
                    await asyncio.sleep(0.01)
                    continue
                if answer.status_code == 200:
                    break
        self.took.append(watch.read())


@contextmanager
def running(directory: Path, **settings: str) -> Iterator[tuple[Process, Ledger, str]]:
    """Run the service beside the simulated provider, each a process; gives the service, the ledger and the URL."""
    port, provider_port = free_port(), free_port()
    selling = provider(directory, provider_port)
    serving = service(directory, port, provider_port, **driver.SETTINGS, **settings)
    selling.start()
    serving.start()
    try:
        yield serving, Ledger(directory / "ledger.jsonl"), f"http://127.0.0.1:{port}"
    finally:
        serving.kill()
        selling.kill()


def orders(number: int) -> list[dict[str, Any]]:
    """Spread orders with troubles of many kinds over the families."""
    return [
        FAMILIES[ACCOUNTS[n % len(ACCOUNTS)]].order(f"Boat {n} [sandbox: {KNOBS[n % len(KNOBS)]} after=1]")
        for n in range(number)
    ]


@dataclass
class Fire:
    """Orders and callbacks for a service that may be killed at any time."""

    driver: Driver
    ledger: Ledger
    chance: random.Random
    tasks: dict[str, str] = field(default_factory=dict)
    """The ids of the answered orders' tasks, by prompt."""
    sent: int = 0
    _known: list[Letter] = field(default_factory=list)

    async def order(self, wanted: list[dict[str, Any]]) -> None:
        """Submit everything, each order under its own key until it is answered."""
        waiting = list(reversed(wanted))

        async def client() -> None:
            while waiting:
                order = waiting.pop()
                prompt = order["input"]["prompt"]
                self.tasks[prompt] = await self.driver.order(order, prompt)

        await asyncio.gather(*(client() for _ in range(CLIENTS)))

    async def call_back(self, enough: Callable[[int], bool]) -> None:
        """Send callbacks about whatever was bought, each again and again, until the number sent is enough."""

        async def client() -> None:
            while not enough(self.sent):
                if not self._known:
                    await asyncio.sleep(0.05)
                    continue
                self.sent += 1
                await self.driver.deliver(self.chance.choice(self._known))

        reading = asyncio.create_task(self._read_ledger())
        try:
            await asyncio.gather(*(client() for _ in range(CLIENTS)))
        finally:
            reading.cancel()

    async def _read_ledger(self) -> None:
        unmatched = []
        while True:
            unmatched += self.ledger.new()
            rest = []
            for purchase in unmatched:
                task_id = self.tasks.get(purchase.prompt)
                if task_id is None:
                    rest.append(purchase)
                elif purchase.family != "rivya":
                    self._known += letters(purchase.family, task_id, purchase.id, purchase.prompt, purchase.video_url)
            unmatched = rest
            await asyncio.sleep(0.1)

    async def hammer(self, task_id: str, account: str, remote_id: str) -> None:
        """Send one task more callbacks than are kept of it."""
        one = driver.working(account, task_id, remote_id, "hammered")
        await self.driver.post([one] * (KEEPS + 20), self.chance)


def letters(account: str, task_id: str, remote_id: str, prompt: str, url: str) -> list[Letter]:
    """Write what a provider says of a purchase: that it works, and where that is so, that it is done."""
    said = [driver.working(account, task_id, remote_id, f"{remote_id}-works")]
    if "result=fail" not in prompt and "callback=drop" not in prompt:
        said.append(driver.done(account, task_id, remote_id, f"{remote_id}-done", url))
    return said


async def kill_again_and_again(
    serving: Process, restarts: Restarts, chance: random.Random, more: Callable[[int], bool], longest: float
) -> None:
    """Kill the service's process group with -9 at random moments of its life and of its start, and start it anew.

    On a slow machine it lives for longer, or it would come to nothing.
    """
    while more(restarts.number):
        await asyncio.sleep(chance.uniform(0.02, longest) * slowness())
        await asyncio.to_thread(serving.kill)
        restarts.number += 1
        if chance.random() < 0.2:
            await asyncio.to_thread(serving.spawn)
            await asyncio.sleep(chance.uniform(0.1, 0.8))
            await asyncio.to_thread(serving.kill)
            restarts.number += 1
        await restarts.start(serving)


async def all_of(*work: Awaitable[object]) -> None:
    """Do several things at once; the first fault ends them all."""
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(_awaited(one))


async def _awaited(work: Awaitable[object]) -> None:
    await work
