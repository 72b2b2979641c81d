"""Leases that run out while requests are on their way: a suspended service, a locked database, and sweeps beside them.

Whatever another process makes of it, nothing is bought twice, and what the provider answered is what the task says.
"""

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.behaviour.families import FAMILIES
from tests.behaviour.provider import Exchange, says, slams
from tests.system import postgres
from tests.torture.crowd import Crowd, crowd
from tests.torture.harness import Torture
from tests.torture.places import accepts, mark_of
from tests.torture.stopped import until_still

pytestmark = [pytest.mark.anyio, pytest.mark.row("B14")]

TIMEOUT, LEASE = "2", 8.0
"""Seconds for one request to the provider, and how long a lease outlives the start of one."""
EACH = 10
"""Orders to each family in one round: all of them have a connection at once."""
GUARD = 300
"""Seconds after which something hangs."""

Rows = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Where the database is: None for the file in the data directory."""
    if request.param == "sqlite":
        yield None
        return
    if postgres.binaries() is None:
        pytest.skip("SKIPPED, NOT TESTED: PostgreSQL is not installed")
    with postgres.server() as url:
        yield url


@dataclass
class Shop:
    """A provider that holds all its answers until it is told to give them, and knows what it sold."""

    sold: Counter[str] = field(default_factory=Counter)
    _keys: set[str] = field(default_factory=set)
    _turned_away: set[str] = field(default_factory=set)
    _waiting: int = 0
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)
    _may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def create(self, exchange: Exchange) -> None:
        """Take an order as its mark says, and answer when that is allowed."""
        request, mark = exchange.request, mark_of(exchange.request)
        how, key = _how(mark), request.headers.get("idempotency-key")
        if how == "busy" and mark in self._turned_away:
            how = "accepted"
        self._turned_away.add(mark)
        if how in ("accepted", "error", "cut") and not (key and key in self._keys):
            self.sold[mark] += 1
            self._keys.add(key or mark)
        async with self._arrived:
            self._waiting += 1
            self._arrived.notify_all()
        await self._may_answer.wait()
        answers = {
            "accepted": accepts,
            "refused": says({"code": 400, "message": "no"}, 400),
            "busy": says({"message": "busy"}, 429),
            "error": says({"message": "oops"}, 500),
            "cut": slams(),
        }
        with contextlib.suppress(ConnectionError):
            await answers[how](exchange)

    async def all_are_here(self, number: int) -> None:
        """Wait until so many orders have arrived."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: self._waiting >= number)

    def answer(self) -> None:
        """Answer everybody, from now on at once."""
        self._may_answer.set()

    def hold(self) -> None:
        """Let nobody have an answer."""
        self._waiting = 0
        self._may_answer.clear()


HOW = ("accepted", "accepted", "error", "busy", "refused", "accepted", "cut", "accepted")


def _how(mark: str) -> str:
    return HOW[int(mark.rpartition("-")[2]) % len(HOW)]


@contextlib.asynccontextmanager
async def _running(directory: Path, url: str | None) -> AsyncIterator[tuple[Crowd, Shop]]:
    settings = {"RECEIVER_TIMEOUT": TIMEOUT, "RECEIVER_POLLER": "off", "RECEIVER_POLL_EVERY": "5"}
    if url is not None:
        settings["RECEIVER_DATABASE_URL"] = url
    shop = Shop()
    async with crowd(directory, 1, 2, **settings) as running:
        for family in FAMILIES.values():
            running.scene.provider.on_create(family, shop.create)
        yield running, shop


async def _order(running: Crowd, first: int) -> list[asyncio.Task[str]]:
    """Order from all families at once."""
    orders = [
        (family.order(f"place-{first + number}"), f"place-{first + number}")
        for number, family in enumerate(list(FAMILIES.values()) * EACH)
    ]
    return [asyncio.create_task(running.drivers[0].order(*order)) for order in orders]


async def _rounds(torture: Torture, url: str | None, running: Crowd, shop: Shop, trouble: Any) -> None:
    """Order, bring the trouble while all requests are on their way, and look at what became of it."""
    each = EACH * len(FAMILIES)
    number = torture.size(1, 2000 // each)
    for n in range(number):
        async with asyncio.timeout(GUARD):
            shop.hold()
            ordering = await _order(running, n * each)
            await shop.all_are_here(each)
            await trouble()
            await asyncio.gather(*ordering)
    rows = _rows(running, url)
    while rows("SELECT 1 FROM task WHERE state IN ('queued', 'submitting') LIMIT 1"):  # noqa: ASYNC110 - other processes end them
        await asyncio.sleep(0.2)
    assert running.services[0].stop() == 0
    _assert_bought_once(rows, shop)
    told = Counter(state for (state,) in rows("SELECT state FROM task"))
    overtaken = rows("SELECT count(DISTINCT task_id) FROM history WHERE kind = 'move' AND data LIKE '%\"crashed\"%'")
    torture.figures(orders=told.total(), bought=shop.sold.total(), overtaken=overtaken[0][0], **told)


def _assert_bought_once(rows: Rows, shop: Shop) -> None:
    assert {mark: times for mark, times in shop.sold.items() if times > 1} == {}, "bought twice"
    for mark, state, remote_id, cost in rows("SELECT prompt, state, remote_id, may_have_cost FROM task"):
        how = _how(mark)
        if how == "accepted":
            assert (state in ("submitted", "running", "succeeded"), remote_id) == (True, mark), (mark, state)
        elif how == "refused":
            assert state == "failed", (mark, state)
        elif how == "busy":
            # Where nobody took it over, it was sent again; else somebody may have ordered the same again.
            assert (state, remote_id) == ("failed", None) or remote_id == mark, (mark, state)
        else:
            assert state in ("unconfirmed", "expired"), (mark, state)
        assert bool(cost) == (shop.sold[mark] == 1), (mark, state)


def _rows(running: Crowd, url: str | None) -> Rows:
    if url is None:
        return running.scene.database.rows

    def rows(query: str) -> list[tuple[Any, ...]]:
        with closing(psycopg.connect(url)) as connection:
            return connection.execute(query.encode()).fetchall()

    return rows


async def test_a_service_that_is_suspended_beyond_its_leases_beside_sweeps_buys_nothing_twice(
    url: str | None, torture: Torture, tmp_path: Path
) -> None:
    async with _running(tmp_path, url) as (running, shop):
        rows, service = _rows(running, url), running.services[0]
        seen = 0

        async def suspend() -> None:
            nonlocal seen
            service.send(signal.SIGSTOP)
            await until_still(service)
            shop.answer()  # the answers are there when it goes on
            query = "SELECT count(*) FROM history WHERE kind = 'move' AND data LIKE '%\"crashed\"%'"
            while rows(query)[0][0] <= seen:  # noqa: ASYNC110 - another process takes the leases over
                await asyncio.sleep(0.005)
            service.send(signal.SIGCONT)  # amid the sweep that resolves what it had begun
            seen = rows(query)[0][0]

        await _rounds(torture, url, running, shop, suspend)


async def test_a_database_that_is_locked_for_longer_than_a_lease_lets_nothing_be_bought_twice(
    url: str | None, torture: Torture, tmp_path: Path
) -> None:
    async with _running(tmp_path, url) as (running, shop):

        async def lock() -> None:
            async with _locked(running, url):
                shop.answer()
                await asyncio.sleep(LEASE + 1)  # the length that the row is about: nothing is awaited here

        await _rounds(torture, url, running, shop, lock)


@contextlib.asynccontextmanager
async def _locked(running: Crowd, url: str | None) -> AsyncIterator[None]:
    if url is None:
        async with running.scene.locked():
            yield
        return
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("LOCK TABLE task IN ACCESS EXCLUSIVE MODE")
        yield
