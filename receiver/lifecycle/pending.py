"""A final event that awaits its confirmation: how it is kept in the column `pending` of its task, and read back."""

from dataclasses import dataclass
from typing import Any

from receiver.core.messages import Event, Output, Problem, Source
from receiver.core.states import State, Via
from receiver.store.task_row import TaskRow


@dataclass(frozen=True, slots=True)
class Pending:
    """A final event that awaits its confirmation, where it came from, and when (Unix milliseconds).

    `claim` is the task's claim when it came: a check under that claim had begun before, and cannot confirm it.
    """

    event: Event
    source: Source
    since: int
    claim: int = 0

    def as_column(self) -> dict[str, Any]:
        """Return what the column `pending` holds."""
        event = self.event
        return {
            "state": event.state,
            "remote_state": event.remote_state,
            "outputs": [[output.url, output.kind] for output in event.outputs],
            "result": event.result,
            "error": [event.error.code, event.error.message] if event.error else None,
            "charged": event.charged,
            "ended_at": event.ended_at,
            "token": self.source.token,
            "signature": self.source.signature,
            "since": self.since,
            "claim": self.claim,
        }


def read_pending(column: dict[str, Any] | None) -> Pending | None:
    """Read what the column `pending` holds. What an earlier release kept has no time and no claim: both are 0."""
    if not column:
        return None
    event = Event(
        State(column["state"]),
        remote_state=column["remote_state"],
        outputs=tuple(Output(url, kind) for url, kind in column["outputs"]),
        result=column["result"],
        error=Problem(*column["error"]) if column["error"] else None,
        charged=column["charged"],
        ended_at=column["ended_at"],
    )
    since = int(column.get("since", 0))
    source = Source(Via.CALLBACK, token=column["token"], signature=column["signature"], heard_at=since or None)
    return Pending(event, source, since, int(column.get("claim", 0)))


def came_during(task: TaskRow, claim: int | None) -> bool:
    """Return whether the pending event came while the check with this claim was under way, or later."""
    return task.pending is not None and claim is not None and int(task.pending.get("claim", 0)) >= claim
