"""The service is killed with -9 at any moment: nothing it acknowledged is lost, nothing is bought twice, and every
task comes to an end."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.measuring import HANG, longest, median
from tests.torture import witness
from tests.torture.driver import Driver
from tests.torture.fire import DATABASE, Fire, Restarts, all_of, kill_again_and_again, orders, running
from tests.torture.harness import Torture
from tests.torture.witness import Found, Ledger

pytestmark = pytest.mark.anyio

SECONDS = 20 * HANG
QUICK = {"RECEIVER_TIMEOUT": "1", "RECEIVER_DEADLINE": "9", "RECEIVER_POLL_MAX": "1"}
LONG = QUICK | {"RECEIVER_DEADLINE": "60"}


@pytest.mark.row("A1")
async def test_nothing_acknowledged_is_lost_and_nothing_is_bought_twice(tmp_path: Path, torture: Torture) -> None:
    kills = torture.size(8, 60)
    restarts = await set_on_fire(
        tmp_path, torture, kills, torture.size(80, 1000), torture.size(500, 10_000), longest=1.0
    )
    assert restarts.number >= kills


@pytest.mark.row("G3")
async def test_the_same_holds_where_it_hardly_comes_to_answer(tmp_path: Path, torture: Torture) -> None:
    if not torture.full:
        pytest.skip("at full size only: it is A1 with shorter lives")
    restarts = await set_on_fire(tmp_path, torture, 50, 60, 100, longest=0.12)
    assert restarts.number >= 50


async def set_on_fire(
    directory: Path, torture: Torture, kills: int, submissions: int, callbacks: int, *, longest: float
) -> Restarts:
    """Order and call back while the service is killed so many times; then look at what it holds."""
    wanted = orders(submissions)
    with running(directory, **(LONG if torture.full else QUICK)) as (serving, ledger, url):
        restarts = Restarts(url)
        async with Driver(url, directory / "acked.log") as driver, asyncio.timeout(SECONDS):
            fire = Fire(driver, ledger, torture.random)

            def more(killed: int) -> bool:
                return killed < kills or len(fire.tasks) < len(wanted) or fire.sent < callbacks

            await all_of(
                fire.order(wanted),
                fire.call_back(lambda sent: sent >= callbacks and not more(restarts.number)),
                kill_again_and_again(serving, restarts, torture.random, more, longest),
            )
            first = next(purchase for purchase in ledger.purchases if purchase.family == "revid")
            await fire.hammer(fire.tasks[first.prompt], "revid", first.id)
            await driver.all_settled(SECONDS)
        assert serving.stop() == 0
    tasks = witness.look(directory / DATABASE)
    assert_all_is_well(fire, tasks)
    note(torture, fire, restarts, tasks)
    return restarts


def assert_all_is_well(fire: Fire, tasks: Mapping[str, Found]) -> None:
    """The database agrees with the caller, with the acknowledged callbacks and with the provider's ledger."""
    assert {task.prompt: task_id for task_id, task in tasks.items()} == fire.tasks
    fire.ledger.new()
    acked = fire.driver.acknowledged()
    witness.assert_each_ended_once(tasks)
    witness.assert_all_is_counted(tasks, acked)
    witness.assert_bought_once(tasks, fire.ledger.purchases)
    assert_what_was_told_counts(tasks, fire.ledger, {mark for _, mark in acked})


def assert_what_was_told_counts(tasks: Mapping[str, Found], ledger: Ledger, told: set[str]) -> None:
    """A task is expired only where nobody was acknowledged who said how it ended; so are the provider's own letters."""
    by_prompt = {task.prompt: task for task in tasks.values()}
    for purchase in ledger.purchases:
        task = by_prompt[purchase.prompt]
        assert task.unstored or task.stored[None] >= purchase.taken.total(), f"the provider's callback is lost: {task}"
        if f"{purchase.id}-done" in told:
            assert task.state == "succeeded", task
        if any(delivery.startswith("end") for delivery in purchase.taken):
            assert task.state in witness.FINAL, task


def note(torture: Torture, fire: Fire, restarts: Restarts, tasks: Mapping[str, Found]) -> None:
    """Say how hot the fire was."""
    acked = fire.driver.acknowledged()
    torture.figures(
        kills=restarts.number,
        submissions=len(fire.tasks),
        purchases=len(fire.ledger.purchases),
        acknowledged=acked.total(),
        unanswered=fire.driver.unanswered,
        lost=len(witness.lost(tasks, acked)),
        restart_to_first_200_median_s=median(restarts.took),
        restart_to_first_200_longest_s=longest(restarts.took),
    )
