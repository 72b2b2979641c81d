"""The condition of a database: its journal, its integrity, and what has been waiting for too long.

Every function takes a read-only session of `Store.read`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import OperationalError
from sqlmodel import Session, col, func, select

from receiver.core.states import State
from receiver.store import error_codes, postgresql
from receiver.store.tables import Task

LATEST = 500
"""How many of the latest tasks are checked for missing callbacks."""
STEPS = 10_000
"""SQLite's instructions between two readings of the time."""


def read_journal_mode(session: Session) -> str | None:
    """Return SQLite's journal mode; None for PostgreSQL."""
    if not _is_sqlite(session):
        return None
    return str(session.connection().exec_driver_sql("PRAGMA journal_mode").scalar()).lower()


def read_durability(session: Session) -> tuple[str, list[str]]:
    """Return the version of a PostgreSQL, and which settings are off that protect it from power cuts."""
    connection = session.connection()
    return str(connection.exec_driver_sql("SHOW server_version").scalar()), postgresql.list_unsafe_settings(connection)


def find_damage(session: Session, seconds: float) -> list[str] | None:
    """Return the damage in an SQLite database; None if the search takes longer than so many seconds.

    For PostgreSQL it is empty.
    """
    if not _is_sqlite(session):
        return []
    try:
        with _time_limit(session, seconds):
            found = session.connection().exec_driver_sql("PRAGMA quick_check(3)").scalars().all()
    except OperationalError as error:
        if not error_codes.is_interrupted(error):
            raise
        return None
    return [str(words) for words in found if words != "ok"]


def count_overdue(session: Session, before: int) -> tuple[int, int | None]:
    """Return the number of tasks that were due before a time, and the oldest such time, in Unix milliseconds."""
    query = select(func.count(), func.min(Task.next_check_at)).where(col(Task.next_check_at) < before)
    number, oldest = session.exec(query).one()
    return int(number), oldest


def count_due_by_account(session: Session, before: int) -> dict[str, tuple[int, int]]:
    """Return for each account the number of tasks that were due before a time, and the oldest such time."""
    query = select(Task.provider, func.count(), func.min(Task.next_check_at)).where(col(Task.next_check_at) < before)
    found = session.exec(query.group_by(Task.provider))
    return {account: (number, oldest or before) for account, number, oldest in found}


def count_unsent_by_account(session: Session, before: int) -> dict[str, tuple[int, int]]:
    """Return for each account the number of queued tasks created before a time, and when the oldest was."""
    query = select(Task.provider, func.count(), func.min(Task.created_at))
    query = query.where(Task.state == State.QUEUED, Task.created_at < before).group_by(Task.provider)
    return {account: (number, oldest) for account, number, oldest in session.exec(query)}


def count_without_callbacks(session: Session, before: int) -> dict[str, int]:
    """Return the accounts whose latest tasks with a callback URL got no callback at all, and their number."""
    latest = select(Task.provider, Task.deliveries).where(
        col(Task.callback_url), col(Task.may_have_cost), col(Task.submitted_at) < before
    )
    recent = latest.order_by(col(Task.id).desc()).limit(LATEST).subquery()
    query = select(recent.c.provider, func.count()).group_by(recent.c.provider)
    return dict(session.exec(query.having(func.max(recent.c.deliveries) == 0)).all())


def _is_sqlite(session: Session) -> bool:
    return session.get_bind().dialect.name == "sqlite"


@contextmanager
def _time_limit(session: Session, seconds: float) -> Iterator[None]:
    """Interrupt what runs on a session's connection after so many seconds."""
    driver = session.connection().connection.driver_connection
    assert driver is not None  # noqa: S101 - narrows for the type checker
    end = time.monotonic() + seconds
    driver.set_progress_handler(lambda: time.monotonic() > end, STEPS)
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)
