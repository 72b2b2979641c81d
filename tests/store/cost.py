"""Sums of credits, which both databases must tell exactly, whatever a provider claims to have charged."""

from typing import Any

from receiver.store import Store, spending
from receiver.store.counts import Credits, count_all

from .rig import NOW, add_tasks, task_row

TODAY = spending.start_of_day(NOW)
GREATEST = 10**18
"""Millionths of the largest amount that is read."""


async def assert_sums_are_exact(store: Store) -> None:
    """Many of the largest amounts, small fractions, negative and unknown ones; what cost nothing is left out."""
    rows: list[dict[str, Any]] = [
        *({"charged": GREATEST, "estimated": 1, "reserved": 2} for _ in range(20)),
        *({"charged": None, "reserved": 1, "estimated": 7} for _ in range(3)),
        {"charged": 0, "reserved": 5, "estimated": 7},
        {"charged": -GREATEST, "reserved": 5, "estimated": 7},
        {"estimated": 100_000},
        {"estimated": 200_000},
        {},
    ]
    mine = [{"may_have_cost": True, "submitted_at": TODAY + place, **row} for place, row in enumerate(rows)]
    others: list[dict[str, Any]] = [
        {"may_have_cost": False, "submitted_at": TODAY, "charged": GREATEST, "estimated": GREATEST},
        {"may_have_cost": True, "submitted_at": TODAY - 1, "estimated": 11_000_000},
        {"may_have_cost": True, "submitted_at": TODAY, "estimated": 13_500_000, "provider": "apixo"},
    ]
    await store.write(add_tasks(*(task_row(f"tsk_{n:03}", **row) for n, row in enumerate(mine + others))))
    today, yesterday = 20 * GREATEST + 3 + 300_000, 11_000_000
    assert await store.write(lambda tx: spending.sum_spent_on(tx, "revid", TODAY)) == today
    assert await store.write(lambda tx: spending.sum_spent_on(tx, "revid", TODAY - spending.DAY)) == yesterday
    spent = await store.read(lambda session: spending.list_spent_by_day(session, TODAY - spending.DAY))
    assert [(each.account, each.day, each.millionths, each.tasks) for each in spent] == [
        ("apixo", TODAY, 13_500_000, 1),
        ("revid", TODAY, today, len(mine)),
        ("revid", TODAY - spending.DAY, yesterday, 1),
    ]
    told = (await store.read(count_all)).credits
    assert told["apixo"] == Credits(estimated=13.5, reserved=0, charged=0, spent=13.5)
    assert told["revid"].spent == (today + yesterday) / 1_000_000
