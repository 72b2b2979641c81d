"""What an account's limits are checked against, and what is shown of its spending: the same rows, read the same way.

A task counts while `may_have_cost` is set, and nothing else decides that. Amounts are whole millionths of a credit.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Integer, Label, bindparam, case, func, literal_column, or_, select
from sqlalchemy import text as statement
from sqlmodel import Session, SQLModel

from receiver.core.amounts import MILLIONTHS, to_credits
from receiver.core.states import State
from receiver.store.journal import ATTEMPT
from receiver.store.reading import CLOCK_TOLERANCE
from receiver.store.transaction import Transaction

TASK = SQLModel.metadata.tables["task"]
DAY = 86_400_000

WORKING = (State.SUBMITTING, State.SUBMITTED, State.RUNNING)
"""States in which a task runs at the provider; an unconfirmed one may, for a while."""

_ACCOUNT: BindParameter[str] = bindparam("account")
_LOCK = statement("SELECT pg_advisory_xact_lock(hashtext(:account))")
# A later date comes from a wrong clock, and may be further ahead than anybody can wait.
_RECENT = TASK.c.submitted_at.between(bindparam("since"), bindparam("until"))
_NUMBER = func.count().label("number")
_WORKING = select(_NUMBER).where(TASK.c.provider == _ACCOUNT, or_(*(TASK.c.state == state.value for state in WORKING)))
_UNCONFIRMED = select(_NUMBER).where(TASK.c.provider == _ACCOUNT, TASK.c.state == State.UNCONFIRMED.value, _RECENT)
_KNOWN = func.coalesce(TASK.c.charged, TASK.c.reserved, TASK.c.estimated, 0)
COST = case((_KNOWN < 0, 0), else_=_KNOWN)
"""What a task cost, as far as it is known: charged, else reserved, else estimated; never negative."""
COUNTS = TASK.c.may_have_cost
_DAY_OF = (TASK.c.submitted_at - TASK.c.submitted_at % literal_column(str(DAY))).label("day")


def start_of_day(now: int) -> int:
    """Return the beginning of the day (UTC) of a time in Unix milliseconds."""
    return now - now % DAY


def sums(amount: ColumnElement[Any], name: str) -> tuple[Label[Any], Label[Any]]:
    """Return the sum of amounts as two columns, whole credits and millionths: together they could pass 64 bits."""
    parts = literal_column(str(MILLIONTHS), Integer)
    return func.sum(amount // parts).label(f"{name}_whole"), func.sum(amount % parts).label(f"{name}_rest")


def summed(whole: Any, rest: Any) -> int:
    """Return the sum of amounts from its two columns."""
    return int(whole or 0) * MILLIONTHS + int(rest or 0)


_SPENT = select(*sums(COST, "cost")).where(
    TASK.c.provider == _ACCOUNT,
    COUNTS,
    TASK.c.submitted_at >= bindparam("since"),
    TASK.c.submitted_at < bindparam("until"),
)
_PER_DAY = (
    select(TASK.c.provider, _DAY_OF, *sums(COST, "cost"), func.count())
    .where(COUNTS, TASK.c.submitted_at >= bindparam("since"))
    .group_by(TASK.c.provider, _DAY_OF)
    .order_by(TASK.c.provider, _DAY_OF.desc())
)
_DEPARTED = (
    select(ATTEMPT.c.departed_at)
    .join_from(ATTEMPT, TASK, ATTEMPT.c.task_id == TASK.c.id)
    .where(
        TASK.c.provider == _ACCOUNT,
        ATTEMPT.c.departed_at > bindparam("since"),
        ATTEMPT.c.departed_at <= bindparam("until"),
    )
    .order_by(ATTEMPT.c.departed_at.desc())
    .limit(1)
    .offset(bindparam("others"))
)


def lock_account(tx: Transaction, account: str) -> None:
    """Keep other processes from checking the same limits until the commit; SQLite's write lock does so by itself."""
    if tx.dialect == "postgresql":
        tx.run(_LOCK, account=account)


@dataclass(frozen=True, slots=True)
class Running:
    """How many tasks may be running at the provider, and how many of them are unconfirmed."""

    number: int
    unconfirmed: int


def count_running(tx: Transaction, account: str, since: int, now: int) -> Running:
    """Return how many tasks may be running at the provider; an unconfirmed one counts if it was sent since a time."""
    working = tx.one(_WORKING, account=account)
    unconfirmed = tx.one(_UNCONFIRMED, account=account, since=since, until=now + CLOCK_TOLERANCE)
    numbers = [int(row["number"]) if row else 0 for row in (working, unconfirmed)]
    return Running(sum(numbers), numbers[1])


def sum_spent_on(tx: Transaction, account: str, day: int) -> int:
    """Return what the tasks that were sent on a day cost, in millionths; `day` is its beginning."""
    row = tx.one(_SPENT, account=account, since=day, until=day + DAY)
    return summed(row["cost_whole"], row["cost_rest"]) if row else 0


@dataclass(frozen=True, slots=True)
class Spent:
    """What one account cost on one day (UTC, its beginning in Unix milliseconds), in millionths of its own credits."""

    account: str
    day: int
    millionths: int
    tasks: int

    @property
    def credits(self) -> float | int:
        """Return the amount as it is shown."""
        return to_credits(self.millionths)


def list_spent_by_day(session: Session, since: int) -> list[Spent]:
    """Return what each account spent on each day since a time, the latest first."""
    rows = session.execute(_PER_DAY, {"since": since})
    return [Spent(str(account), int(day), summed(*cost), int(number)) for account, day, *cost, number in rows]


def departure_before(tx: Transaction, account: str, since: int, now: int, number: int) -> int | None:
    """Return when the `number`-th latest request up to now left, if that was after `since`."""
    row = tx.one(_DEPARTED, account=account, since=since, until=now, others=number - 1)
    return int(row["departed_at"]) if row else None
