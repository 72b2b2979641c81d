"""A herd of callbacks that each need a confirmation: storing comes first, and asking is bounded and quick."""

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from receiver.outbound.client import MAX_REQUESTS
from tests.behaviour.families import KNOWN
from tests.behaviour.provider import Exchange, Provider, asked_about, says
from tests.behaviour.service import Database
from tests.cli.rig import Home, serving
from tests.measuring import HANG, Stopwatch, quantile, until
from tests.store.rig import look
from tests.torture.callbacks import Callback, Caller, calling, home_with_tasks
from tests.torture.harness import Torture

pytestmark = pytest.mark.anyio

ANSWER_SECONDS = 0.2
"""What the provider takes to answer a status request."""
SENDERS = 64
NEEDS = {
    "kie, whose signature proves nothing": {"account": "kie", "KIE_API_KEY": "a-key"},
    "always": {"account": "revid", "RECEIVER_CONFIRM": "always"},
}


@dataclass
class Truth:
    """A provider that takes its time to say that the work is done, and counts who asks."""

    provider: Provider
    account: str
    asked: Counter[str] = field(default_factory=Counter)
    under_way: int = 0
    most: int = 0

    async def tell(self, exchange: Exchange) -> None:
        remote_id = asked_about(exchange.request)
        self.asked[remote_id] += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(ANSWER_SECONDS)
        self.under_way -= 1
        await says(KNOWN[self.account].done(remote_id, f"https://cdn.example.com/{remote_id}.mp4"))(exchange)

    async def is_asked_about(self, number: int) -> None:
        await until(lambda: sum(self.asked.values()) >= number, 10 * HANG)


@pytest.mark.row("E15")
@pytest.mark.parametrize("poller", ["on", "off"])
@pytest.mark.parametrize("need", NEEDS)
async def test_a_herd_of_callbacks_is_stored_first_and_confirmed_as_many_at_once_as_may_be(
    need: str, poller: str, torture: Torture, tmp_path: Path
) -> None:
    number, settings = torture.size(150, 2_000), dict(NEEDS[need])
    account = settings.pop("account")
    truth = Truth(Provider(), account)
    async with truth.provider.serving():
        truth.provider.on_check(KNOWN[account], truth.tell)
        settings |= {f"{account.upper()}_BASE_URL": f"{truth.provider.url}/{account}", "RECEIVER_POLLER": poller}
        home, callbacks = await asyncio.to_thread(home_with_tasks, tmp_path, number, account, **settings)
        with serving(home):
            leases = asyncio.create_task(most_leases(home))
            async with calling(home, SENDERS) as caller:
                watch = Stopwatch()
                await asyncio.gather(*(caller.post(callback) for callback in callbacks))
                stored = watch.read()
                await truth.is_asked_about(number)
                await confirmed(home, number)
                ended = watch.read()
            leases.cancel()
            [most] = await asyncio.gather(leases)
    slowest = quantile((answer.took for answer in caller.answers), 0.99)
    needed = number * ANSWER_SECONDS / MAX_REQUESTS
    name = f"{account}, poller {poller}"
    torture.figures(**{
        f"callbacks of {name}": number, "stored in s": stored, "p99 s": slowest,
        "confirmed in s": ended, "needed s": needed, "most at once": truth.most,
    })  # fmt: skip
    assert_each_was_asked_about_once(home, caller, callbacks, truth)
    assert MAX_REQUESTS / 2 < truth.most <= MAX_REQUESTS
    assert most <= MAX_REQUESTS, "tasks were claimed that had to wait"
    torture.within(slowest, 1)
    torture.within(ended, 2 * needed)


async def confirmed(home: Home, number: int) -> None:
    """Wait until every task is confirmed."""
    count = "SELECT count(confirmed_at) FROM task"
    await until(lambda: look(home.data / "receiver.db", count) == [(number,)], 10 * HANG)


async def most_leases(home: Home) -> int:
    """Watch how many tasks are claimed at once, until this is cancelled."""
    most = 0
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            [(held,)] = look(home.data / "receiver.db", "SELECT count(*) FROM task WHERE leased_until IS NOT NULL")
            most = max(most, held)
            await asyncio.sleep(0.1)
    return most


def assert_each_was_asked_about_once(home: Home, caller: Caller, callbacks: list[Callback], truth: Truth) -> None:
    database = Database(home.data / "receiver.db")
    assert [answer.status for answer in caller.answers] == [200] * len(callbacks)
    assert len(truth.asked) == len(callbacks)
    assert set(truth.asked.values()) == {1}, truth.asked.most_common(3)
    rows = database.rows(
        "SELECT state, settled_by, checks, claim, leased_until, count(*) FROM task GROUP BY 1, 2, 3, 4, 5"
    )
    assert rows == [("succeeded", "callback", 1, 1, None, len(callbacks))]
