"""What is kept of every exchange: history rows, attempts, deliveries, checks. Written in the same transaction as the
change that they tell of."""

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, not_, select, update
from sqlmodel import SQLModel

from receiver.store.tables import as_json
from receiver.store.transaction import Transaction

HISTORY = SQLModel.metadata.tables["history"]
ATTEMPT = SQLModel.metadata.tables["attempt"]
DELIVERY = SQLModel.metadata.tables["delivery"]
CHECK = SQLModel.metadata.tables["status_check"]

KEPT_BYTES = 65_536
"""Bytes kept of an answer to one of our own requests; a delivery is kept whole."""

_HISTORY = insert(HISTORY).returning(HISTORY.c.id)
_ATTEMPT = insert(ATTEMPT).returning(ATTEMPT.c.id)
_DELIVERY = insert(DELIVERY)
_HELD = (
    select(DELIVERY.c.id, DELIVERY.c.event)
    .where(
        DELIVERY.c.provider == bindparam("account"),
        DELIVERY.c.remote_id == bindparam("remote"),
        DELIVERY.c.task_id.is_(None),
    )
    .order_by(DELIVERY.c.id)
)
_COUNT_HELD = select(func.count().label("number")).where(
    DELIVERY.c.provider == bindparam("account"), DELIVERY.c.task_id.is_(None)
)
_OLDEST = select(func.min(DELIVERY.c.id)).where(
    DELIVERY.c.provider == bindparam("account"), DELIVERY.c.task_id.is_(None)
)
_DROP = delete(DELIVERY).where(DELIVERY.c.id == _OLDEST.scalar_subquery())
_ASSIGN = update(DELIVERY).where(DELIVERY.c.id == bindparam("delivery_id"))
_UPDATE_HELD = update(DELIVERY).where(DELIVERY.c.id == bindparam("delivery_id"), DELIVERY.c.task_id.is_(None))
_COMPLETE_NOTE = update(HISTORY).where(HISTORY.c.id == bindparam("history_id"))
_CHECK = insert(CHECK)
_END_ATTEMPT = update(ATTEMPT).where(ATTEMPT.c.id == bindparam("attempt_id"))
_ATTEMPTS_OF = ATTEMPT.c.task_id == bindparam("task")
_PURCHASE = select(
    ATTEMPT.c.id,
    ATTEMPT.c.key,
    ATTEMPT.c.method,
    ATTEMPT.c.url,
    ATTEMPT.c.body,
    ATTEMPT.c.departed_at,
    ATTEMPT.c.http_status,
    ATTEMPT.c.message,
).where(_ATTEMPTS_OF, ATTEMPT.c.may_have_bought, not_(ATTEMPT.c.repeats))
_OPEN = select(ATTEMPT.c.id, ATTEMPT.c.claim).where(_ATTEMPTS_OF, ATTEMPT.c.ended_at.is_(None))
_LAST_CHECK = (
    select(CHECK.c.asked_at, CHECK.c.outcome)
    .where(CHECK.c.task_id == bindparam("task"))
    .order_by(CHECK.c.id.desc())
    .limit(1)
)
_BOUGHT_NOTHING = update(ATTEMPT).where(_ATTEMPTS_OF).values(may_have_bought=False)


@dataclass(frozen=True, slots=True)
class Purchase:
    """The one attempt of a task that may have bought something: what it sent, when, and what came back."""

    id: int
    key: str
    method: str
    url: str
    body: bytes
    departed_at: int
    http_status: int | None
    message: str | None


def note(tx: Transaction, task_id: str, at: int, kind: str, data: dict[str, Any] | None = None) -> int:
    """Add a history row and return its id; an attempt, delivery or check that it tells of names it."""
    return _new_id(tx, _HISTORY, {"task_id": task_id, "at": at, "kind": kind, "data": as_json(data or {})})


def complete_note(tx: Transaction, history_id: int, data: dict[str, Any]) -> None:
    """Complete a history row that had to be added before its contents were known."""
    tx.run(_COMPLETE_NOTE, history_id=history_id, data=as_json(data))


def add_attempt(tx: Transaction, **values: Any) -> int:
    """Add an attempt before its request leaves; returns its id."""
    return _new_id(tx, _ATTEMPT, values)


def end_attempt(tx: Transaction, attempt_id: int, **values: Any) -> None:
    """Record how an attempt ended."""
    tx.run(_END_ATTEMPT, attempt_id=attempt_id, **values)


def purchase(tx: Transaction, task_id: str) -> Purchase | None:
    """Return the attempt that may have bought something, repeats of it aside; the schema allows no second one."""
    row = tx.one(_PURCHASE, task=task_id)
    return None if row is None else Purchase(**row | {"body": bytes(row["body"])})


def open_attempts(tx: Transaction, task_id: str) -> dict[int | None, int]:
    """Return the ids of a task's attempts whose end was not written down, by the claim under which each was made."""
    return {row["claim"]: int(row["id"]) for row in tx.all(_OPEN, task=task_id)}


def bought_nothing(tx: Transaction, task_id: str) -> None:
    """Record that no attempt of a task bought anything."""
    tx.run(_BOUGHT_NOTHING, task=task_id)


def add_delivery(tx: Transaction, **values: Any) -> None:
    """Add a delivery with its outcome."""
    tx.run(_DELIVERY, **values)


def count_held(tx: Transaction, account: str) -> int:
    """Count the deliveries to an account that wait for their task."""
    row = tx.one(_COUNT_HELD, account=account)
    return int(row["number"]) if row else 0


def drop_oldest_held(tx: Transaction, account: str) -> None:
    """Delete the delivery to an account that has waited longest for its task."""
    tx.run(_DROP, account=account)


def take_held(tx: Transaction, account: str, remote_id: str, task_id: str, at: int) -> list[dict[str, Any] | None]:
    """Give a task the deliveries that waited for its id; returns the final event that each holds, if any."""
    held = tx.all(_HELD, account=account, remote=remote_id)
    for row in held:
        history_id = note(tx, task_id, at, "delivery")
        tx.run(_ASSIGN, delivery_id=row["id"], task_id=task_id, history_id=history_id)
    return [None if row["event"] is None else json.loads(row["event"]) for row in held]


def update_held(tx: Transaction, delivery_id: int, **values: Any) -> bool:
    """Write what a delivery without a task says by now; returns False where it has one, or is gone."""
    return tx.run(_UPDATE_HELD, delivery_id=delivery_id, **values) == 1


def add_check(tx: Transaction, **values: Any) -> None:
    """Add a status request with what came of it."""
    tx.run(_CHECK, **values)


@dataclass(frozen=True, slots=True)
class LastCheck:
    """When the latest status request of a task left (Unix milliseconds), and what came of it."""

    asked_at: int
    outcome: str


def last_check(tx: Transaction, task_id: str) -> LastCheck | None:
    """Return the latest status request of a task whose answer is recorded."""
    row = tx.one(_LAST_CHECK, task=task_id)
    return None if row is None else LastCheck(int(row["asked_at"]), str(row["outcome"]))


def _new_id(tx: Transaction, statement: Any, values: dict[str, Any]) -> int:
    row = tx.one(statement, **values)
    if row is None:
        raise AssertionError("an INSERT with RETURNING gives its row")
    return int(row["id"])
