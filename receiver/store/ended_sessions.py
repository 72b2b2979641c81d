"""Sessions of the pages that were ended early, and login links that were used."""

from sqlalchemy import bindparam, delete, insert, or_, select
from sqlmodel import Session, SQLModel

from receiver.store.tables import EndedSession
from receiver.store.transaction import Transaction

ENDED = SQLModel.metadata.tables["ended_session"]

_FORGET = delete(ENDED).where(or_(ENDED.c.until < bindparam("now"), ENDED.c.digest == bindparam("same")))
_END = insert(ENDED)
_FIND = select(ENDED.c.digest).where(ENDED.c.digest == bindparam("same"))


def end_session(tx: Transaction, digest: str, until: int, now: int) -> None:
    """Record that a session was ended, until it would expire; forget those that have expired."""
    tx.run(_FORGET, now=now, same=digest)
    tx.run(_END, digest=digest, until=until)


def use_once(tx: Transaction, digest: str, until: int, now: int) -> bool:
    """Record that something was used, as `end_session` does; return False if it had been used before."""
    if tx.one(_FIND, same=digest) is not None:
        return False
    end_session(tx, digest, until, now)
    return True


def is_ended(session: Session, digest: str) -> bool:
    """Return whether a session was ended."""
    return session.get(EndedSession, digest) is not None
