"""`transition`, which every change of a task's state passes, and `write_changes`, which every other change passes.

`apply` decides what a provider's word changes; attempts, checks, deadlines and people have reasons of their own. What
all of them depend on besides the task is a `Context`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from receiver.core.attention import Reason
from receiver.core.message_types import OF_STATE
from receiver.core.messages import Problem
from receiver.core.redaction import redact_values
from receiver.core.states import SETTLED, State, Via, may_move
from receiver.lifecycle.messages import FOR_OWN_URLS, MessageSettings, add_message
from receiver.lifecycle.schedule import Schedule
from receiver.store import Transaction, attention, journal, tasks
from receiver.store.reading import CLOCK_TOLERANCE
from receiver.store.task_row import TaskChanges, TaskRow

MAX_NOTICES = 20
WAITING_NOTICES = ("Not sent:", "Not accepted yet:", "Waiting", "An attempt got no usable answer")
"""Beginnings of notices that say why a task waits to be sent; the history keeps the attempts themselves."""

_NEEDS_ATTENTION = {State.UNCONFIRMED: Reason.UNCONFIRMED, State.EXPIRED: Reason.EXPIRED}
"""States in which a person should look at a task."""
_LEFT_BEHIND = {**_NEEDS_ATTENTION, State.FAILED: Reason.CHARGED_BUT_FAILED}
"""Reasons to look at a task that are over when it leaves the state."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a change depends on besides the task: the time, the account's schedule, how many seconds its links live, a
    random number from 0 to 1, what takes our secrets out of a text, whether files are archived, and which messages are
    sent where."""

    now: int
    schedule: Schedule
    output_ttl_seconds: float | None = None
    chance: float = 0.5
    redact: Callable[[str], str] = str
    archives: bool = False
    messages: MessageSettings = FOR_OWN_URLS


class DeadlineTimes(Protocol):
    """The columns that a task's deadline counts from."""

    state: State
    created_at: int
    deadline_from: int | None
    submitted_at: int | None
    adopted_at: int | None


def transition(
    tx: Transaction,
    task: TaskRow,
    target: State,
    via: Via,
    context: Context,
    *,
    changes: TaskChanges | None = None,
    why: Problem | None = None,
) -> bool:
    """Change the state of a task, with these changes, its history row, and the message that tells the user's
    application of it; an error is cleared when the task goes on.

    Returns False and changes nothing where the state machine does not allow it, or somebody else was faster.
    """
    if not may_move(task.state, target, via):
        return False
    before = task.state
    values: TaskChanges = {}
    if target in SETTLED:
        values = {"finished_at": context.now, "next_check_at": None, "pending": None}
    values |= changes or {}
    if target not in (State.QUEUED, State.SUBMITTING):
        values |= _drop_waiting_notices(values.get("notices", task.notices))
    values |= {
        "state": target,
        "error_code": why.code if why else None,
        "error_message": why.message if why else None,
    }
    if not write_changes(tx, task, context, values):
        return False
    data = {"from": before.value, "to": target.value, "via": via.value}
    error = {"error": {"code": task.error_code, "message": task.error_message}} if why else {}
    journal.note(tx, task.id, context.now, "move", data | error)
    if before in _LEFT_BEHIND:
        attention.clear(tx, task.id, _LEFT_BEHIND[before])
    if target in _NEEDS_ATTENTION:
        attention.raise_reason(tx, task.id, _NEEDS_ATTENTION[target], context.now)
    if (told := OF_STATE.get(target)) is not None:
        add_message(tx, task, told, context)
    return True


def write_changes(tx: Transaction, task: TaskRow, context: Context, changes: TaskChanges) -> bool:
    """Write changes to a task that keep its state; returns False where it is no longer in the state it was read in.

    Texts of a provider's making are shown, and may echo a callback URL: our secrets are taken out of them.
    """
    values = _undo_clock_change(task, context.now) | changes
    if "next_check_at" in values and "next_check_because" not in values:
        values["next_check_because"] = None  # the reason is that of another plan
    if code := values.get("error_code"):
        values["error_code"] = context.redact(code)
    if message := values.get("error_message"):
        values["error_message"] = context.redact(message)
    if remote_state := values.get("remote_state"):
        values["remote_state"] = context.redact(remote_state)
    if notices := values.get("notices"):
        values["notices"] = redact_values(notices, context.redact)
    if (result := values.get("result")) is not None:
        values["result"] = redact_values(result, context.redact)
    values["updated_at"] = context.now
    if not tasks.change(tx, task.id, task.state, values):
        return False
    task.update(values)
    return True


def deadline_counts_from(task: DeadlineTimes) -> int:
    """Return when a task's deadline begins to count: when its last attempt departed, or a person adopted it; while it
    is queued, when it was created or when limits let it go."""
    if task.state is State.QUEUED:
        return queue_deadline_counts_from(task)
    return task.adopted_at or task.submitted_at or task.created_at


def queue_deadline_counts_from(task: DeadlineTimes) -> int:
    """Return when a task's deadline begins to count while it is queued."""
    return task.deadline_from or task.created_at


def add_notices(notices: list[str], *sentences: str) -> TaskChanges:
    """Return the change that adds sentences to these notices of a task, each once."""
    added = [sentence for sentence in dict.fromkeys(sentences) if sentence not in notices]
    return {"notices": [*notices, *added][:MAX_NOTICES]} if added else {}


def remove_notice(notices: list[str], sentence: str) -> TaskChanges:
    """Return the change that takes a sentence out of these notices of a task."""
    return {"notices": [each for each in notices if each != sentence]} if sentence in notices else {}


def _drop_waiting_notices(notices: list[str]) -> TaskChanges:
    kept = [sentence for sentence in notices if not sentence.startswith(WAITING_NOTICES)]
    return {"notices": kept} if kept != notices else {}


def _undo_clock_change(task: TaskRow, now: int) -> TaskChanges:
    """Return the change that counts a task's pause from now, if a clock that was set back since scheduled it.

    The poller looks for such tasks by when they were written, and this write would hide one.
    """
    scheduled, written = task.next_check_at, task.updated_at
    if scheduled is None or written <= now + CLOCK_TOLERANCE or scheduled <= now:
        return {}
    return {"next_check_at": now + scheduled - written, "next_check_because": task.next_check_because}
