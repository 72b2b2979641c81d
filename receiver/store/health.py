"""How a database is doing: its journal, whether it is whole, what waits for too long.

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
"""Tasks that are looked at for callbacks that did not come."""
STEPS = 10_000
"""SQLite's own instructions between two looks at the time."""


def journal_mode(session: Session) -> str | None:
    """Name how SQLite keeps its journal; None for PostgreSQL."""
    if not _is_sqlite(session):
        return None
    return str(session.connection().exec_driver_sql("PRAGMA journal_mode").scalar()).lower()


def durability(session: Session) -> tuple[str, list[str]]:
    """Return the version of a PostgreSQL, and what is off that keeps its cluster over a power cut."""
    connection = session.connection()
    return str(connection.exec_driver_sql("SHOW server_version").scalar()), postgresql.switched_off(connection)


def faults(session: Session, seconds: float) -> list[str] | None:
    """Look for damage in an SQLite database; None where that takes longer than so many seconds. PostgreSQL has none."""
    if not _is_sqlite(session):
        return []
    try:
        with _at_most(session, seconds):
            found = session.connection().exec_driver_sql("PRAGMA quick_check(3)").scalars().all()
    except OperationalError as error:
        if not error_codes.is_interrupted(error):
            raise
        return None
    return [str(words) for words in found if words != "ok"]


def overdue(session: Session, before: int) -> tuple[int, int | None]:
    """Count the tasks whose next look was due before a time, and tell the oldest such time, in Unix milliseconds."""
    query = select(func.count(), func.min(Task.next_check_at)).where(col(Task.next_check_at) < before)
    number, oldest = session.exec(query).one()
    return int(number), oldest


def due_by_account(session: Session, before: int) -> dict[str, tuple[int, int]]:
    """Count each account's tasks whose next look was due before a time, and tell the oldest such time."""
    query = select(Task.provider, func.count(), func.min(Task.next_check_at)).where(col(Task.next_check_at) < before)
    found = session.exec(query.group_by(Task.provider))
    return {account: (number, oldest or before) for account, number, oldest in found}


def unsent_by_account(session: Session, before: int) -> dict[str, tuple[int, int]]:
    """Count each account's queued tasks that were made before a time, and tell when the oldest was."""
    query = select(Task.provider, func.count(), func.min(Task.created_at))
    query = query.where(Task.state == State.QUEUED, Task.created_at < before).group_by(Task.provider)
    return {account: (number, oldest) for account, number, oldest in session.exec(query)}


def never_called_back(session: Session, before: int) -> dict[str, int]:
    """Count, by account, the latest tasks sent with a callback URL before a time, where no callback came to any."""
    latest = select(Task.provider, Task.deliveries).where(
        col(Task.callback_url), col(Task.may_have_cost), col(Task.submitted_at) < before
    )
    recent = latest.order_by(col(Task.id).desc()).limit(LATEST).subquery()
    query = select(recent.c.provider, func.count()).group_by(recent.c.provider)
    return dict(session.exec(query.having(func.max(recent.c.deliveries) == 0)).all())


def _is_sqlite(session: Session) -> bool:
    return session.get_bind().dialect.name == "sqlite"


@contextmanager
def _at_most(session: Session, seconds: float) -> Iterator[None]:
    """Interrupt what runs on a session's connection after so many seconds."""
    driver = session.connection().connection.driver_connection
    assert driver is not None  # noqa: S101 - narrows for the type checker
    end = time.monotonic() + seconds
    driver.set_progress_handler(lambda: time.monotonic() > end, STEPS)
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)
