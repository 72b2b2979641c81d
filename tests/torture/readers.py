"""Readers of the feed, as clients are: they read for as long as they can, and come back with the last id they saw."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.measuring import HANG
from tests.torture.driver import AGAIN, TOKEN

HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@dataclass
class Reader:
    """Reads the feed from the services at these addresses in turn: the next one whenever a connection ends."""

    urls: list[str]
    last: int | None = None
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The latest document of each task."""
    events: int = 0
    connections: int = 0
    is_open: bool = False
    """A service has taken it on: from now on it is told of every change."""
    told: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> None:
        """Read until cancelled."""
        async with httpx.AsyncClient(trust_env=False, timeout=HANG) as client:
            while True:
                url = self.urls[self.connections % len(self.urls)]
                self.connections += 1
                with contextlib.suppress(httpx.TransportError):
                    await self._read(client, url)
                await asyncio.sleep(AGAIN)

    async def _read(self, client: httpx.AsyncClient, url: str) -> None:
        position = {} if self.last is None else {"Last-Event-ID": str(self.last)}
        async with client.stream("GET", f"{url}/api/events", headers=HEADERS | position) as answer:
            if answer.status_code != 200:
                return
            self.is_open = True
            fields: dict[str, str] = {}
            async for line in answer.aiter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "event" in fields:
                    self._take(fields)
                    fields = {}

    def _take(self, fields: dict[str, str]) -> None:
        assert fields["event"] == "task", fields
        number = int(fields["id"])
        assert self.last is None or number > self.last, "numbers only grow, whichever service tells them"
        self.last = number
        task = json.loads(fields["data"])
        self.seen[task["id"]] = task
        self.events += 1
        self.told.set()

    async def until_seen(self, tasks: dict[str, dict[str, Any]]) -> None:
        """Wait until the latest that it saw of each task is this."""
        async with asyncio.timeout(HANG):
            while {task_id: self.seen.get(task_id) for task_id in tasks} != tasks:
                self.told.clear()
                await self.told.wait()


@contextlib.asynccontextmanager
async def reading(*readers: Reader) -> AsyncIterator[None]:
    """Let them read meanwhile; what one of them found wrong ends it all."""
    running = [asyncio.create_task(reader.read()) for reader in readers]
    try:
        yield
    finally:
        for task in running:
            if task.done():
                task.result()
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
