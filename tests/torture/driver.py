"""Sends a service what providers and callers send it, from many clients at once, and writes down what was acknowledged.

A line is in the log only after the whole answer 200 was read: whatever it holds, the service must hold, too.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from receiver.core.links import Links
from tests.behaviour.families import FAMILIES
from tests.measuring import HANG

CLIENTS = 16
TOKEN, SECRET = "a-token-for-the-tests", "a-secret-key-for-the-torture-bench"
AGAIN = 0.05
"""Seconds until what was not answered is sent again."""
SETTINGS = {"RECEIVER_SECRET_KEYS": SECRET, "RECEIVER_API_TOKENS": TOKEN, "RECEIVER_ARCHIVE": "off"}


@dataclass(frozen=True)
class Letter:
    """One callback to one task. `mark` is in its body, and in no other letter's."""

    task_id: str
    path: str
    mark: str
    body: bytes


def letter(account: str, task_id: str, mark: str, body: Any) -> Letter:
    """Address a body to a task's own callback URL, as the provider would that was told of it."""
    url = Links([SECRET], "http://service").callback_url(account, task_id)
    assert url is not None
    return Letter(task_id, url.removeprefix("http://service"), mark, json.dumps({**body, "mark": mark}).encode())


def working(account: str, task_id: str, remote_id: str, mark: str) -> Letter:
    """Tell a task that it is being worked on."""
    return letter(account, task_id, mark, FAMILIES[account].working(remote_id))


def done(account: str, task_id: str, remote_id: str, mark: str, *urls: str) -> Letter:
    """Tell a task that it is done, and where its result is."""
    return letter(account, task_id, mark, FAMILIES[account].done(remote_id, *urls))


@dataclass
class Driver:
    """Many clients of one service, which may be away at any time: what is not acknowledged is sent again."""

    url: str
    log: Path
    unanswered: int = 0
    turned_away: int = 0

    async def __aenter__(self) -> "Driver":
        headers = {"Authorization": f"Bearer {TOKEN}"}
        limits = httpx.Limits(max_connections=4 * CLIENTS)
        self._client = httpx.AsyncClient(
            base_url=self.url, headers=headers, limits=limits, timeout=HANG, trust_env=False
        )
        self._acked = self.log.open("a", buffering=1)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._acked.close()
        await self._client.aclose()

    async def post(self, letters: Sequence[Letter], chance: random.Random, clients: int = CLIENTS) -> None:
        """Send all letters in any order, from many clients, each until its 200 was read."""
        waiting = list(letters)
        chance.shuffle(waiting)

        async def client() -> None:
            while waiting:
                await self.deliver(waiting.pop())

        await asyncio.gather(*(client() for _ in range(clients)))

    async def deliver(self, one: Letter) -> None:
        """Send a letter until its 200 was read, then write that down."""
        answer = await self.ask("POST", one.path, content=one.body)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        self._acked.write(json.dumps([one.task_id, one.mark]) + "\n")

    async def order(self, order: dict[str, Any], key: str) -> str:
        """Submit an order under one key until it is answered; returns the task's id."""
        answer = await self.ask("POST", "/api/tasks", json=order, headers={"Idempotency-Key": key})
        assert answer.status_code in (200, 201), f"{answer.status_code} {answer.text}"
        return str(answer.json()["id"])

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask the service, and again while it is away or says that it cannot."""
        while True:
            try:
                answer = await self._client.request(method, path, **more)
            except httpx.TransportError:
                self.unanswered += 1
            else:
                if answer.status_code != 503:
                    return answer
                self.turned_away += 1
            await asyncio.sleep(AGAIN)

    async def unsettled(self) -> int:
        """Count the tasks that have not come to an end."""
        accounts = (await self.ask("GET", "/api/stats")).json()["tasks"]
        ends = ("succeeded", "failed", "cancelled", "expired")
        return sum(number for states in accounts.values() for state, number in states.items() if state not in ends)

    async def all_settled(self, seconds: float) -> None:
        """Wait until every task has come to an end."""
        async with asyncio.timeout(seconds):
            while await self.unsettled():  # noqa: ASYNC110 - another process settles them
                await asyncio.sleep(0.2)

    def acknowledged(self) -> Counter[tuple[str, str]]:
        """Count what was acknowledged, by task and mark."""
        return acknowledged(self.log.read_text().splitlines())


def acknowledged(lines: Iterable[str]) -> Counter[tuple[str, str]]:
    """Read the lines of a log, by task and mark."""
    return Counter((task_id, mark) for task_id, mark in map(json.loads, lines))
