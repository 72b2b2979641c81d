"""Counts over all tasks, for `/api/stats`, `/metrics` and the pages.

Computed from the database, so that they are true over any number of processes.
"""

from dataclasses import dataclass

from sqlalchemy import Float
from sqlmodel import Session, cast, col, func, select

from receiver.states import State
from receiver.tables import Task

SAMPLE = 10_000
"""Settled tasks, the latest, from which times are computed."""


@dataclass(frozen=True, slots=True)
class Credits:
    """Sums over an account's tasks, in the provider's own unit."""

    estimated: float
    reserved: float
    charged: float


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers by (account, state), sorted seconds from creation to settling, numbers by who settled, credits."""

    tasks: dict[tuple[str, State], int]
    settle_seconds: list[float]
    settled_by: dict[str, int]
    credits: dict[str, Credits]

    def quantile(self, share: float) -> float | None:
        """Return the time to settle that this share of tasks stays within, in seconds."""
        if not self.settle_seconds:
            return None
        return self.settle_seconds[min(int(share * len(self.settle_seconds)), len(self.settle_seconds) - 1)]


def by_state(session: Session) -> dict[tuple[str, State], int]:
    """Count tasks by account and state."""
    query = select(Task.provider, Task.state, func.count()).group_by(col(Task.provider), col(Task.state))
    return {(row[0], State(row[1])): row[2] for row in session.exec(query)}


def counts(session: Session) -> Counts:
    """Count everything that is told of all tasks."""
    # A task that was withdrawn before it was sent was settled by no news.
    ended = (col(Task.settled_by).is_not(None), col(Task.state) != State.CANCELLED)
    settled = select(Task.created_at, Task.finished_at).where(*ended).order_by(col(Task.id).desc()).limit(SAMPLE)
    by_whom = select(Task.settled_by, func.count()).where(*ended).group_by(Task.settled_by)
    sums = (func.coalesce(cast(func.sum(col(c)), Float), 0.0) for c in (Task.estimated, Task.reserved, Task.charged))
    spent = select(Task.provider, *sums).group_by(col(Task.provider))
    return Counts(
        tasks=by_state(session),
        settle_seconds=sorted(max(end - start, 0) / 1000 for start, end in session.exec(settled) if end is not None),
        settled_by={str(row[0]): row[1] for row in session.exec(by_whom)},
        credits={row[0]: Credits(*row[1:]) for row in session.execute(spent)},
    )
