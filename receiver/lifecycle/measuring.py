"""What an end tells about its model: how long the task took, and whether its callback came.

`apply` calls it in the transaction that settles the task. It changes nothing of the task, and says nothing about one
whose time nobody can tell: bought elsewhere, taken up by hand, or found out after checks that failed.
"""

from receiver.core.messages import Event, Source
from receiver.core.states import FINAL, Via
from receiver.lifecycle.pending import read_pending
from receiver.store import Transaction, journal
from receiver.store.measured import Ended
from receiver.store.task_row import TaskRow

CHECK_FAILED = "failed"
"""The outcome of a check without a usable answer."""


def measure_end(tx: Transaction, task: TaskRow, event: Event, source: Source, now: int) -> Ended | None:
    """Return what this event tells that ends a task, if anything; `task` is as it was before."""
    departed = task.submitted_at
    if departed is None or task.adopted_at is not None or event.is_empty_success:
        return None
    if task.state in FINAL or event.state not in FINAL or source.via not in (Via.CALLBACK, Via.CHECK):
        return None
    arrived, latest = source.via is Via.CALLBACK, now if source.heard_at is None else source.heard_at
    pending = read_pending(task.pending)
    if not arrived and pending is not None and pending.event.state is event.state:
        arrived, latest = True, pending.since
    earliest = departed if arrived else _not_before(tx, task.id, departed)
    if earliest is None or latest < earliest:  # nobody knows, or a clock was set back
        return None
    seconds = (ended_at(event.ended_at, earliest, latest, arrived=arrived) - departed) / 1000
    return Ended(task.provider, task.model, seconds, bool(task.callback_url), arrived, now)


def _not_before(tx: Transaction, task_id: str, departed: int) -> int | None:
    """Return when a task that a check found was still under way: at the last check before, or its departure.

    None if that check brought no usable answer: an outage of the provider says nothing about its habits.
    """
    last = journal.last_check(tx, task_id)
    if last is None:
        return departed
    return None if last.outcome == CHECK_FAILED else max(last.asked_at, departed)


def ended_at(told: int | None, earliest: int, latest: int, *, arrived: bool) -> int:
    """Return when a task ended (Unix milliseconds): as its provider told where that can be, else when its callback
    came, else halfway between the last time that it was under way and when a check found its end.

    A part of that time is our own waiting, which must not be taken for the provider's.
    """
    if told is not None and earliest <= told <= latest:
        return told
    return latest if arrived else (earliest + latest) // 2
