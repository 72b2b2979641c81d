"""A provider takes hundreds of requests and answers none; when it is well again, the next order leaves at once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from receiver.core.errors import NotSent, Unconfirmed
from receiver.outbound.client import MAX_REQUESTS, Outbound
from tests.behaviour.families import REVID
from tests.behaviour.provider import Received, hangs
from tests.behaviour.service import NOW, Clock, Stage, staged
from tests.measuring import HANG, LOOP, Duration, Stopwatch, longest, move_on, slowness, until
from tests.outbound.test_client import Peer, buy, http
from tests.torture.harness import Torture
from tests.torture.test_dead_provider import WallClock

pytestmark = pytest.mark.anyio

HUNG = 500


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return LOOP


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

    outbound, chance = Outbound(HANG, lambda: NOW), torture.random
    async with Peer(behave).listening() as peer:
        hanging = [asyncio.create_task(buy(outbound, peer.url, paid=number % 2 == 0)) for number in range(HUNG)]
        if cancelled != "none":
            for task in hanging if cancelled == "all" else hanging[::3]:
                await asyncio.sleep(chance.uniform(0, 1.5 / HUNG))
                task.cancel()
        while not all(task.done() for task in hanging):
            move_on(HANG / 4)  # nobody waits for what hangs
            await asyncio.sleep(0.01)
        ended = await asyncio.gather(*hanging, return_exceptions=True)
        well.set()
        healthy = Outbound(HANG, lambda: NOW)
        alone = await time_to_buy(healthy, peer)
        after = longest([await time_to_buy(outbound, peer, paid=n % 2 == 0) for n in range(2 * MAX_REQUESTS + 5)])
        await outbound.close()
        await healthy.close()
    torture.figures(**{f"s of the slowest after {HUNG} hung, {cancelled} cancelled": after, "s alone": alone})
    assert {type(end) for end in ended} <= {Unconfirmed, NotSent, asyncio.CancelledError}
    torture.within(after, 1, alone.times(10))


async def time_to_buy(outbound: Outbound, peer: Peer, *, paid: bool = True) -> Duration:
    watch = Stopwatch()
    assert (await buy(outbound, peer.url, paid=paid)).status_code == 200
    return watch.read()


@pytest.mark.row("E14")
async def test_a_service_whose_provider_hung_sends_the_next_order_and_buys_nothing_twice(
    stage: Stage, torture: Torture
) -> None:
    provider, half = stage.provider, torture.size(60, HUNG // 2)
    times = {"TIMEOUT": f"{slowness():.1f}", "CALLBACK_GRACE": "0.2", "POLL_EVERY": "1", "POLL_MAX": "1"}
    async with stage.serve(POLLER="on", **times) as service:
        for n in range(half):  # these will be asked about
            await service.order(REVID.order(f"before {n}"))
        provider.on_create(REVID, hangs())
        provider.on_check(REVID, hangs())
        storm = [asyncio.create_task(service.post("/api/tasks", REVID.order(f"storm {n}"))) for n in range(half)]
        await until(lambda: len(provider.bought()) >= half + MAX_REQUESTS, 10 * HANG)
        for caller in storm[::5]:
            caller.cancel()
        await asyncio.gather(*storm, return_exceptions=True)
        asked = len(provider.asked())
        provider.on_create(REVID)
        provider.on_check(REVID)
        watch = Stopwatch()
        await service.order(REVID.order("next"))
        await until(lambda: any(prompt(one) == "next" for one in provider.bought()), 10 * HANG)
        left = watch.read()
        await until(lambda: len(set(map(prompt, provider.bought()))) == 2 * half + 1, 10 * HANG)
        await until(lambda: len(provider.asked()) > asked + half, 10 * HANG)
        going = "SELECT 1 FROM task WHERE state IN ('queued', 'submitting')"
        await until(lambda: not service.database.rows(going), 10 * HANG)
        bought = Counter(map(prompt, provider.bought()))
        states = Counter(state for (state,) in service.database.rows("SELECT state FROM task"))
    torture.figures(**{"s until the next order left": left, "unconfirmed": states["unconfirmed"]})
    assert set(bought.values()) == {1}, "something was bought twice"
    assert len(bought) == 2 * half + 1
    assert set(states) <= {"submitted", "running", "unconfirmed"}
    torture.within(left, 1)


def prompt(request: Received) -> str:
    words: str = request.json["input"]["prompt"]
    return words
