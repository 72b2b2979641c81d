"""The feed: the latest change of each task, under a number that grows in the order of commits.

`batches` numbers what a batch has touched, right before its COMMIT; `receiver.feed` reads it. A reader who asks for
everything after the last number it saw misses no task's latest state, whichever process wrote it.
"""

from collections.abc import Iterable

from sqlalchemy import bindparam, delete, insert, text
from sqlmodel import Session, SQLModel, col, func, select

from receiver.store.reading import shown_size
from receiver.store.tables import Feed, Task, as_json
from receiver.store.transaction import Transaction

REMOVED = ""
"""In place of a task's id: the row that keeps the greatest number of all changes that were removed with their tasks."""
FEED = SQLModel.metadata.tables["feed"]

_NUMBER_ON_SQLITE = text("INSERT OR REPLACE INTO feed (task_id) SELECT value FROM json_each(:ids)")
# Held until the commit is visible. Nothing may be waited for after it, so that two writers never wait for each other.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtext('receiver.feed'))")
_NUMBER_ON_POSTGRESQL = text(
    "INSERT INTO feed (task_id) SELECT unnest(CAST(:ids AS text[]))"
    " ON CONFLICT (task_id) DO UPDATE SET number = excluded.number"
)
_LAST_GIVEN_ON_SQLITE = text("SELECT seq FROM sqlite_sequence WHERE name = 'feed'")
_LAST_GIVEN_ON_POSTGRESQL = text("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM feed_number_seq")
_REMOVE = delete(FEED).where(FEED.c.task_id == bindparam("id")).returning(FEED.c.number)
_KEEP_REMOVED = insert(FEED)


def number_changes(tx: Transaction) -> None:
    """Give each task that this transaction touched the next number; call it as the last thing before COMMIT.

    On SQLite the one write lock makes numbers and commits go in the same order, on PostgreSQL an advisory lock does.
    """
    if not tx.touched:
        return
    if tx.dialect == "sqlite":
        tx.run(_NUMBER_ON_SQLITE, ids=as_json(sorted(tx.touched)))
    else:
        tx.run(_LOCK)
        tx.run(_NUMBER_ON_POSTGRESQL, ids=sorted(tx.touched))


def remove_changes(tx: Transaction, task_ids: Iterable[str]) -> None:
    """Remove tasks that are deleted; a reader who has not read so far will be told that changes are gone."""
    found = [tx.one(_REMOVE, id=task_id) for task_id in (*task_ids, REMOVED)]
    numbers = [int(row["number"]) for row in found if row is not None]
    if numbers:
        tx.run(_KEEP_REMOVED, number=max(numbers), task_id=REMOVED)


def read_latest(session: Session) -> int:
    """Return the number of the latest change, 0 if there is none."""
    return session.exec(select(func.max(Feed.number))).one() or 0


def read_after(session: Session, number: int, most: int, most_bytes: int) -> list[tuple[int, str]]:
    """Return the numbers and task ids of the next changes after a number.

    They are as many as so many bytes of their tasks hold, and at least one, if there is any.
    """
    query = select(Feed.number, Feed.task_id, shown_size(session)).join(Task, col(Task.id) == Feed.task_id)
    query = query.where(col(Feed.number) > number).order_by(col(Feed.number)).limit(most)
    found: list[tuple[int, str]] = []
    for each, task_id, size in session.exec(query):
        most_bytes -= size
        if most_bytes < 0 and found:
            break
        found.append((int(each or 0), task_id))
    return found


def knows_all_after(session: Session, number: int) -> bool:
    """Return whether all changes after a number are known: it was given before, and no later one was removed."""
    removed = session.exec(select(Feed.number).where(Feed.task_id == REMOVED)).first()
    if number < (removed or 0):
        return False
    return number <= read_latest(session) or number <= _last_given(session)


def _last_given(session: Session) -> int:
    sqlite = session.get_bind().dialect.name == "sqlite"
    return int(session.execute(_LAST_GIVEN_ON_SQLITE if sqlite else _LAST_GIVEN_ON_POSTGRESQL).scalar() or 0)
