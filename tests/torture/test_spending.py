"""What was bought is spent and what was not is not, whatever happens; and no crowd of submitters passes a limit."""

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import invariant, run_state_machine_as_test

from receiver.store.spending import DAY
from tests.behaviour.families import REVID, RIVYA, Family
from tests.behaviour.provider import Exchange, Script
from tests.system import postgres
from tests.torture.crowd import Crowd, crowd
from tests.torture.harness import Torture
from tests.torture.lives import Lives
from tests.torture.places import accepts, asked_id, finds_it_done, mark_of

LIFE = """SELECT id, may_have_cost, adopted_at IS NOT NULL, EXISTS (SELECT 1 FROM history WHERE task_id = task.id
          AND kind = 'move' AND json_extract(data, '$.to') = 'failed' AND json_extract(data, '$.via') = 'hand')
          FROM task"""


class SpendingLives(Lives):
    """The same lives, held against the provider's ledger of what it took, and so charged."""

    def __init__(self) -> None:
        super().__init__()
        self.interrupted: set[str] = set()
        """Whose create did not end undisturbed: nobody here knows whether it was received."""
        self.told: set[str] = set()
        """Who was called back, whatever it said."""

    def taking(self, family: Family, how: str, first: Any) -> Script:
        script = super().taking(family, how, first)

        async def noting(exchange: Exchange) -> None:
            key = str(exchange.request.headers.get("idempotency-key"))
            if key in self.charged_keys and how == "refused":  # who takes keys does not refuse what it took
                await super(SpendingLives, self).taking(family, "accepted", first)(exchange)
                return
            if first is not None:
                url = exchange.request.callback_url
                self.interrupted.add(url.rpartition("/")[2].partition(".")[0] if url else key.rpartition("-")[0])
            await script(exchange)

        return noting

    async def deliver(self, task: tuple[str, Family], said: Any) -> None:
        self.told.add(task[0])
        await super().deliver(task, said)

    @invariant()
    def what_was_charged_is_spent_and_what_never_was_is_not(self) -> None:
        if not hasattr(self, "service"):
            return
        (rows,) = self.snapshot(LIFE)
        for task_id, may_have_cost, adopted, closed in rows:
            if self.charged[task_id] and not closed:
                assert may_have_cost, f"{task_id} was charged, and counts as nothing"
                self.seen["charged"] += 1
            elif not (self.charged[task_id] or adopted or task_id in self.interrupted | self.told):
                assert not may_have_cost, f"{task_id} was never charged, and counts"
                self.seen["not charged"] += 1


@pytest.mark.row("B12")
def test_in_any_life_what_was_charged_is_spent_and_what_never_was_is_not(
    torture: Torture, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    examples, steps, seen = torture.size(10, 200), torture.size(20, 100), Counter[str]()
    machine = type("Machine", (SpendingLives,), {"directory": tmp_path, "factory": tmp_path_factory, "seen": seen})
    how = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    run_state_machine_as_test(seed(torture.seed)(machine), settings=how)
    assert {"charged", "not charged"} <= set(seen), "it tried too little"
    torture.figures(examples=examples, tasks_charged=seen["charged"], tasks_not_charged=seen["not charged"])


# --- limits under a crowd


RUNNING, CREDITS = 3, 60
LIMITS = {"REVID_MAX_RUNNING": str(RUNNING), "RIVYA_MAX_CREDITS_PER_DAY": str(CREDITS)}
A_DAY = CREDITS // 6
"""Orders at Rivya, of 6 credits each, that a day's limit lets through."""


@pytest.mark.anyio
@pytest.mark.row("B13")
async def test_submitters_of_two_processes_never_pass_a_limit_together(tmp_path: Path, torture: Torture) -> None:
    async with crowd(tmp_path, 2, 1, **LIMITS) as running:
        await assert_limits_hold(running, torture)


@pytest.mark.anyio
@pytest.mark.row("B13")
@pytest.mark.skipif(postgres.binaries() is None, reason="PostgreSQL is not installed")
async def test_they_do_not_on_postgresql_either(tmp_path: Path, torture: Torture) -> None:
    with postgres.server() as database:
        async with crowd(tmp_path, 2, 1, **LIMITS, RECEIVER_DATABASE_URL=database) as running:
            await assert_limits_hold(running, torture)


async def assert_limits_hold(running: Crowd, torture: Torture) -> None:
    """Order more than the limits allow from both services at once; the provider counts what it has at a time."""
    at_work: set[str] = set()
    most, bought = 0, Counter[str]()

    async def begin(exchange: Exchange) -> None:
        nonlocal most
        account = exchange.request.account
        bought[account] += 1
        if account == REVID.name:
            at_work.add(mark_of(exchange.request))
            most = max(most, len(at_work))
        await accepts(exchange)

    async def finish(exchange: Exchange) -> None:
        at_work.discard(asked_id(exchange.request))
        await finds_it_done(exchange)

    number = torture.size(8 * RUNNING, 60 * RUNNING)
    families = [REVID, RIVYA]
    marks = {f"place-{n}": families[n % 2] for n in range(2 * number)}
    running.scene.creates.update(dict.fromkeys(marks, begin))
    running.scene.checks.update(dict.fromkeys(marks, finish))
    first_day = time.time_ns() // 1_000_000 // DAY
    orders = (running.drivers[n % 3 % 2].order(it.order(mark), mark) for n, (mark, it) in enumerate(marks.items()))
    await asyncio.gather(*orders)
    async with asyncio.timeout(torture.size(240, 1200)):
        while await waiting(running, REVID) or await at_the_provider(running, RIVYA):  # noqa: ASYNC110 - others work
            await asyncio.sleep(0.2)
    days = time.time_ns() // 1_000_000 // DAY - first_day + 1
    assert bought[REVID.name] == number
    assert most <= RUNNING, "more ran at once than the limit allows"
    assert bought[RIVYA.name] <= A_DAY * days, "more was spent on a day than the limit allows"
    assert bought[RIVYA.name] >= A_DAY, "the limit was not used"
    torture.figures(orders=2 * number, most_at_once=most, bought_of_the_day=bought[RIVYA.name])


async def told(running: Crowd, family: Family) -> dict[str, int]:
    stats = (await running.drivers[0].ask("GET", "/api/stats")).json()
    numbers: dict[str, int] = stats["tasks"].get(family.name, {})
    return numbers


async def waiting(running: Crowd, family: Family) -> int:
    """Count an account's tasks that have not come to an end."""
    numbers = await told(running, family)
    return sum(number for state, number in numbers.items() if state != "succeeded")


async def at_the_provider(running: Crowd, family: Family) -> int:
    """Count an account's tasks that have not come to an end, those in the queue aside."""
    numbers = await told(running, family)
    return sum(number for state, number in numbers.items() if state not in ("succeeded", "queued"))
