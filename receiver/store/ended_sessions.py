"""Sessions of the pages that were ended before their time."""

from sqlalchemy import bindparam, delete, insert, or_
from sqlmodel import Session, SQLModel

from receiver.store.transaction import Transaction
from receiver.tables import EndedSession

ENDED = SQLModel.metadata.tables["ended_session"]

_FORGET = delete(ENDED).where(or_(ENDED.c.until < bindparam("now"), ENDED.c.digest == bindparam("same")))
_END = insert(ENDED)


def end(tx: Transaction, digest: str, until: int, now: int) -> None:
    """Write down that a session is over, until it would be anyway; those that would be by now are forgotten."""
    tx.run(_FORGET, now=now, same=digest)
    tx.run(_END, digest=digest, until=until)


def is_ended(session: Session, digest: str) -> bool:
    """Tell whether a session was ended."""
    return session.get(EndedSession, digest) is not None
