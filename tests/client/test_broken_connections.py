"""A connection that breaks at any byte between the Python client and a real service: nothing is bought twice, and no
file is less than whole."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from receiver.client import AsyncClient, Task
from tests.cli.rig import QUICK, Home, serving
from tests.measuring import FRESH, HANG
from tests.torture.harness import Torture

from .rig import Asked, Break, Fake, head

PASSED_ON = ("content-type", "content-range", "content-disposition", "etag", "last-event-id")
BREAKS = 3
"""How often in a row a request is broken, at most."""
AT_ONCE = 8


class Relay:
    """Passes each request on to the service, and breaks most answers somewhere."""

    def __init__(self, home: Home, torture: Torture) -> None:
        self._http = httpx.Client(base_url=home.url, trust_env=False, timeout=HANG, limits=FRESH)
        self._chance = torture.random
        self._in_a_row: dict[str, int] = {}
        self.broken = 0

    def __call__(self, asked: Asked, _: int) -> Iterator[bytes | Break]:
        answered = self._http.request(
            asked.method,
            f"{asked.path}?{urlencode(asked.query)}",
            content=asked.body,
            headers={name: value for name, value in asked.headers.items() if name not in ("host", "content-length")},
        )
        status = f"{answered.status_code} {answered.reason_phrase}"
        headers = {name: answered.headers[name] for name in PASSED_ON if name in answered.headers}
        whole = head(status, Content_Length=str(len(answered.content)), **headers) + answered.content
        same = f"{asked.method} {asked.path} {asked.headers.get('idempotency-key')}"
        breaks = self._in_a_row.get(same, 0)
        if breaks >= BREAKS or self._chance.random() < 0.2:
            self._in_a_row.pop(same, None)
            yield whole
            return
        self._in_a_row[same] = breaks + 1
        self.broken += 1
        yield whole[: self._chance.randrange(len(whole))]
        yield Break()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """The home of a running service."""
    home = Home(tmp_path, dict(QUICK))
    with serving(home):
        yield home


async def all_of(number: int, one: Callable[[int], Any]) -> list[Any]:
    """Do as much, some at once."""
    places = asyncio.Semaphore(AT_ONCE)

    async def in_its_turn(each: int) -> Any:
        async with places:
            return await one(each)

    return await asyncio.gather(*map(in_its_turn, range(number)))


@pytest.mark.row("B19")
def test_orders_whose_answers_are_lost_are_bought_once_and_their_files_are_whole(home: Home, torture: Torture) -> None:
    number, relay = torture.size(8, 300), Relay(home, torture)

    async def go(url: str) -> tuple[list[Task], list[list[Path]]]:
        async with AsyncClient(url, home.token(), patience=HANG, timeout=HANG) as client:

            async def order(each: int) -> Task:
                prompt = {"prompt": f"{each} [sandbox: after=0.1]"}
                key = None if each % 2 else f"order-{each}"
                return await client.submit("revid", "sora-2-text-to-video", prompt, key=key, wait=HANG)

            tasks = await all_of(number, order)
            return tasks, await all_of(number, lambda each: client.download(tasks[each], home.directory / f"{each}"))

    with Fake(relay).serving() as fake:
        tasks, files = asyncio.run(go(fake.url))
    with home.client() as client:
        bought = client.get("/sandbox/ledger").json()["purchases"]
        stored = {task["id"]: client.get(f"/api/tasks/{task['id']}").json() for task in tasks}
    assert len(stored) == len(bought) == number
    for task, paths in zip(tasks, files, strict=True):
        sums = [output["stored"]["sha256"] for output in stored[task["id"]]["outputs"]]
        assert sums
        assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths] == sums
    for each in range(number):
        assert list((home.directory / f"{each}").iterdir()) == files[each], "and nothing else"
    assert relay.broken > number
    torture.figures(orders=number, broken_answers=relay.broken)
