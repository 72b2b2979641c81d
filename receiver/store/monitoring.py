"""Counts of what comes after the end of a task, for `/metrics`: archive, messages, feed, attention, late watch.

They are computed from the database, so that they are right with any number of processes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlmodel import Session, col, func, select

from receiver.core.states import State
from receiver.store import feed, heartbeats, measured
from receiver.store.tables import Attention, Notification, Output, Task

ARCHIVE_STATES = ("waiting", "stored", "failed", "off")
MESSAGE_STATES = ("waiting", "delivered", "failed")


@dataclass(frozen=True, slots=True)
class Aftermath:
    """Files by archive state, messages by state and since when the oldest waits, tasks by reason for attention, the
    latest number of the feed, tasks in the late watch by account, by account the latest callbacks that were awaited
    and that came, and when the heartbeat URL was fetched. Times are Unix milliseconds."""

    outputs: Mapping[str, int]
    messages: Mapping[str, int]
    oldest_message: int | None
    attention: Mapping[str, int]
    feed: int
    late: Mapping[str, int]
    callbacks: Mapping[str, tuple[int, int]]
    heartbeat: int | None


def count_aftermath(session: Session) -> Aftermath:
    """Return all of these counts."""
    outputs = session.exec(select(Output.archive, func.count()).group_by(Output.archive))
    messages = session.exec(select(Notification.state, func.count()).group_by(Notification.state))
    oldest = select(func.min(Notification.created_at)).where(Notification.state == "waiting")
    reasons = select(Attention.reason, func.count()).group_by(Attention.reason).order_by(Attention.reason)
    late = select(Task.provider, func.count()).where(Task.state == State.EXPIRED, col(Task.next_check_at).is_not(None))
    return Aftermath(
        outputs=dict.fromkeys(ARCHIVE_STATES, 0) | dict(outputs.all()),
        messages=dict.fromkeys(MESSAGE_STATES, 0) | dict(messages.all()),
        oldest_message=session.exec(oldest).one(),
        attention=dict(session.exec(reasons).all()),
        feed=feed.read_latest(session),
        late=dict(session.exec(late.group_by(Task.provider).order_by(Task.provider)).all()),
        callbacks=measured.count_callbacks(session),
        heartbeat=heartbeats.read_last(session, heartbeats.HEARTBEAT_URL),
    )
