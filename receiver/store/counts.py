"""Counts over all tasks, for `/api/stats`, `/metrics` and the pages.

They are computed from the database, so that they are right with any number of processes.
"""

from dataclasses import dataclass

from sqlalchemy import case
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, func, select

from receiver.core.amounts import to_credits
from receiver.core.states import State
from receiver.store.spending import COST, COUNTS, TASK, summed, sums
from receiver.store.tables import Task

SAMPLE = 10_000
"""How many of the latest settled tasks are used for times."""


@dataclass(frozen=True, slots=True)
class Credits:
    """Sums over an account's tasks that may have cost something, in the provider's own unit.

    `spent` is what the limits count: for each task charged, else reserved, else estimated.
    """

    estimated: float
    reserved: float
    charged: float
    spent: float


@dataclass(frozen=True, slots=True)
class Counts:
    """Tasks by account and state, sorted seconds from creation to settling, tasks by `settled_by`, credits."""

    tasks: dict[tuple[str, State], int]
    settle_seconds: list[float]
    settled_by: dict[str, int]
    credits: dict[str, Credits]

    def quantile(self, share: float) -> float | None:
        """Return the time to settle that this share of tasks does not exceed, in seconds."""
        if not self.settle_seconds:
            return None
        return self.settle_seconds[min(int(share * len(self.settle_seconds)), len(self.settle_seconds) - 1)]


def count_by_state(session: Session) -> dict[tuple[str, State], int]:
    """Return the number of tasks by account and state."""
    query = select(Task.provider, Task.state, func.count()).group_by(col(Task.provider), col(Task.state))
    return {(row[0], State(row[1])): row[2] for row in session.exec(query)}


def count_all(session: Session) -> Counts:
    """Return all counts."""
    # A cancelled task was never sent, so it was not settled by the provider.
    ended = (col(Task.settled_by).is_not(None), col(Task.state) != State.CANCELLED)
    settled = select(Task.created_at, Task.finished_at).where(*ended).order_by(col(Task.id).desc()).limit(SAMPLE)
    by_whom = select(Task.settled_by, func.count()).where(*ended).group_by(Task.settled_by)
    return Counts(
        tasks=count_by_state(session),
        settle_seconds=sorted(max(end - start, 0) / 1000 for start, end in session.exec(settled) if end is not None),
        settled_by={str(row[0]): row[1] for row in session.exec(by_whom)},
        credits=_credits(session),
    )


_AMOUNTS = {"estimated": TASK.c.estimated, "reserved": TASK.c.reserved, "charged": TASK.c.charged, "spent": COST}
_SUMS = (part for name, amount in _AMOUNTS.items() for part in sums(case((COUNTS, amount)), name))
_CREDITS = select_columns(TASK.c.provider, *_SUMS).group_by(TASK.c.provider)


def _credits(session: Session) -> dict[str, Credits]:
    return {
        str(row["provider"]): Credits(
            **{name: to_credits(summed(row[f"{name}_whole"], row[f"{name}_rest"])) for name in _AMOUNTS}
        )
        for row in session.execute(_CREDITS).mappings()
    }
