"""Signs of life in the database: also the proof that it can be written. Each part has a row of its own."""

from sqlalchemy import bindparam, insert, update
from sqlmodel import Session, SQLModel, col, select

from receiver.store.tables import Heartbeat
from receiver.store.transaction import Transaction

POLLER, READYZ, DOCTOR, ROUND_TRIP = "poller", "readyz", "doctor", "round_trip"
LOST_SLOT = "lost_place:"
"""Before the name of an account: when a place for its requests had to be replaced."""
HEARTBEAT = SQLModel.metadata.tables["heartbeat"]

_BEAT = update(HEARTBEAT).where(HEARTBEAT.c.name == bindparam("who"))
_FIRST = insert(HEARTBEAT)


def beat(tx: Transaction, name: str, now: int) -> None:
    """Write down that a part of the service is at work."""
    if tx.run(_BEAT, who=name, at=now) == 0:
        tx.run(_FIRST, name=name, at=now)


def last(session: Session, name: str) -> int | None:
    """Read when a part was last at work, in Unix milliseconds."""
    found = session.get(Heartbeat, name)
    return found.at if found else None


def lost_slots(session: Session, since: int) -> dict[str, int]:
    """Read which accounts lost a place for a request since a time, and when last."""
    query = select(Heartbeat).where(col(Heartbeat.name).startswith(LOST_SLOT, autoescape=True), Heartbeat.at >= since)
    return {beat.name.removeprefix(LOST_SLOT): beat.at for beat in session.exec(query)}
