"""The guarded move of a task with its history row, and what every change of a task depends on.

`lifecycle` calls it for news, submission, checks and the poller for reasons of our own. Nobody else changes a state.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from receiver.core.messages import Problem
from receiver.core.redaction import redact_values
from receiver.core.states import SETTLED, State, Via, may_move
from receiver.lifecycle.schedule import Schedule
from receiver.store import Transaction, journal, tasks
from receiver.store.reading import AHEAD
from receiver.store.tables import as_json

MAX_NOTICES = 20
PASSING = ("Not sent:", "Not taken yet:", "Waits ", "The answer to a try is not known")
"""Beginnings of notices that tell why a task was not handed over yet; the history keeps the tries themselves."""

THEIR_WORDS = frozenset({"error_code", "error_message", "remote_state"})
"""Columns that hold texts of a provider's making and are shown: providers echo callback URLs in what they say."""
THEIR_VALUES = frozenset({"notices", "result"})
"""Columns that hold JSON with such texts."""

Row = dict[str, Any]
"""A task's row as `store.tasks.current` gives it; kept up to date while its transaction lasts."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a change depends on besides the task: the time, the account's pauses, its URLs' lifetime in seconds, a
    random number from 0 to 1, and what takes our secrets out of a text."""

    now: int
    schedule: Schedule
    output_ttl_seconds: float | None = None
    chance: float = 0.5
    redact: Callable[[str], str] = str


def move(
    tx: Transaction, task: Row, target: State, via: Via, context: Context, *, why: Problem | None = None, **values: Any
) -> bool:
    """Move a task for a reason of ours (a try, a crash, a deadline, a person), with its history row.

    Returns False and changes nothing where the state machine does not allow it. An error is cleared when the task
    goes on.
    """
    if not may_move(State(task["state"]), target, via):
        return False
    was = task["state"]
    if target in SETTLED:
        values = {"finished_at": context.now, "next_check_at": None, "pending": None} | values
    if target not in (State.QUEUED, State.SUBMITTING):
        values |= _without_passing(str(values.get("notices") or task["notices"]))
    values |= {
        "state": target.value,
        "error_code": why.code if why else None,
        "error_message": why.message if why else None,
    }
    if not write(tx, task, context, values):
        return False
    data: dict[str, Any] = {"from": was, "to": target.value, "via": via.value}
    if why:
        data["error"] = {"code": task["error_code"], "message": task["error_message"]}
    journal.note(tx, task["id"], context.now, "move", data)
    return True


def write(tx: Transaction, task: Row, context: Context, values: dict[str, Any]) -> bool:
    """Change a task's row if it is still in the state it was read in. No secret of ours gets into what is shown."""
    shown = {name: context.redact(value) for name, value in values.items() if name in THEIR_WORDS and value}
    shown |= {name: _redacted(value, context) for name, value in values.items() if name in THEIR_VALUES and value}
    values = _plan_of_today(task, context.now) | values | shown | {"updated_at": context.now}
    if not tasks.change(tx, task["id"], task["state"], values):
        return False
    task.update(values)
    return True


def _redacted(written: str, context: Context) -> str:
    """Take secrets out of the values of a JSON text: out of the text itself they might take its syntax with them."""
    return as_json(redact_values(json.loads(written), context.redact))


def _plan_of_today(task: Row, now: int) -> dict[str, Any]:
    """Return the change that counts a task's pause from now, if it was planned by a clock that was set back since.

    The poller looks for such tasks by when they were written, and this write would hide one.
    """
    planned, written = task["next_check_at"], task["updated_at"]
    if planned is None or written <= now + AHEAD or planned <= now:
        return {}
    return {"next_check_at": now + planned - written}


def _without_passing(notices: str) -> dict[str, Any]:
    """Return the change that takes away what was only worth saying while the task waited to be sent."""
    known: list[str] = json.loads(notices)
    kept = [sentence for sentence in known if not sentence.startswith(PASSING)]
    return {"notices": as_json(kept)} if kept != known else {}


def departed(task: Row) -> int:
    """Return the time from which a task's deadline counts: its last try's departure, or when a person took it up;
    while queued, its creation or when limits let it go."""
    if task["state"] == State.QUEUED:
        return queued_from(task)
    return int(task["adopted_at"] or task["submitted_at"] or task["created_at"])


def queued_from(task: Row) -> int:
    """Return the time from which a task's deadline counts in the queue."""
    return int(task["deadline_from"] or task["created_at"])


def notice(task: Row, *sentences: str) -> dict[str, Any]:
    """Return the change that adds sentences to a task's notices, each once."""
    known: list[str] = json.loads(task["notices"])
    added = [sentence for sentence in dict.fromkeys(sentences) if sentence not in known]
    return {"notices": as_json([*known, *added][:MAX_NOTICES])} if added else {}


def without_notice(task: Row, sentence: str) -> dict[str, Any]:
    """Return the change that takes a sentence out of a task's notices."""
    known: list[str] = json.loads(task["notices"])
    return {"notices": as_json([each for each in known if each != sentence])} if sentence in known else {}
