"""The attention list: which tasks a person should look at, and why.

A row exists only as long as somebody should look: what resolves it removes it, and so does a person who acknowledges
the task. The same reason may come back later. All changes are made in the transaction of what they tell of.
"""

from dataclasses import dataclass

from sqlalchemy import bindparam, case, delete, or_, text
from sqlmodel import Session, SQLModel, col, func, select

from receiver.store.reading import LIST_BYTES, shown_size
from receiver.store.spending import COST
from receiver.store.tables import Attention, Task
from receiver.store.transaction import Transaction

ATTENTION = SQLModel.metadata.tables["attention"]

_RAISE = text(
    "INSERT INTO attention (task_id, reason, since, detail) VALUES (:task_id, :reason, :since, :detail)"
    " ON CONFLICT (task_id, reason) DO UPDATE SET detail = excluded.detail"
)
_CLEAR = delete(ATTENTION).where(ATTENTION.c.task_id == bindparam("id"), ATTENTION.c.reason == bindparam("why"))
_ACKNOWLEDGE = delete(ATTENTION).where(ATTENTION.c.task_id == bindparam("id")).returning(ATTENTION.c.reason)
_WEIGHT = case((or_(col(Task.may_have_cost), col(Task.charged) > 0), COST), else_=-1)
"""What a task may have cost; one that was never bought comes after those whose cost is not known."""


@dataclass(frozen=True, slots=True)
class Item:
    """One reason to look at one task."""

    task: Task
    reason: str
    since: int
    detail: str | None


def raise_reason(tx: Transaction, task_id: str, reason: str, since: int, detail: str | None = None) -> None:
    """Put a task on the list for a reason; where it is there for it already, only the detail is new."""
    tx.run(_RAISE, task_id=task_id, reason=reason, since=since, detail=detail)


def clear(tx: Transaction, task_id: str, *reasons: str) -> None:
    """Take a task off the list as far as these reasons put it there."""
    for reason in reasons:
        tx.run(_CLEAR, id=task_id, why=reason)


def acknowledge(tx: Transaction, task_id: str) -> list[str]:
    """Take a task off the list until something new happens to it; returns the reasons that it was there for."""
    return sorted(row["reason"] for row in tx.all(_ACKNOWLEDGE, id=task_id))


def list_items(session: Session, most: int) -> list[Item]:
    """Return the list, most costly first: at most so many reasons, and as many as `LIST_BYTES` of tasks hold."""
    query = select(Attention, Task, shown_size(session)).join(Task, col(Task.id) == Attention.task_id)
    query = query.order_by(_WEIGHT.desc(), col(Attention.since).desc(), col(Attention.task_id), col(Attention.reason))
    items: list[Item] = []
    left = LIST_BYTES
    for row, task, size in session.exec(query.limit(most)):
        left -= size
        if left < 0 and items:
            break
        items.append(Item(task, row.reason, row.since, row.detail))
    return items


def count_by_reason(session: Session) -> dict[str, int]:
    """Return the number of tasks on the list for each reason that there is."""
    query = select(Attention.reason, func.count()).group_by(Attention.reason).order_by(Attention.reason)
    return dict(session.exec(query).all())


def count_tasks(session: Session) -> int:
    """Return the number of tasks on the list."""
    return session.exec(select(func.count(col(Attention.task_id).distinct()))).one()


def reasons_of(session: Session, task_id: str) -> list[str]:
    """Return the reasons for which a task is on the list."""
    query = select(Attention.reason).where(Attention.task_id == task_id).order_by(Attention.reason)
    return list(session.exec(query))
