"""What an account's limits are checked against: tasks that run, credits of a day, recent departures."""

from dataclasses import dataclass

from sqlalchemy import BindParameter, and_, bindparam, func, literal_column, not_, or_, select, text
from sqlmodel import Session, SQLModel

from receiver.states import State, Via
from receiver.store.journal import ATTEMPT
from receiver.store.transaction import Transaction

TASK = SQLModel.metadata.tables["task"]

AT_THE_PROVIDER = (State.SUBMITTING, State.UNCONFIRMED, State.SUBMITTED, State.RUNNING)
"""States in which a task may be using one of the provider's places."""

_ACCOUNT: BindParameter[str] = bindparam("account")
_LOCK = text("SELECT pg_advisory_xact_lock(hashtext(:account))")
_RUNNING = select(func.count().label("number")).where(
    TASK.c.provider == _ACCOUNT, or_(*(TASK.c.state == state.value for state in AT_THE_PROVIDER))
)
DAY = 86_400_000
COST = func.coalesce(TASK.c.charged, TASK.c.reserved, TASK.c.estimated, 0.0)
"""What a task cost, as far as it is known: charged, else reserved, else estimated."""
_REFUSED = and_(TASK.c.state == State.FAILED.value, TASK.c.settled_by == Via.SUBMISSION.value)
_BOUGHT = and_(
    TASK.c.submitted_at >= bindparam("since"),
    TASK.c.state != State.QUEUED.value,
    not_(func.coalesce(_REFUSED, False)),
)
_SPENT = select(func.sum(COST).label("credits")).where(
    TASK.c.provider == _ACCOUNT, _BOUGHT, TASK.c.submitted_at < bindparam("until")
)
_DAY = (TASK.c.submitted_at - TASK.c.submitted_at % literal_column(str(DAY))).label("day")
_PER_DAY = (
    select(TASK.c.provider, _DAY, func.sum(COST), func.count())
    .where(_BOUGHT)
    .group_by(TASK.c.provider, _DAY)
    .order_by(TASK.c.provider, _DAY.desc())
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


def lock(tx: Transaction, account: str) -> None:
    """Keep other processes from checking the same limits until the commit; SQLite's write lock does so by itself."""
    if tx.dialect == "postgresql":
        tx.run(_LOCK, account=account)


def running(tx: Transaction, account: str) -> int:
    """Count the tasks that may be at work at the provider."""
    row = tx.one(_RUNNING, account=account)
    return int(row["number"]) if row else 0


def spent_on(tx: Transaction, account: str, day: int) -> float:
    """Sum the credits of the tasks that were sent on a day, named by its beginning; refused ones cost nothing.

    What is dated later was sent while the clock was wrong, and may be so for longer than anybody can wait.
    """
    row = tx.one(_SPENT, account=account, since=day, until=day + DAY)
    return float(row["credits"] or 0.0) if row else 0.0


@dataclass(frozen=True, slots=True)
class Spent:
    """What one account cost on one day (UTC, its beginning in Unix milliseconds), in its own credits."""

    account: str
    day: int
    credits: float
    tasks: int


def per_day(session: Session, since: int) -> list[Spent]:
    """List what each account cost on each day since a time, the latest first."""
    rows = session.execute(_PER_DAY, {"since": since})
    return [Spent(str(row[0]), int(row[1]), float(row[2]), int(row[3])) for row in rows]


def departure_before(tx: Transaction, account: str, since: int, now: int, number: int) -> int | None:
    """Return when the `number`-th latest request up to now left, if that was after `since`."""
    row = tx.one(_DEPARTED, account=account, since=since, until=now, others=number - 1)
    return int(row["departed_at"]) if row else None
