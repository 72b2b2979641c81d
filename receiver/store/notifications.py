"""Messages to the user's application: writing, claiming, recording tries, and reading them for lists.

`lifecycle.messages` writes them, `notifications` sends and lists them. A lease also puts the next try off to its own
end, so that only messages that somebody may send are due.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, and_, bindparam, func, insert, or_, select, update
from sqlalchemy.orm import defer
from sqlmodel import Session, SQLModel, col
from sqlmodel import select as select_rows

from receiver.core.message_types import MessageType
from receiver.store.reading import CLOCK_TOLERANCE
from receiver.store.tables import Notification, NotificationTry
from receiver.store.tasks import SKEW
from receiver.store.transaction import Transaction

WAITING, DELIVERED, FAILED = STATES = ("waiting", "delivered", "failed")

NOTIFICATION = SQLModel.metadata.tables["notification"]
TRY = SQLModel.metadata.tables["notification_try"]
_N = NOTIFICATION.c
_BODY: Any = Notification.body

_INSERT = insert(NOTIFICATION)
_HAS = select(_N.id).where(_N.task_id == bindparam("task"), _N.type == bindparam("told")).limit(1)
_HAS_FAILED = select(_N.id).where(_N.task_id == bindparam("task"), _N.state == FAILED).limit(1)
_TAKEN = (_N.id, _N.webhook_id, _N.task_id, _N.type, _N.url, _N.own_url, _N.created_at, _N.body, _N.tries, _N.claim)
_LEASE = {
    "claim": _N.claim + 1,
    "leased_until": bindparam("until"),
    "next_try_at": bindparam("until"),
    "updated_at": bindparam("now"),
}
_CLAIM_DUE = (
    update(NOTIFICATION)
    .where(
        _N.id.in_(
            select(_N.id)
            .where(_N.host == bindparam("receiver"), _N.next_try_at <= bindparam("now"))
            .order_by(_N.next_try_at)
            .limit(bindparam("most"))
            .with_for_update(skip_locked=True)
        )
    )
    .values(_LEASE)
    .returning(*_TAKEN)
)
_CLAIM_ONE = (
    update(NOTIFICATION)
    .where(
        _N.webhook_id == bindparam("message"),
        or_(
            _N.leased_until.is_(None),
            _N.leased_until <= bindparam("now"),
            _N.leased_until > bindparam("until", type_=BigInteger) + SKEW,  # left by a clock that was ahead
        ),
    )
    .values({**_LEASE, "state": WAITING, "tries": 0})
    .returning(*_TAKEN)
)
_REDIRECT = (
    update(NOTIFICATION)
    .where(_N.next_try_at.is_not(None), _N.own_url.is_(False), _N.url != bindparam("to"))
    .values(url=bindparam("to"), host=bindparam("receiver"))
)
_REDIRECT_ONE = (
    update(NOTIFICATION)
    .where(_N.webhook_id == bindparam("message"), _N.own_url.is_(False))
    .values(url=bindparam("to"), host=bindparam("receiver"))
)
_HELD = and_(_N.id == bindparam("message"), _N.claim == bindparam("number"))
_KEEP_BODY = (
    update(NOTIFICATION)
    .where(_HELD)
    .values(body=func.coalesce(_N.body, bindparam("rendered", type_=_N.body.type)))
    .returning(_N.body)
)
_ADD_TRY = insert(TRY)
_SETTLE: dict[str, Any] = {"next_try_at": None, "leased_until": None, "updated_at": bindparam("now")}
_DELIVERED = update(NOTIFICATION).where(_N.id == bindparam("message")).values({**_SETTLE, "state": DELIVERED})
_FAILED = update(NOTIFICATION).where(_HELD, _N.state == WAITING).values({**_SETTLE, "state": FAILED})
_RESCHEDULE = (
    update(NOTIFICATION)
    .where(_HELD, _N.state == WAITING)
    .values(
        tries=_N.tries + bindparam("failed"),
        next_try_at=bindparam("later"),
        leased_until=None,
        updated_at=bindparam("now"),
    )
)
_FROM_THE_FUTURE = and_(_N.next_try_at > bindparam("now"), _N.updated_at > bindparam("now") + CLOCK_TOLERANCE)
_REPLAN = (
    update(NOTIFICATION)
    .where(_FROM_THE_FUTURE)
    .values(next_try_at=bindparam("now") + _N.next_try_at - _N.updated_at, updated_at=bindparam("now"))
)


@dataclass(frozen=True, slots=True)
class Message:
    """A claimed message; whoever holds the current claim may write for it."""

    id: int
    webhook_id: str
    task_id: str
    type: str
    url: str
    own_url: bool
    created_at: int
    body: bytes | None
    tries: int
    claim: int


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """Which messages to list: newest first, those before the id `before`, at most `limit`."""

    state: str | None = None
    task: str | None = None
    before: str | None = None
    limit: int = 50


# --- writing


def insert_message(tx: Transaction, **values: Any) -> None:
    """Add a message that waits to be sent."""
    tx.run(_INSERT, **values, state=WAITING, body=None, tries=0, claim=0, leased_until=None)


def has_message(tx: Transaction, task_id: str, told: MessageType) -> bool:
    """Return whether a task has a message of a type."""
    return tx.one(_HAS, task=task_id, told=told.value) is not None


def has_failed_message(tx: Transaction, task_id: str) -> bool:
    """Return whether a message of a task was given up."""
    return tx.one(_HAS_FAILED, task=task_id) is not None


def claim_due(tx: Transaction, host: str, now: int, until: int, most: int) -> list[Message]:
    """Claim at most so many of the due messages to a host, those that waited longest."""
    rows = tx.all(_CLAIM_DUE, receiver=host, now=now, until=until, most=most)
    return sorted(map(_message, rows), key=lambda message: message.id)


def claim_one(tx: Transaction, webhook_id: str, now: int, until: int) -> Message | None:
    """Claim a message to send it again, whatever became of it; None while somebody else is sending it."""
    row = tx.one(_CLAIM_ONE, message=webhook_id, now=now, until=until)
    return _message(row) if row else None


def redirect_waiting(tx: Transaction, url: str, host: str) -> int:
    """Let the waiting messages that are for the URL in the settings go to this one; returns how many changed."""
    return tx.run(_REDIRECT, to=url, receiver=host)


def redirect_one(tx: Transaction, webhook_id: str, url: str, host: str) -> None:
    """Let a message that is for the URL in the settings go to this one."""
    tx.run(_REDIRECT_ONE, message=webhook_id, to=url, receiver=host)


def keep_body(tx: Transaction, message: Message, body: bytes) -> bytes | None:
    """Keep a message's body unless it has one, and return the one it has; None if somebody else has claimed it."""
    row = tx.one(_KEEP_BODY, message=message.id, number=message.claim, rendered=body)
    return bytes(row["body"]) if row else None


def add_try(tx: Transaction, message: Message, at: int, status: int | None, problem: str | None) -> None:
    """Record a try to deliver a message."""
    tx.run(_ADD_TRY, notification_id=message.id, at=at, status=status, problem=problem)


def mark_delivered(tx: Transaction, message: Message, now: int) -> None:
    """Record that a message was delivered; that is true whoever has claimed it since."""
    tx.run(_DELIVERED, message=message.id, now=now)


def mark_failed(tx: Transaction, message: Message, now: int) -> bool:
    """Give a message up; returns False if it is not ours any more."""
    return tx.run(_FAILED, message=message.id, number=message.claim, now=now) == 1


def try_later(tx: Transaction, message: Message, now: int, later: int, *, failed: bool = True) -> None:
    """Schedule the next try and give the lease back; without `failed`, the one that ends was none."""
    tx.run(_RESCHEDULE, message=message.id, number=message.claim, now=now, later=later, failed=int(failed))


def reschedule_after_clock_change(tx: Transaction, now: int) -> int:
    """Reschedule from now what a clock scheduled that has since been set back, pauses kept; returns how many."""
    return tx.run(_REPLAN, now=now)


def _message(row: dict[str, Any]) -> Message:
    body = row["body"]
    return Message(**row | {"own_url": bool(row["own_url"]), "body": None if body is None else bytes(body)})


# --- reading


def due_hosts(session: Session, now: int) -> list[str]:
    """Return the hosts to which messages are due, the one whose message waited longest first."""
    query = select(_N.host).where(_N.next_try_at <= now).group_by(_N.host).order_by(func.min(_N.next_try_at))
    return list(session.execute(query).scalars())


def has_tries_from_the_future(session: Session, now: int) -> bool:
    """Return whether a message was scheduled by a clock that has since been set back."""
    return session.execute(select(_N.id).where(_FROM_THE_FUTURE).limit(1), {"now": now}).first() is not None


def find_message(session: Session, webhook_id: str) -> Notification | None:
    """Read one message."""
    return session.exec(select_rows(Notification).where(Notification.webhook_id == webhook_id)).first()


def list_messages(session: Session, wanted: MessageFilter) -> list[Notification]:
    """Read the messages that a filter lets through, newest first."""
    query = select_rows(Notification).order_by(col(Notification.id).desc()).limit(wanted.limit)
    if wanted.state is not None:
        query = query.where(Notification.state == wanted.state)
    if wanted.task is not None:
        query = query.where(Notification.task_id == wanted.task)
    if wanted.before is not None:
        last = select(_N.id).where(_N.webhook_id == wanted.before).scalar_subquery()
        query = query.where(col(Notification.id) < last)
    return list(session.exec(query.options(defer(_BODY))))


def tries_of(session: Session, messages: Sequence[Notification]) -> dict[int, list[NotificationTry]]:
    """Read the tries of some messages in order, by message."""
    ids = [message.id for message in messages if message.id is not None]
    found: dict[int, list[NotificationTry]] = {each: [] for each in ids}
    query = select_rows(NotificationTry).where(col(NotificationTry.notification_id).in_(ids))
    for one in session.exec(query.order_by(col(NotificationTry.id))):
        found[one.notification_id].append(one)
    return found
