"""Queries for what is shown and decided outside a write: one task, lists, history, counts.

Every function takes a read-only session of `Store.read`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy import ColumnElement, LargeBinary, Text, case, cast, inspect, or_
from sqlalchemy.orm import defer
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.interfaces import ORMOption
from sqlmodel import Session, col, func, select
from sqlmodel.sql.expression import SelectOfScalar

from receiver.states import State
from receiver.tables import Attempt, Check, Delivery, History, Output, Task, as_json

T = TypeVar("T", Attempt, Check, Delivery)

AHEAD = 60_000
"""Milliseconds by which the clock of another process may be ahead of ours."""
BODY_BYTES = 66_560
"""Bytes read of each body of a history: what is shown of it, and some more, since a cut may halve a secret."""
ALL_BODIES = 1024 * 1024
"""Bytes read of all bodies of a history together: strangers may have sent a hundred of the largest."""
LEAST_BYTES = 4096


class Beginning(bytes):
    """The beginning of a body; more of it is stored."""

    __slots__ = ()


def task(session: Session, task_id: str) -> Task | None:
    """Read one task."""
    return session.get(Task, task_id)


def by_key(session: Session, key: str) -> Task | None:
    """Read the task that was submitted under a caller's idempotency key."""
    return session.exec(select(Task).where(Task.idempotency_key == key)).first()


def outputs(session: Session, task_ids: Sequence[str]) -> dict[str, list[Output]]:
    """Read the files of some tasks, in order, by task id."""
    found: dict[str, list[Output]] = {task_id: [] for task_id in task_ids}
    query = select(Output).where(col(Output.task_id).in_(task_ids)).order_by(col(Output.position))
    for output in session.exec(query):
        found[output.task_id].append(output)
    return found


def due_accounts(session: Session, now: int) -> list[str]:
    """Name the provider accounts that have tasks to look at."""
    return list(session.exec(select(Task.provider).where(col(Task.next_check_at) <= now).distinct()))


def plans_of_tomorrow(session: Session, now: int) -> bool:
    """Tell whether there are plans that were made at a time which is yet to come: by a clock that was set back since.

    It looks at all tasks that are under way, so it is not for every look.
    """
    return session.exec(select_plans_of_tomorrow(now)).first() is not None


def select_plans_of_tomorrow(now: int) -> SelectOfScalar[str]:
    """Write the query of `plans_of_tomorrow`, whose use of the index is watched over."""
    planned = col(Task.next_check_at) > now
    accounts = select(Task.provider).where(planned).distinct()  # for the index, which begins with the account
    query = select(Task.id).where(col(Task.provider).in_(accounts), planned, Task.updated_at > now + AHEAD)
    return query.limit(1)


def delivery(session: Session, delivery_id: int) -> Delivery | None:
    """Read one callback as it was received."""
    return session.get(Delivery, delivery_id)


def homeless_deliveries(session: Session, limit: int) -> list[Delivery]:
    """Read the latest callbacks to whole accounts that no task of ours has, without their bodies."""
    query = select(Delivery).where(col(Delivery.task_id).is_(None)).order_by(col(Delivery.id).desc()).limit(limit)
    return list(session.exec(query.options(_leaving_out(Delivery, "body"))))


def history(session: Session, task_id: str) -> list[tuple[History, Attempt | Check | Delivery | None]]:
    """Read what happened to a task, each row with the attempt, delivery or check that it tells of.

    Of large bodies only a `Beginning` is read: the more there are, the less of each.
    """
    rows = session.exec(select(History).where(History.task_id == task_id).order_by(col(History.id))).all()
    most = max(min(BODY_BYTES, ALL_BODIES // max(len(rows), 1)), LEAST_BYTES)
    told: dict[str, Mapping[int | None, Attempt | Check | Delivery]] = {
        "attempt": _of(session, Attempt, task_id, most),
        "delivery": _of(session, Delivery, task_id, most),
        "check": _of(session, Check, task_id, most),
    }
    return [(row, told.get(row.kind, {}).get(row.id)) for row in rows]


def _of(session: Session, table: type[T], task_id: str, most: int) -> dict[int | None, T]:
    bodies = [column for column in inspect(table).columns if isinstance(column.type, LargeBinary)]
    # One byte more than shown tells that there is more. Short ones stay as they are: SQLite's `substr` makes NULL of
    # what is empty.
    beginnings = (
        case((func.length(column) > most, func.substr(column, 1, most + 1, type_=LargeBinary)), else_=column)
        for column in bodies
    )
    query = select(table, *beginnings).where(table.task_id == task_id)
    found: dict[int | None, T] = {}
    for row, *read in session.execute(query.options(*(_leaving_out(table, column.name) for column in bodies))):
        for column, body in zip(bodies, read, strict=True):
            cut = body is not None and len(body) > most
            set_committed_value(row, column.name, Beginning(body[:most]) if cut else body)
        found[row.history_id] = row
    return found


def _leaving_out(table: type[T], column: str) -> ORMOption:
    return defer(getattr(table, column))


@dataclass(frozen=True, slots=True)
class Filter:
    """Which tasks to list: newest first, those before the id `before`, at most `limit`. Times in Unix milliseconds."""

    states: Sequence[State] = ()
    provider: str | None = None
    model: str | None = None
    q: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    since: int | None = None
    until: int | None = None
    before: str | None = None
    limit: int = 50


def listing(session: Session, wanted: Filter) -> list[Task]:
    """List tasks."""
    query = select(Task).order_by(col(Task.id).desc()).limit(wanted.limit)
    if wanted.states:
        query = query.where(col(Task.state).in_(wanted.states))
    for column, value in ((Task.provider, wanted.provider), (Task.model, wanted.model)):
        if value is not None:
            query = query.where(column == value)
    if wanted.q:
        like = "%" + re.sub(r"([%_\\])", r"\\\1", wanted.q) + "%"
        query = query.where(
            or_(*(col(column).ilike(like, escape="\\") for column in (Task.prompt, Task.id, Task.remote_id)))
        )
    if wanted.since is not None:
        query = query.where(Task.created_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(Task.created_at < wanted.until)
    if wanted.before is not None:
        query = query.where(Task.id < wanted.before)
    return _labelled(session, query, wanted) if wanted.metadata else list(session.exec(query))


def _labelled(session: Session, query: SelectOfScalar[Task], wanted: Filter) -> list[Task]:
    """List the tasks that have all wanted entries in their metadata.

    The database picks out what may match by the very text that it stores, which both databases compare in the same
    way; what does match is decided here, since each of them reads numbers, NUL and half characters differently.
    """
    for key, value in wanted.metadata.items():
        entries = [f"{as_json(key)}:{text}" for text in _ways_to_write(value)]
        query = query.where(or_(*(_position(session, entry) > 0 for entry in entries)))
    found: list[Task] = []
    last = None
    while len(found) < wanted.limit:
        more = list(session.exec(query if last is None else query.where(Task.id < last)))
        found += [task for task in more if _has_all(task.meta, wanted.metadata)]
        if len(more) < wanted.limit:
            break
        last = more[-1].id
    return found[: wanted.limit]


def _position(session: Session, text: str) -> ColumnElement[int]:
    """Find a text in the metadata as it is stored."""
    of_dialect = func.instr if session.get_bind().dialect.name == "sqlite" else func.strpos
    return of_dialect(cast(col(Task.meta), Text), text)


def _ways_to_write(value: str) -> set[str]:
    """Return how JSON may hold what a filter says: as a text, or as the number, word or list that it looks like."""
    return {as_json(value), *(filter(None, [_canonical(value)]))}


def _canonical(value: str) -> str | None:
    """Write a JSON value as it is stored; None where a filter says a text, or nothing."""
    try:
        read = json.loads(value)
        return None if read is None or isinstance(read, str) else as_json(read)
    except (ValueError, RecursionError):
        return None


def _has_all(metadata: Mapping[str, object], wanted: Mapping[str, str]) -> bool:
    return all(_is(metadata.get(key), value) for key, value in wanted.items())


def _is(stored: object, value: str) -> bool:
    """Return whether a metadata entry is what a filter says; an empty one is nothing."""
    if stored is None or isinstance(stored, str):
        return stored == value
    return as_json(stored) == _canonical(value)
