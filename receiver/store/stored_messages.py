"""Queries for reading history again: what providers said about which task, by callback or in an answer."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import union
from sqlmodel import Session, col, select

from receiver.store.tables import Attempt, Check, Delivery, Task


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One stored message of a provider, a callback or the answer to a check or an attempt, and when it came."""

    kind: Literal["delivery", "check", "attempt"]
    id: int
    at: int = 0


def list_tasks_with_messages(session: Session, since: int, after: str, limit: int) -> list[str]:
    """Return the ids, in order, of tasks with messages since a time, those after `after`."""
    heard = union(
        select(col(Delivery.task_id)).where(Delivery.received_at >= since),
        select(col(Check.task_id)).where(Check.asked_at >= since),
        select(col(Attempt.task_id)).where(Attempt.departed_at >= since),
    ).subquery()
    query = select(heard.c.task_id).where(heard.c.task_id > after).order_by(heard.c.task_id).limit(limit)
    return list(session.exec(query))


def list_messages(session: Session, task_id: str, since: int) -> list[StoredMessage]:
    """Return a task's messages since a time, the latest first, of attempts only the last. Reads no bodies."""
    deliveries = select(Delivery.history_id, Delivery.id, Delivery.received_at).where(
        Delivery.task_id == task_id, Delivery.received_at >= since
    )
    checks = select(Check.history_id, Check.id, Check.asked_at).where(
        Check.task_id == task_id, Check.asked_at >= since, col(Check.answer).is_not(None)
    )
    attempts = (
        select(Attempt.history_id, Attempt.id, Attempt.departed_at)
        .where(Attempt.task_id == task_id, Attempt.departed_at >= since)
        .order_by(col(Attempt.number).desc())
        .limit(1)
    )
    found = [
        *((place or 0, StoredMessage("delivery", number or 0, at)) for place, number, at in session.exec(deliveries)),
        *((place, StoredMessage("check", number or 0, at)) for place, number, at in session.exec(checks)),
        *((place, StoredMessage("attempt", number or 0, at)) for place, number, at in session.exec(attempts)),
    ]
    return [heard for _, heard in sorted(found, key=lambda one: one[0], reverse=True)]


def list_unassigned_deliveries(session: Session, since: int) -> list[int]:
    """Return the account callbacks since a time that belong to no task."""
    query = select(Delivery.id).where(col(Delivery.task_id).is_(None), Delivery.received_at >= since)
    return [number or 0 for number in session.exec(query.order_by(col(Delivery.id)))]


def read_row(session: Session, heard: StoredMessage) -> Delivery | Check | Attempt | None:
    """Return the row of a message, with its body."""
    if heard.kind == "delivery":
        return session.get(Delivery, heard.id)
    return session.get(Check, heard.id) if heard.kind == "check" else session.get(Attempt, heard.id)


def read_task(session: Session, heard: StoredMessage) -> Task | None:
    """Return the task of a message."""
    row = read_row(session, heard)
    return None if row is None or row.task_id is None else session.get(Task, row.task_id)
