"""Rows of produced files: what is to be downloaded, leases on that, and where the copies are.

`lifecycle.files` decides what is written; nothing here does.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, bindparam, func, literal, or_, select, update
from sqlmodel import Session

from receiver.store.tasks import OUTPUT, SKEW, TASK
from receiver.store.transaction import Transaction

WAITING, STORED, FAILED, OFF = "waiting", "stored", "failed", "off"
UNKNOWN_TYPE = "application/octet-stream"
"""The media type of a file that is no image, video or audio."""
LONGEST_PAUSE = 7_200_000
"""Milliseconds; no download is put off for longer."""
FAR = 2**62
"""Stands for the end of a link whose end nobody knows."""

_FREE = or_(
    OUTPUT.c.fetch_leased_until.is_(None),
    OUTPUT.c.fetch_leased_until <= bindparam("now"),
    OUTPUT.c.fetch_leased_until > bindparam("until", type_=BigInteger) + SKEW,
)
# A later time comes from a clock that was ahead: nothing is put off for longer.
_DUE = or_(
    OUTPUT.c.fetch_at <= bindparam("now"), OUTPUT.c.fetch_at > bindparam("now", type_=BigInteger) + LONGEST_PAUSE
)
_END: ColumnElement[int] = func.coalesce(OUTPUT.c.expires_at, literal(FAR, BigInteger))
_CLAIM = (
    update(OUTPUT)
    .where(
        OUTPUT.c.id.in_(
            select(OUTPUT.c.id)
            .where(_DUE, OUTPUT.c.host == bindparam("at"), _FREE)
            .order_by(_END, OUTPUT.c.id)
            .limit(bindparam("most"))
            .with_for_update(skip_locked=True)
        )
    )
    .values(fetch_claim=OUTPUT.c.fetch_claim + 1, fetch_leased_until=bindparam("until"))
    .returning(OUTPUT.c.id)
)
_CLAIM_ONE = (
    update(OUTPUT)
    .where(OUTPUT.c.id == bindparam("output_id"), OUTPUT.c.archive == WAITING, _FREE)
    .values(fetch_claim=OUTPUT.c.fetch_claim + 1, fetch_leased_until=bindparam("until"))
)
_FIELDS = (
    OUTPUT.c.id,
    OUTPUT.c.task_id,
    OUTPUT.c.position,
    OUTPUT.c.url,
    OUTPUT.c.kind,
    OUTPUT.c.host,
    OUTPUT.c.expires_at,
    OUTPUT.c.archive,
    OUTPUT.c.problem,
    OUTPUT.c.stored,
    OUTPUT.c.fetch_at,
    OUTPUT.c.fetch_tries,
    OUTPUT.c.fetch_claim,
    OUTPUT.c.link_refreshed,
)
_ONE = (
    select(*_FIELDS, TASK.c.provider, TASK.c.created_at, TASK.c.finished_at)
    .join_from(OUTPUT, TASK, OUTPUT.c.task_id == TASK.c.id)
    .where(OUTPUT.c.id == bindparam("output_id"))
)
_RENEW = (
    update(OUTPUT)
    .where(OUTPUT.c.id == bindparam("output_id"), OUTPUT.c.fetch_claim == bindparam("claim"))
    .values(fetch_leased_until=bindparam("until"))
)
_CHANGE = update(OUTPUT).where(
    OUTPUT.c.id == bindparam("output_id"),
    OUTPUT.c.fetch_claim == bindparam("claim"),
    OUTPUT.c.archive == WAITING,
)
_OF_TASK = select(OUTPUT.c.id, OUTPUT.c.archive, OUTPUT.c.url).where(OUTPUT.c.task_id == bindparam("of_task"))
_RELINK = update(OUTPUT).where(
    OUTPUT.c.task_id == bindparam("of_task"), OUTPUT.c.position == bindparam("at"), OUTPUT.c.archive == WAITING
)
_FETCH_AGAIN = (
    update(OUTPUT)
    .where(OUTPUT.c.id == bindparam("output_id"), or_(OUTPUT.c.archive == FAILED, OUTPUT.c.archive == OFF))
    .values(
        archive=WAITING,
        problem=None,
        host=bindparam("at"),
        fetch_at=bindparam("now"),
        fetch_tries=0,
        link_refreshed=False,
    )
)


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file that is to be downloaded, as it was claimed. Times are Unix milliseconds."""

    id: int
    task_id: str
    position: int
    url: str
    kind: str
    host: str | None
    expires_at: int | None
    archive: str
    problem: str | None
    stored: str | None
    fetch_at: int | None
    fetch_tries: int
    fetch_claim: int
    link_refreshed: bool
    provider: str
    created_at: int
    finished_at: int | None


def hosts_to_fetch_from(session: Session, now: int, until: int) -> list[str]:
    """Return the hosts of files that can be claimed now, the one whose links end soonest first."""
    query = select(OUTPUT.c.host).where(_DUE, _FREE).group_by(OUTPUT.c.host).order_by(func.min(_END))
    return list(session.execute(query, {"now": now, "until": until}).scalars())


def claim_from(tx: Transaction, host: str, now: int, until: int, most: int) -> list[FileRow]:
    """Claim at most so many files of a host that are to be downloaded now, those whose links end soonest first."""
    claimed = tx.all(_CLAIM, at=host, now=now, until=until, most=most)
    found = [current(tx, row["id"]) for row in claimed]
    return sorted((row for row in found if row is not None), key=lambda row: (row.expires_at or FAR, row.id))


def claim_one(tx: Transaction, output_id: int, now: int, until: int) -> FileRow | None:
    """Claim one waiting file, due or not; None while somebody else holds its lease, or it does not wait."""
    return current(tx, output_id) if tx.run(_CLAIM_ONE, output_id=output_id, now=now, until=until) else None


def current(tx: Transaction, output_id: int) -> FileRow | None:
    """Read one file."""
    row = tx.one(_ONE, output_id=output_id)
    return None if row is None else FileRow(**row | {"link_refreshed": bool(row["link_refreshed"])})


def renew(tx: Transaction, claims: Iterable[tuple[int, int]], until: int) -> None:
    """Prolong the leases on files, given by their ids and claims."""
    for output_id, claim in claims:
        tx.run(_RENEW, output_id=output_id, claim=claim, until=until)


def change(tx: Transaction, row: FileRow, **values: Any) -> bool:
    """Write what became of a claimed file; returns False where another has claimed it since, or it is not waiting."""
    if tx.run(_CHANGE, output_id=row.id, claim=row.fetch_claim, **values) == 0:
        return False
    if "archive" in values or "problem" in values:
        tx.touch(row.task_id)
    return True


def relink(tx: Transaction, task_id: str, position: int, **values: Any) -> None:
    """Give a file that still waits to be downloaded another link."""
    if tx.run(_RELINK, of_task=task_id, at=position, **values):
        tx.touch(task_id)


def states(tx: Transaction, task_id: str) -> list[str]:
    """Return the states of a task's files in the archive."""
    return [str(row["archive"]) for row in tx.all(_OF_TASK, of_task=task_id)]


def fetch_again(tx: Transaction, row: FileRow, host: str, now: int) -> bool:
    """Let a file be downloaded that is not stored; returns False where it waits already, or is stored."""
    if tx.run(_FETCH_AGAIN, output_id=row.id, at=host, now=now) == 0:
        return False
    tx.touch(row.task_id)
    return True


def is_waiting(session: Session, output_id: int) -> bool:
    """Return whether a file is still to be downloaded."""
    return session.execute(select(OUTPUT.c.archive).where(OUTPUT.c.id == output_id)).scalar() == WAITING


def list_missing(session: Session) -> list[int]:
    """Return the ids of all files that are not stored and do not wait."""
    query = select(OUTPUT.c.id).where(OUTPUT.c.archive.in_((FAILED, OFF))).order_by(OUTPUT.c.id)
    return [int(output_id) for output_id in session.execute(query).scalars()]


def is_overdue(session: Session, before: int) -> bool:
    """Return whether a file was to be downloaded before a time."""
    query = select(OUTPUT.c.id).where(OUTPUT.c.fetch_at < before).limit(1)
    return session.execute(query).first() is not None


def count_waiting(session: Session) -> int:
    """Return how many files wait to be downloaded."""
    return int(session.execute(select(func.count()).where(OUTPUT.c.fetch_at.is_not(None))).scalar_one())
