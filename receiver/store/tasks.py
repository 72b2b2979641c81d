"""Task rows: inserting, reading for a change, the guarded change itself, leases.

`lifecycle` decides what is written; nothing here does.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, BindParameter, ColumnElement, bindparam, insert, or_, select, update
from sqlalchemy.sql.dml import ReturningUpdate
from sqlmodel import SQLModel

from receiver.core.states import State
from receiver.store.reading import CLOCK_TOLERANCE
from receiver.store.task_row import COLUMNS, TaskChanges, TaskRow, encoded
from receiver.store.transaction import Transaction

TASK = SQLModel.metadata.tables["task"]
DELIVERY = SQLModel.metadata.tables["delivery"]
OUTPUT = SQLModel.metadata.tables["output"]

_ID: BindParameter[str] = bindparam("task_id")

_INSERT = insert(TASK)
_INSERT_OUTPUT = insert(OUTPUT)
_NOT_ARCHIVED = {"archive": "off", "fetch_tries": 0, "fetch_claim": 0, "link_refreshed": False}
_CURRENT = select(*(TASK.c[name] for name in COLUMNS)).where(TASK.c.id == _ID).with_for_update()
_BY_KEY = select(TASK.c.id, TASK.c.order_digest).where(TASK.c.idempotency_key == bindparam("key"))
_BY_REMOTE = select(TASK.c.id).where(TASK.c.provider == bindparam("account"), TASK.c.remote_id == bindparam("remote"))
_ORDERED_WITH = select(TASK.c.input).where(TASK.c.id == _ID)
_OF_DELIVERY = select(DELIVERY.c.task_id).where(DELIVERY.c.id == bindparam("delivery_id"))
_URLS = select(OUTPUT.c.url).where(OUTPUT.c.task_id == _ID).order_by(OUTPUT.c.position)
_HAS_RESULT = select(TASK.c.id).where(TASK.c.id == _ID, TASK.c.result.is_not(None))
_CHANGE = update(TASK).where(TASK.c.id == _ID, TASK.c.state == bindparam("was"))

SKEW = 600_000
"""Milliseconds by which the leases of two processes may differ: by their clocks, or by what they wait for an answer."""
# A lease that ends later than any other process can have given out is left over from a clock that was ahead.
_FREE = or_(
    TASK.c.leased_until.is_(None),
    TASK.c.leased_until <= bindparam("now"),
    TASK.c.leased_until > bindparam("until", type_=BigInteger) + SKEW,
)
_LEASE = {"claim": TASK.c.claim + 1, "leased_until": bindparam("until")}
_TAKEN = (TASK.c.id, TASK.c.claim)
_CLAIM_ONE = update(TASK).where(TASK.c.id == _ID, _FREE).values(_LEASE).returning(*_TAKEN)
_OF_A_LEASE = frozenset({"leased_until", "updated_at"})
"""Columns that are written when a lease is given back: that alone is no change of the task."""
_TO_BE_SENT = or_(TASK.c.state == State.QUEUED.value, TASK.c.state == State.SUBMITTING.value)


def _claim_due(*which: ColumnElement[bool]) -> ReturningUpdate[Any]:
    return (
        update(TASK)
        .where(
            TASK.c.id.in_(
                select(TASK.c.id)
                .where(TASK.c.provider == bindparam("account"), TASK.c.next_check_at <= bindparam("now"), _FREE, *which)
                .order_by(TASK.c.next_check_at)
                .limit(bindparam("most"))
                .with_for_update(skip_locked=True)
            )
        )
        .values(_LEASE)
        .returning(*_TAKEN, TASK.c.next_check_at)
    )


_CLAIM_DUE = {None: _claim_due(), True: _claim_due(_TO_BE_SENT), False: _claim_due(~_TO_BE_SENT)}
_CLAIM_CRASHED = (
    update(TASK)
    .where(
        TASK.c.id.in_(
            select(TASK.c.id)
            .where(TASK.c.state == State.SUBMITTING.value, TASK.c.leased_until.is_not(None), _FREE)
            .limit(bindparam("most"))
            .with_for_update(skip_locked=True)
        )
    )
    .values(_LEASE)
    .returning(*_TAKEN)
)
_REPLAN = (
    update(TASK)
    .where(TASK.c.next_check_at > bindparam("now"), TASK.c.updated_at > bindparam("now") + CLOCK_TOLERANCE)
    .values(next_check_at=bindparam("now") + TASK.c.next_check_at - TASK.c.updated_at, updated_at=bindparam("now"))
    .returning(TASK.c.id)
)


@dataclass(frozen=True, slots=True)
class Claim:
    """A lease on a task: whoever holds the current number may write for it."""

    task_id: str
    number: int


def insert_task(tx: Transaction, values: dict[str, Any]) -> None:
    """Add a task row."""
    tx.run(_INSERT, **values)
    tx.touch(values["id"])


def insert_outputs(tx: Transaction, task_id: str, rows: Iterable[dict[str, Any]]) -> None:
    """Add a task's produced files, in order."""
    for position, row in enumerate(rows):
        tx.run(_INSERT_OUTPUT, task_id=task_id, position=position, **_NOT_ARCHIVED | row)
        tx.touch(task_id)


def current(tx: Transaction, task_id: str) -> TaskRow | None:
    """Read what a change needs to know of a task, and keep others from changing it until the commit."""
    values = tx.first(_CURRENT, task_id=task_id)
    return None if values is None else TaskRow.of(values)


def by_key(tx: Transaction, key: str) -> dict[str, Any] | None:
    """Find the task that was submitted under a caller's idempotency key."""
    return tx.one(_BY_KEY, key=key)


def by_remote(tx: Transaction, provider: str, remote_id: str) -> str | None:
    """Find the task that holds a provider's id."""
    row = tx.one(_BY_REMOTE, account=provider, remote=remote_id)
    return str(row["id"]) if row else None


def output_urls(tx: Transaction, task_id: str) -> list[str]:
    """List the URLs of a task's files."""
    return [str(row["url"]) for row in tx.all(_URLS, task_id=task_id)]


def has_result(tx: Transaction, task_id: str) -> bool:
    """Return whether a task has a result that is not files."""
    return tx.one(_HAS_RESULT, task_id=task_id) is not None


def of_delivery(tx: Transaction, delivery_id: int) -> str | None:
    """Return the id of the task of a delivery, if it has one."""
    row = tx.one(_OF_DELIVERY, delivery_id=delivery_id)
    return row["task_id"] if row else None


def ordered_with(tx: Transaction, task_id: str) -> str:
    """Return a task's input as JSON."""
    row = tx.one(_ORDERED_WITH, task_id=task_id)
    return str(row["input"]) if row else ""


def change(tx: Transaction, task_id: str, was: State, changes: TaskChanges) -> bool:
    """Write changes to a task; returns False where it is no longer in the state it was read in."""
    if tx.run(_CHANGE, task_id=task_id, was=was.value, **encoded(changes)) == 0:
        return False
    if not changes.keys() <= _OF_A_LEASE:
        tx.touch(task_id)
    return True


def claim_one(tx: Transaction, task_id: str, now: int, until: int) -> Claim | None:
    """Claim one task, due or not; None while somebody else holds its lease."""
    row = tx.one(_CLAIM_ONE, task_id=task_id, now=now, until=until)
    return Claim(row["id"], row["claim"]) if row else None


def claim_due(
    tx: Transaction, provider: str, now: int, until: int, most: int, *, orders: bool | None = None
) -> list[Claim]:
    """Claim at most so many of a provider account's due tasks, the longest due first.

    `orders` picks those that are to be sent, or the others; else all are taken as they come.
    """
    rows = tx.all(_CLAIM_DUE[orders], account=provider, now=now, until=until, most=most)
    return [Claim(row["id"], row["claim"]) for row in sorted(rows, key=lambda row: int(row["next_check_at"]))]


def claim_these(tx: Transaction, task_ids: Iterable[str], now: int, until: int) -> tuple[list[Claim], list[str]]:
    """Claim those of these tasks that have an id and are due; returns also those whose leases others hold."""
    claims, held = [], []
    for task_id in task_ids:
        row = current(tx, task_id)
        if row is None or row.remote_id is None or row.next_check_at is None or row.next_check_at > now:
            continue
        claim = claim_one(tx, task_id, now, until)
        if claim is None:
            held.append(task_id)
        else:
            claims.append(claim)
    return claims, held


def reschedule_after_clock_change(tx: Transaction, now: int) -> int:
    """Reschedule from now what a clock scheduled that has since been set back, pauses kept; returns how many tasks."""
    replanned = tx.all(_REPLAN, now=now)
    for row in replanned:
        tx.touch(row["id"])
    return len(replanned)


def claim_crashed(tx: Transaction, now: int, until: int, most: int) -> list[Claim]:
    """Claim at most so many submissions whose lease ran out."""
    return [Claim(row["id"], row["claim"]) for row in tx.all(_CLAIM_CRASHED, now=now, until=until, most=most)]
