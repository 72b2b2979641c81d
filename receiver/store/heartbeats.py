"""When each part of the service last worked: also the proof that the database can be written."""

from sqlalchemy import bindparam, insert, update
from sqlalchemy import select as select_columns
from sqlmodel import Session, SQLModel, col, select

from receiver.store.reading import CLOCK_TOLERANCE
from receiver.store.tables import Heartbeat
from receiver.store.transaction import Transaction

POLLER, READYZ, DOCTOR, ROUND_TRIP = "poller", "readyz", "doctor", "round_trip"
HEARTBEAT_URL = "heartbeat_url"
"""When the operator's heartbeat URL was fetched."""
LOST_SLOT = "lost_place:"
"""Before the name of an account: when a place for its requests had to be replaced."""
HEARTBEAT = SQLModel.metadata.tables["heartbeat"]

_UPDATE = update(HEARTBEAT).where(HEARTBEAT.c.name == bindparam("who"))
_INSERT = insert(HEARTBEAT)
_AT = select_columns(HEARTBEAT.c.at).where(HEARTBEAT.c.name == bindparam("who"))


def record_heartbeat(tx: Transaction, name: str, now: int) -> None:
    """Record that a part of the service is at work."""
    if tx.run(_UPDATE, who=name, at=now) == 0:
        tx.run(_INSERT, name=name, at=now)


def claim(tx: Transaction, name: str, now: int, milliseconds: int) -> bool:
    """Record that something is done now that is done once in so long, by whichever process; returns whether it is due.

    A time from the future is that of a clock that was set back since.
    """
    row = tx.first(_AT, who=name)
    if row is not None and now - milliseconds < row[0] <= now + CLOCK_TOLERANCE:
        return False
    record_heartbeat(tx, name, now)
    return True


def read_last(session: Session, name: str) -> int | None:
    """Return when a part was last at work, in Unix milliseconds."""
    found = session.get(Heartbeat, name)
    return found.at if found else None


def lost_slots(session: Session, since: int) -> dict[str, int]:
    """Return the accounts that lost a request slot since a time, and when last."""
    query = select(Heartbeat).where(col(Heartbeat.name).startswith(LOST_SLOT, autoescape=True), Heartbeat.at >= since)
    return {beat.name.removeprefix(LOST_SLOT): beat.at for beat in session.exec(query)}
