"""A final callback kept aside until the provider confirms it: how it is written into the task's row and read back."""

import json
from typing import Any

from receiver.core.messages import Event, Output, Problem, Source
from receiver.core.states import State, Via


def dump(event: Event, source: Source, since: int, claim: int = 0) -> dict[str, Any]:
    """Write a final event as JSON; `since` is when it came, in Unix milliseconds, and `claim` the task's claim then."""
    return {
        "state": event.state,
        "remote_state": event.remote_state,
        "outputs": [[output.url, output.kind] for output in event.outputs],
        "result": event.result,
        "error": [event.error.code, event.error.message] if event.error else None,
        "charged": event.charged,
        "ended_at": event.ended_at,
        "token": source.token,
        "signature": source.signature,
        "since": since,
        "claim": claim,
    }


def load(value: str | None) -> tuple[Event, Source] | None:
    """Read what `dump` wrote, as it stands in the row."""
    found = json.loads(value) if value else None
    if not found:
        return None
    event = Event(
        State(found["state"]),
        remote_state=found["remote_state"],
        outputs=tuple(Output(url, kind) for url, kind in found["outputs"]),
        result=found["result"],
        error=Problem(*found["error"]) if found["error"] else None,
        charged=found["charged"],
        ended_at=found["ended_at"],
    )
    return event, Source(Via.CALLBACK, token=found["token"], signature=found["signature"])


def since(value: str | None) -> int | None:
    """Return when a final event came that still awaits its confirmation; 0 where an earlier release kept it."""
    found = json.loads(value) if value else None
    return int(found.get("since", 0)) if found else None


def came_under(value: str | None, claim: int | None) -> bool:
    """Return whether what awaits its confirmation came while the check with this claim was under way, or later."""
    found = json.loads(value) if value else None
    return found is not None and claim is not None and int(found.get("claim", 0)) >= claim
