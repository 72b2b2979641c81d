"""Queries for reading history again: what was heard of which task, by callback or as the answer to our own requests."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import union
from sqlmodel import Session, col, select

from receiver.store.tables import Attempt, Check, Delivery, Task


@dataclass(frozen=True, slots=True)
class Heard:
    """One stored message of a provider, a callback or the answer to a check or an attempt, and when it came."""

    kind: Literal["delivery", "check", "attempt"]
    id: int
    at: int = 0


def tasks_heard_of(session: Session, since: int, after: str, limit: int) -> list[str]:
    """Name the tasks that something was heard of since a time, in the order of their ids, those after `after`."""
    heard = union(
        select(col(Delivery.task_id)).where(Delivery.received_at >= since),
        select(col(Check.task_id)).where(Check.asked_at >= since),
        select(col(Attempt.task_id)).where(Attempt.departed_at >= since),
    ).subquery()
    query = select(heard.c.task_id).where(heard.c.task_id > after).order_by(heard.c.task_id).limit(limit)
    return list(session.exec(query))


def heard_of(session: Session, task_id: str, since: int) -> list[Heard]:
    """List what was heard of a task since a time, the latest first; of attempts the last alone. Reads no bodies."""
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
        *((place or 0, Heard("delivery", number or 0, at)) for place, number, at in session.exec(deliveries)),
        *((place, Heard("check", number or 0, at)) for place, number, at in session.exec(checks)),
        *((place, Heard("attempt", number or 0, at)) for place, number, at in session.exec(attempts)),
    ]
    return [heard for _, heard in sorted(found, key=lambda one: one[0], reverse=True)]


def without_task(session: Session, since: int) -> list[int]:
    """Name the callbacks to whole accounts that came since a time and that no task has."""
    query = select(Delivery.id).where(col(Delivery.task_id).is_(None), Delivery.received_at >= since)
    return [number or 0 for number in session.exec(query.order_by(col(Delivery.id)))]


def stored(session: Session, heard: Heard) -> Delivery | Check | Attempt | None:
    """Read what was heard, with its body."""
    if heard.kind == "delivery":
        return session.get(Delivery, heard.id)
    return session.get(Check, heard.id) if heard.kind == "check" else session.get(Attempt, heard.id)


def task_of(session: Session, heard: Heard) -> Task | None:
    """Read the task that something was heard of."""
    row = stored(session, heard)
    return None if row is None or row.task_id is None else session.get(Task, row.task_id)
