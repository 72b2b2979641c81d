"""Several real processes on one database, beside a provider that the tests script."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.behaviour.families import FAMILIES
from tests.behaviour.provider import Provider
from tests.behaviour.service import Database
from tests.system.processes import Process, free_port, service
from tests.torture import driver
from tests.torture.driver import CLIENTS, Driver
from tests.torture.fire import DATABASE
from tests.torture.places import Scene

TIMES = {
    "RECEIVER_TIMEOUT": "10",
    "RECEIVER_DEADLINE": "600",
    "RECEIVER_CALLBACK_GRACE": "0.5",
    "RECEIVER_POLL_AFTER": "0.5",
    "RECEIVER_POLL_EVERY": "0.5",
    "RECEIVER_POLL_MAX": "0.5",
}


@dataclass
class Crowd:
    """Services on one database, each with a driver of its own, and three `receiver poll`, where there are some."""

    scene: Scene
    services: list[Process]
    drivers: list[Driver]

    async def order(self, number: int) -> dict[str, tuple[str, str]]:
        """Order so many tasks, spread over families and services; gives each one's account and id, by its mark."""
        tasks: dict[str, tuple[str, str]] = {}
        waiting = list(range(number))

        async def client() -> None:
            while waiting:
                n = waiting.pop()
                family = list(FAMILIES.values())[n % len(FAMILIES)]
                mark = f"place-{n}"
                driving = self.drivers[n % len(self.drivers)]
                tasks[mark] = family.name, await driving.order(family.order(mark), mark)

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        return tasks


@asynccontextmanager
async def crowd(directory: Path, services: int, polls: int, **settings: str) -> AsyncIterator[Crowd]:
    """Run processes on one database, and their provider here."""
    provider, processes, drivers = Provider(), [], []
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(provider.serving())
        for number in range(services):
            port = free_port()
            serving = service(
                directory, port, int(provider.url.rpartition(":")[2]), **driver.SETTINGS, **TIMES | settings
            )
            serving.log = directory / f"service-{number}.log"
            await asyncio.to_thread(serving.start)
            stack.callback(serving.kill)
            driving = Driver(f"http://127.0.0.1:{port}", directory / f"acked-{number}.log")
            drivers.append(await stack.enter_async_context(driving))
            processes.append(serving)
        for number in range(polls):
            polling = Process(["poll", "--every", "1"], processes[0].environ, directory / f"poll-{number}.log", "")
            polling.spawn()
            stack.callback(polling.kill)
        scene = Scene(processes[0], provider, Database(directory / DATABASE))
        scene.open()
        yield Crowd(scene, processes, drivers)
