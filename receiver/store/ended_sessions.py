"""Sessions of the pages that were ended before their time, and login links that were used."""

from sqlalchemy import bindparam, delete, insert, or_, select
from sqlmodel import Session, SQLModel

from receiver.store.tables import EndedSession
from receiver.store.transaction import Transaction

ENDED = SQLModel.metadata.tables["ended_session"]

_FORGET = delete(ENDED).where(or_(ENDED.c.until < bindparam("now"), ENDED.c.digest == bindparam("same")))
_END = insert(ENDED)
_FIND = select(ENDED.c.digest).where(ENDED.c.digest == bindparam("same"))


def end(tx: Transaction, digest: str, until: int, now: int) -> None:
    """Write down that a session is over, until it would be anyway; those that would be by now are forgotten."""
    tx.run(_FORGET, now=now, same=digest)
    tx.run(_END, digest=digest, until=until)


def end_once(tx: Transaction, digest: str, until: int, now: int) -> bool:
    """Write down that something was used up, as `end` does; returns False where it had been before."""
    if tx.one(_FIND, same=digest) is not None:
        return False
    end(tx, digest, until, now)
    return True


def is_ended(session: Session, digest: str) -> bool:
    """Tell whether a session was ended."""
    return session.get(EndedSession, digest) is not None
