"""The feed: changes of tasks, under numbers that grow in the order of commits.

`batches` numbers what a batch has touched, right before its COMMIT; `receiver.feed` reads it, and the poller removes
what is long past. A reader who asks for everything after the last number it saw misses no task's latest state,
whichever process wrote it.
"""

from sqlalchemy import text
from sqlmodel import Session, col, func, select

from receiver.store.reading import shown_size
from receiver.store.tables import Feed, Task, as_json
from receiver.store.transaction import Transaction

KEPT = 200_000
"""Numbers that are kept; who asks for earlier changes is told that they are gone."""
MOST_REMOVED = 20_000
"""Changes that are removed at once."""

_NUMBER_ON_SQLITE = text("INSERT INTO feed (task_id) SELECT value FROM json_each(:ids)")
# Held until the commit is visible. Nothing may be waited for after it, so that two writers never wait for each other.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtext('receiver.feed'))")
_NUMBER_ON_POSTGRESQL = text("INSERT INTO feed (task_id) SELECT unnest(CAST(:ids AS text[]))")
_REMOVE = text(
    "DELETE FROM feed WHERE number <= (SELECT MAX(number) FROM feed) - :kept"
    " AND number < (SELECT MIN(number) FROM feed) + :most"
)


def number_changes(tx: Transaction) -> None:
    """Give each task that this transaction touched the next number; call it as the last thing before COMMIT.

    On SQLite the one write lock makes numbers and commits go in the same order, on PostgreSQL an advisory lock does.
    """
    if not tx.touched:
        return
    if tx.dialect == "sqlite":
        tx.run(_NUMBER_ON_SQLITE, ids=as_json(list(tx.touched)))
    else:
        tx.run(_LOCK)
        tx.run(_NUMBER_ON_POSTGRESQL, ids=list(tx.touched))


def remove_past(tx: Transaction, kept: int = KEPT) -> None:
    """Remove changes that are followed by so many others, at most `MOST_REMOVED` of them."""
    tx.run(_REMOVE, kept=kept, most=MOST_REMOVED)


def read_latest(session: Session) -> int:
    """Return the number of the latest change, 0 if there is none."""
    return session.exec(select(func.max(Feed.number))).one() or 0


def read_after(session: Session, number: int, most: int, most_bytes: int) -> list[tuple[int, str]]:
    """Return the numbers and task ids of the next changes after a number, of each task only the last one.

    They are picked from at most `most` changes, whose tasks have so many bytes; there is at least one, if any.
    """
    query = select(Feed.number, Feed.task_id, shown_size(session)).join(Task, col(Task.id) == Feed.task_id)
    query = query.where(col(Feed.number) > number).order_by(col(Feed.number)).limit(most)
    found: dict[str, int] = {}
    for each, task_id, size in session.exec(query):
        most_bytes -= 0 if task_id in found else size
        if most_bytes < 0 and found:
            break
        found.pop(task_id, None)
        found[task_id] = int(each or 0)
    return [(each, task_id) for task_id, each in found.items()]


def knows_all_after(session: Session, number: int, kept: int = KEPT) -> bool:
    """Return whether all changes after a number are known: it was given before, and no later one was removed."""
    latest = read_latest(session)
    first = session.exec(select(func.min(Feed.number))).one() or 0
    return number <= latest and (latest <= kept or number >= first - 1)
