"""Leases: one holder at a time, whoever asks, and nothing held for ever."""

import asyncio
from pathlib import Path

import pytest

from receiver.core.states import State
from receiver.store import Store, reading, spending, tasks
from receiver.store.reading import CLOCK_TOLERANCE
from receiver.store.task_row import TaskChanges
from receiver.store.tasks import SKEW, Claim

from .cost import assert_sums_are_exact
from .rig import NOW, add_tasks, look, outside, task_row, url_of

pytestmark = pytest.mark.anyio

LEASE = 45_000


async def due(store: Store, now: int = NOW, *, most: int = 1, lease: int = LEASE) -> list[Claim]:
    return await store.write(lambda tx: tasks.claim_due(tx, "revid", now, now + lease, most))


async def crashed(store: Store, now: int = NOW, *, lease: int = LEASE) -> list[Claim]:
    return await store.write(lambda tx: tasks.claim_crashed(tx, now, now + lease, 100))


async def test_any_number_of_pollers_never_take_the_same_task(store: Store, file: Path) -> None:
    await store.write(add_tasks(*(task_row(f"tsk_{n:03}", next_check_at=NOW - n) for n in range(100))))
    other = Store(url_of(file))
    taken = [claim for claims in await asyncio.gather(*(due(s) for s in [store, other] * 70)) for claim in claims]
    await other.close()
    assert sorted(claim.task_id for claim in taken) == [f"tsk_{n:03}" for n in range(100)]
    assert {claim.number for claim in taken} == {1}


async def test_the_longest_due_is_taken_first_and_what_is_not_due_not_at_all(store: Store) -> None:
    times = {"tsk_later": 1, "tsk_now": 0, "tsk_long_ago": -9000, "tsk_before": -1}
    await store.write(add_tasks(*(task_row(name, next_check_at=NOW + at) for name, at in times.items())))
    await store.write(add_tasks(task_row("tsk_other", provider="apixo", next_check_at=NOW), task_row("tsk_never")))
    assert [claim.task_id for claim in await due(store)] == ["tsk_long_ago"]
    assert {claim.task_id for claim in await due(store, most=9)} == {"tsk_before", "tsk_now"}
    assert await due(store, most=9) == []


async def test_a_lease_ends_with_its_time_and_the_next_holder_has_a_new_number(store: Store) -> None:
    await store.write(add_tasks(task_row("tsk_1", next_check_at=NOW)))
    assert await due(store) == [Claim("tsk_1", 1)]
    assert await due(store, NOW + LEASE - 1) == []
    assert await due(store, NOW + LEASE) == [Claim("tsk_1", 2)]
    one = await store.write(lambda tx: tasks.claim_one(tx, "tsk_1", NOW + LEASE, NOW + 2 * LEASE))
    assert one is None


async def test_a_submission_is_taken_over_only_when_its_lease_has_run_out(store: Store) -> None:
    rows = [
        task_row("tsk_live", state="submitting", leased_until=NOW + 1),
        task_row("tsk_dead", state="submitting", leased_until=NOW),
        task_row("tsk_queued", state="queued", leased_until=NOW),
        task_row("tsk_waiting", state="submitting", leased_until=None),
    ]
    await store.write(add_tasks(*rows))
    assert await crashed(store) == [Claim("tsk_dead", 1)]


async def test_a_holder_that_waits_longer_or_whose_clock_is_ahead_a_little_is_not_robbed(store: Store) -> None:
    """`receiver poll` from cron may not have the service's RECEIVER_TIMEOUT."""
    rows = [
        task_row("tsk_patient", state="submitting", leased_until=NOW + 135_000, next_check_at=NOW),
        task_row("tsk_ahead", state="submitting", leased_until=NOW + LEASE + 2_000, next_check_at=NOW),
    ]
    await store.write(add_tasks(*rows))
    assert await crashed(store, lease=LEASE) == []
    assert await due(store, most=9) == []
    assert await store.write(lambda tx: tasks.claim_one(tx, "tsk_patient", NOW, NOW + LEASE)) is None


@pytest.mark.row("G1")
async def test_a_lease_left_by_a_clock_that_was_far_ahead_is_not_waited_for(store: Store, file: Path) -> None:
    far = NOW + LEASE + SKEW + 1
    await store.write(add_tasks(task_row("tsk_1", state="submitting", leased_until=far)))
    assert await crashed(store) == [Claim("tsk_1", 1)]
    assert look(file, "SELECT leased_until FROM task") == [(NOW + LEASE,)]


async def test_a_change_is_made_only_in_the_state_it_was_decided_in(store: Store, file: Path) -> None:
    await store.write(add_tasks(task_row("tsk_1", state="queued")))
    change: TaskChanges = {"state": State.CANCELLED, "updated_at": NOW + 1}
    assert await store.write(lambda tx: tasks.change(tx, "tsk_1", State.SUBMITTING, change)) is False
    assert await store.write(lambda tx: tasks.change(tx, "tsk_1", State.QUEUED, change)) is True
    assert await store.write(lambda tx: tasks.change(tx, "tsk_1", State.QUEUED, change)) is False
    assert look(file, "SELECT state, updated_at FROM task") == [("cancelled", NOW + 1)]


# --- a clock that was set back


HOUR = 3_600_000


@pytest.mark.row("G1")
async def test_plans_of_a_clock_that_was_set_back_keep_their_pause_from_now_on(store: Store, file: Path) -> None:
    rows = [
        task_row("tsk_ahead", next_check_at=NOW + HOUR + 7000, updated_at=NOW + HOUR),
        task_row("tsk_due_there", next_check_at=NOW + HOUR - 7000, updated_at=NOW + HOUR),
        task_row("tsk_today", next_check_at=NOW + HOUR, updated_at=NOW),
        task_row("tsk_of_a_neighbour", next_check_at=NOW + HOUR, updated_at=NOW + CLOCK_TOLERANCE),
        task_row("tsk_due", next_check_at=NOW, updated_at=NOW + HOUR),
        task_row("tsk_settled", updated_at=NOW + HOUR),
    ]
    await store.write(add_tasks(*rows))
    assert await store.read(lambda session: reading.has_checks_from_the_future(session, NOW))
    assert await store.write(lambda tx: tasks.reschedule_after_clock_change(tx, NOW)) == 2
    assert not await store.read(lambda session: reading.has_checks_from_the_future(session, NOW))
    planned = dict(look(file, "SELECT id, next_check_at FROM task"))
    assert planned == {
        "tsk_ahead": NOW + 7000,
        "tsk_due_there": NOW - 7000,
        "tsk_today": NOW + HOUR,
        "tsk_of_a_neighbour": NOW + HOUR,
        "tsk_due": NOW,
        "tsk_settled": None,
    }


@pytest.mark.row("G1")
async def test_the_search_for_such_plans_reads_no_task_that_is_settled(store: Store, file: Path) -> None:
    """A database may hold a million of those."""
    query = reading.select_checks_from_the_future(NOW).compile(compile_kwargs={"literal_binds": True})
    with outside(file) as connection:
        plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}"))
    assert "SEARCH task USING INDEX task_due (provider=? AND next_check_at>?)" in plan
    assert "SCAN task USING COVERING INDEX task_due" in plan


@pytest.mark.row("G1")
async def test_requests_that_left_tomorrow_keep_no_other_waiting(store: Store) -> None:
    """Nor do the credits that they cost: the clock was ahead, and may have been so by years."""
    await store.write(
        add_tasks(
            task_row("tsk_1", state="submitted", submitted_at=NOW - 1000, charged=5, may_have_cost=True),
            task_row("tsk_2", state="submitted", submitted_at=NOW + 3 * spending.DAY, charged=7, may_have_cost=True),
        )
    )
    today = NOW - NOW % spending.DAY
    assert await store.write(lambda tx: spending.sum_spent_on(tx, "revid", today)) == 5
    assert await store.write(lambda tx: spending.sum_spent_on(tx, "revid", today + 3 * spending.DAY)) == 7


@pytest.mark.row("G1")
async def test_a_rate_counts_what_left_up_to_now(store: Store, file: Path) -> None:
    await store.write(add_tasks(task_row("tsk_1")))
    with outside(file) as connection:
        connection.execute("INSERT INTO history VALUES (1, 'tsk_1', 0, 'attempt', '{}')")
        for number, at in enumerate((NOW - 9000, NOW - 3000, NOW, NOW + HOUR)):
            connection.execute(
                "INSERT INTO attempt"
                " (history_id, task_id, number, key, method, url, body, departed_at, may_have_bought)"
                " VALUES (1, 'tsk_1', ?, 'k', 'POST', 'u', '', ?, ?)",
                (number, at, number == 0),
            )

    async def before(number: int) -> int | None:
        return await store.write(lambda tx: spending.departure_before(tx, "revid", NOW - 5000, NOW, number))

    assert [await before(number) for number in (1, 2, 3)] == [NOW, NOW - 3000, None]


async def test_sums_of_credits_are_exact(store: Store) -> None:
    await assert_sums_are_exact(store)
