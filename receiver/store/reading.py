"""Queries for what is shown and decided outside a write: one task, lists, history, counts.

Every function takes a read-only session of `Store.read`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, LargeBinary, Text, case, cast, inspect, literal, or_
from sqlalchemy.orm import defer
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.interfaces import ORMOption
from sqlmodel import Session, col, func, select
from sqlmodel.sql.expression import SelectOfScalar

from receiver.core.states import State
from receiver.store.engine import sqlite_module
from receiver.store.tables import Attempt, Check, Delivery, History, Output, Task, as_json

T = TypeVar("T", Attempt, Check, Delivery)

CLOCK_TOLERANCE = 60_000
"""Milliseconds by which the clock of another process may be ahead of ours."""
BODY_BYTES = 66_560
"""Bytes read of each body of a history: what is shown of it, and some more, since a cut may halve a secret."""
ALL_BODIES = 1024 * 1024
"""Bytes read of all bodies of a history together: strangers may have sent a hundred of the largest."""
MIN_BODY_BYTES = 4096
LIST_BYTES = 1024 * 1024
"""Bytes of the tasks in one answer to a list."""
ROW_BYTES = 1000
"""Bytes of a task or output besides its long texts."""
SHOWN_PROMPT = 300
"""Characters of a prompt in a list for people."""


class Truncated(bytes):
    """The beginning of a body; more of it is stored."""

    __slots__ = ()


def task(session: Session, task_id: str) -> Task | None:
    """Read one task."""
    return session.get(Task, task_id)


def tasks(session: Session, task_ids: Sequence[str]) -> dict[str, Task]:
    """Read some tasks, by id."""
    return {task.id: task for task in session.exec(select(Task).where(col(Task.id).in_(task_ids)))}


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
    """Return the provider accounts that have due tasks."""
    return list(session.exec(select(Task.provider).where(col(Task.next_check_at) <= now).distinct()))


def has_checks_from_the_future(session: Session, now: int) -> bool:
    """Return whether a task was scheduled by a clock that has since been set back.

    It reads all tasks that are under way, so it is not for every poll.
    """
    return session.exec(select_checks_from_the_future(now)).first() is not None


def select_checks_from_the_future(now: int) -> SelectOfScalar[str]:
    """Return the query of `has_checks_from_the_future`; a test holds it to its index."""
    planned = col(Task.next_check_at) > now
    accounts = select(Task.provider).where(planned).distinct()  # for the index, which begins with the account
    query = select(Task.id).where(col(Task.provider).in_(accounts), planned, Task.updated_at > now + CLOCK_TOLERANCE)
    return query.limit(1)


def delivery(session: Session, delivery_id: int) -> Delivery | None:
    """Read one callback as it was received."""
    return session.get(Delivery, delivery_id)


def unmatched_deliveries(session: Session, limit: int) -> list[Delivery]:
    """Read the latest callbacks to whole accounts that no task of ours has, without their bodies."""
    query = select(Delivery).where(col(Delivery.task_id).is_(None)).order_by(col(Delivery.id).desc()).limit(limit)
    return list(session.exec(query.options(_without(Delivery, "body"))))


def history(session: Session, task_id: str) -> list[tuple[History, Attempt | Check | Delivery | None]]:
    """Read what happened to a task, each row with the attempt, delivery or check that it tells of.

    Of large bodies only a `Truncated` is read: the more there are, the less of each.
    """
    rows = session.exec(select(History).where(History.task_id == task_id).order_by(col(History.id))).all()
    most = max(min(BODY_BYTES, ALL_BODIES // max(len(rows), 1)), MIN_BODY_BYTES)
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
    for row, *read in session.execute(query.options(*(_without(table, column.name) for column in bodies))):
        for column, body in zip(bodies, read, strict=True):
            cut = body is not None and len(body) > most
            set_committed_value(row, column.name, Truncated(body[:most]) if cut else body)
        found[row.history_id] = row
    return found


def _without(table: type[T], column: str) -> ORMOption:
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


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which callbacks to list: those before the number `before`, at most `limit`. Times in Unix milliseconds."""

    provider: str | None = None
    outcome: str | None = None
    since: int | None = None
    until: int | None = None
    before: int | None = None
    limit: int = 50


def deliveries(session: Session, wanted: DeliveryFilter) -> list[Delivery]:
    """List stored callbacks, newest first, without their bodies."""
    query = select(Delivery).order_by(col(Delivery.id).desc()).limit(wanted.limit)
    for column, value in ((Delivery.provider, wanted.provider), (Delivery.outcome, wanted.outcome)):
        if value is not None:
            query = query.where(column == value)
    if wanted.since is not None:
        query = query.where(Delivery.received_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(Delivery.received_at < wanted.until)
    if wanted.before is not None:
        query = query.where(col(Delivery.id) < wanted.before)
    return list(session.exec(query.options(_without(Delivery, "body"), _without(Delivery, "headers"))))


def brief_listing(session: Session, wanted: Filter) -> list[Task]:
    """List tasks for people: of each only what a line shows, with the beginning of its prompt."""
    query = _filtered(session, select(Task, func.substr(Task.prompt, 1, SHOWN_PROMPT)), wanted)
    unseen = (Task.input, Task.meta, Task.result, Task.pending, Task.prompt)
    found = []
    for task, prompt in session.execute(query.options(*map(_deferred, unseen)), execution_options=_caching(wanted)):
        set_committed_value(task, "prompt", prompt)
        found.append(task)
    return found


def listing(session: Session, wanted: Filter) -> list[Task]:
    """List whole tasks, as many as `LIST_BYTES` hold and at least one."""
    return listing_page(session, wanted)[0]


def listing_page(session: Session, wanted: Filter) -> tuple[list[Task], str | None]:
    """List whole tasks, as many as `LIST_BYTES` hold and at least one; returns the cursor to what follows, if any."""
    sizes = _filtered(session, select(Task.id, shown_size(session)), wanted)
    ids: list[str] = []
    left, found = LIST_BYTES, session.execute(sizes, execution_options=_caching(wanted)).all()
    for task_id, size in found:
        left -= size
        if left < 0 and ids:
            break
        ids.append(task_id)
    query = select(Task).where(col(Task.id).in_(ids)).order_by(col(Task.id).desc())
    tasks = list(session.exec(query.options(*map(_deferred, (Task.prompt, Task.pending)))))
    more = len(ids) < len(found) or len(ids) == wanted.limit
    return tasks, ids[-1] if ids and more else None


def matching_ids(session: Session, wanted: Filter) -> list[str]:
    """Return the ids of the tasks that match a filter, newest first."""
    found = session.execute(_filtered(session, select(Task.id), wanted), execution_options=_caching(wanted))
    return list(found.scalars())


def _filtered(session: Session, query: Any, wanted: Filter) -> Any:
    if wanted.metadata:
        ids = _with_metadata(session, wanted)
        return query.where(col(Task.id).in_(ids)).order_by(col(Task.id).desc())
    return _of_columns(query, wanted)


def _of_columns(query: Any, wanted: Filter) -> Any:
    """Narrow a query by all of a filter but metadata."""
    query = query.order_by(col(Task.id).desc()).limit(wanted.limit)
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
        query = query.where(col(Task.created_at) >= wanted.since)
    if wanted.until is not None:
        query = query.where(col(Task.created_at) < wanted.until)
    if wanted.before is not None:
        query = query.where(col(Task.id) < wanted.before)
    return query


def _caching(wanted: Filter) -> dict[str, Any]:
    """Keep no compiled statement of each number of metadata filters that somebody tries: each is large."""
    return {"compiled_cache": None} if wanted.metadata else {}


def shown_size(session: Session) -> ColumnElement[int]:
    """Return the bytes of what of a task is shown, measured without reading it."""
    old = session.get_bind().dialect.name == "sqlite" and sqlite_module().sqlite_version_info < (3, 43)
    length = func.length if old else func.octet_length
    urls = select(func.sum(length(Output.url) + ROW_BYTES)).where(Output.task_id == Task.id).scalar_subquery()
    parts = (length(column) for column in (Task.input, Task.meta, Task.result, Task.notices, Task.error_message))
    return ROW_BYTES + sum((func.coalesce(part, 0) for part in (*parts, urls)), literal(0))


def _deferred(attribute: Any) -> ORMOption:
    return defer(attribute)


def _with_metadata(session: Session, wanted: Filter) -> list[str]:
    """List the ids of the tasks that a filter lets through which has metadata entries.

    The database picks out what may match by the very text that it stores, which both databases compare in the same
    way; what does match is decided here, since each of them reads numbers, NUL and half characters differently.
    """
    query = _of_columns(select(Task.id, Task.meta), wanted)
    for key, value in wanted.metadata.items():
        entries = [f"{as_json(key)}:{text}" for text in _json_spellings(value)]
        query = query.where(or_(*(_position(session, entry) > 0 for entry in entries)))
    found: list[str] = []
    last = None
    while len(found) < wanted.limit:
        page = query if last is None else query.where(col(Task.id) < last)
        more = session.execute(page, execution_options=_caching(wanted)).all()
        found += [task_id for task_id, metadata in more if _has_all(metadata, wanted.metadata)]
        if len(more) < wanted.limit:
            break
        last = more[-1][0]
    return found[: wanted.limit]


def _position(session: Session, text: str) -> ColumnElement[int]:
    """Find a text in the metadata as it is stored."""
    of_dialect = func.instr if session.get_bind().dialect.name == "sqlite" else func.strpos
    return of_dialect(cast(col(Task.meta), Text), text)


def _json_spellings(value: str) -> set[str]:
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
