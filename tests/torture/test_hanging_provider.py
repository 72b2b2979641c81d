"""A provider takes hundreds of requests and answers none; when it is well again, the next order leaves at once."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from receiver.errors import NotSent, Unconfirmed
from receiver.outbound import CONNECTIONS, Outbound
from tests.behaviour.families import REVID
from tests.behaviour.provider import Provider, Received, hangs
from tests.behaviour.service import NOW, Clock, Stage, staged
from tests.measuring import Duration, Stopwatch, longest
from tests.test_outbound import Peer, buy, http
from tests.torture.harness import Torture
from tests.torture.test_dead_provider import WallClock

pytestmark = pytest.mark.anyio

HUNG = 500
LONG = 60.0
"""Seconds that a condition is waited for: never what is promised, only what is waited."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def stage(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path, tmp_path_factory) as stage:
        clock: Clock = WallClock()
        yield Stage(stage.provider, clock, stage.directory, stage.template)


@pytest.mark.row("E14")
@pytest.mark.parametrize("cancelled", ["none", "some", "all"])
async def test_after_hundreds_that_hung_the_next_request_of_each_kind_leaves_at_once(
    cancelled: str, torture: Torture
) -> None:
    well = asyncio.Event()

    async def behave(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_well = well.is_set()
        await peer.take(reader)
        if not is_well:
            await asyncio.Event().wait()
        writer.write(http())

    outbound, chance = Outbound(0.5, lambda: NOW), torture.random
    async with Peer(behave).listening() as peer:
        hanging = [asyncio.create_task(buy(outbound, peer.url, paid=number % 2 == 0)) for number in range(HUNG)]
        if cancelled != "none":
            for task in hanging if cancelled == "all" else hanging[::3]:
                await asyncio.sleep(chance.uniform(0, 1.5 / HUNG))
                task.cancel()
        async with asyncio.timeout(LONG):
            ended = await asyncio.gather(*hanging, return_exceptions=True)
        well.set()
        healthy = Outbound(LONG, lambda: NOW)
        alone = await seconds(healthy, peer)
        after = longest([await seconds(outbound, peer, paid=n % 2 == 0) for n in range(2 * CONNECTIONS + 5)])
        await outbound.close()
        await healthy.close()
    torture.figures(**{f"s of the slowest after {HUNG} hung, {cancelled} cancelled": after, "s alone": alone})
    assert {type(end) for end in ended} <= {Unconfirmed, NotSent, asyncio.CancelledError}
    torture.within(after, 1, alone.times(10))


async def seconds(outbound: Outbound, peer: Peer, *, paid: bool = True) -> Duration:
    watch = Stopwatch()
    assert (await buy(outbound, peer.url, paid=paid)).status_code == 200
    return watch.read()


@pytest.mark.row("E14")
async def test_a_service_whose_provider_hung_sends_the_next_order_and_buys_nothing_twice(
    stage: Stage, torture: Torture
) -> None:
    provider, half = stage.provider, torture.size(60, HUNG // 2)
    settings = {"TIMEOUT": "1", "POLLER": "on", "CALLBACK_GRACE": "0.2", "POLL_EVERY": "1", "POLL_MAX": "1"}
    async with stage.serve(**settings) as service:
        for n in range(half):  # these will be asked about
            await service.order(REVID.order(f"before {n}"))
        provider.on_create(REVID, hangs())
        provider.on_check(REVID, hangs())
        storm = [asyncio.create_task(service.post("/api/tasks", REVID.order(f"storm {n}"))) for n in range(half)]
        await until(provider, lambda: len(provider.bought()) >= half + CONNECTIONS)
        for caller in storm[::5]:
            caller.cancel()
        await asyncio.gather(*storm, return_exceptions=True)
        asked = len(provider.asked())
        provider.on_create(REVID)
        provider.on_check(REVID)
        watch = Stopwatch()
        await service.order(REVID.order("next"))
        await until(provider, lambda: any(prompt(one) == "next" for one in provider.bought()))
        left = watch.read()
        await until(provider, lambda: len(set(map(prompt, provider.bought()))) == 2 * half + 1)
        await until(provider, lambda: len(provider.asked()) > asked + half)
        async with asyncio.timeout(LONG):
            while service.database.rows("SELECT 1 FROM task WHERE state IN ('queued', 'submitting')"):  # noqa: ASYNC110 - as it is
                await asyncio.sleep(0.05)
        bought = Counter(map(prompt, provider.bought()))
        states = Counter(state for (state,) in service.database.rows("SELECT state FROM task"))
    torture.figures(**{"s until the next order left": left, "unconfirmed": states["unconfirmed"]})
    assert set(bought.values()) == {1}, "something was bought twice"
    assert len(bought) == 2 * half + 1
    assert set(states) <= {"submitted", "running", "unconfirmed"}
    torture.within(left, 1)


async def until(provider: Provider, condition: Callable[[], bool]) -> None:
    """Wait for requests to come in, however busy the machine is."""
    async with asyncio.timeout(LONG + HUNG):
        while not condition():
            with contextlib.suppress(TimeoutError):
                await provider.until(condition)


def prompt(request: Received) -> str:
    words: str = request.json["input"]["prompt"]
    return words
