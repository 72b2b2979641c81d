"""The task record that APIXO and the kie.ai-like APIs share: `{code, msg or message, data: {taskId, state, ...}}`.

Their results are JSON inside JSON (`resultJson`). Only the provider files call this; it knows none of them.
"""

import json
from collections.abc import Mapping
from typing import Any

from receiver.core import wire
from receiver.core.errors import Unreadable
from receiver.core.messages import Event
from receiver.core.states import State
from receiver.providers.results import MAX_RESULT, Found, find
from receiver.providers.words import STATE_KEYS, about_task, state_of, task_in, why_failed

TOO_LARGE = f"The provider's resultObject has more than {MAX_RESULT} characters, so it was not taken."


def record_id(body: Mapping[str, Any]) -> str | None:
    """Find the task's id: in the data, else beside it."""
    data = wire.as_mapping(body.get("data"))
    return wire.read_id(wire.first_value(data, "taskId", "task_id") or wire.first_value(body, "taskId", "task_id"))


def read_record(body: Mapping[str, Any], states: Mapping[str, State], base: str) -> Event:
    """Read a task record, from a status answer or a callback.

    The `state` field alone decides: neither the envelope's code (200 on failures, too) nor a filled `resultJson`
    (present while waiting, too) does.
    """
    data = wire.as_mapping(body.get("data"))
    if not data.get("state"):
        data = task_in(body)
    word = wire.read_text(wire.first_value(data, *STATE_KEYS))
    state, notices = state_of(word, states)
    ended = state in (State.SUCCEEDED, State.FAILED)
    found = Found()
    if state is State.SUCCEEDED:
        urls, result, broken = read_result(data.get("resultJson"))
        found = find(body, urls, base, result=result)
        notices += broken or found.notices
    return Event(
        state,
        remote_id=record_id(body) or wire.read_id(wire.first_value(data, "taskId", "task_id")),
        remote_state=word,
        progress=wire.parse_progress(data.get("progress")),
        outputs=found.outputs,
        result=found.result,
        error=why_failed(data, word, about_task(body)) if state is State.FAILED else None,
        charged=wire.parse_credits(wire.first_value(data, "creditsConsumed", "consumeCredits")) if ended else None,
        ended_at=wire.parse_timestamp(data.get("completeTime")),
        found_at=found.place,
        notices=notices,
    )


def read_result(value: Any) -> tuple[list[Any], Any, tuple[str, ...]]:
    """Read a `resultJson`: URLs, or a result that is not files, and a notice where it is broken."""
    try:
        result = wire.read_nested(value)
    except Unreadable:
        return [], None, ("The provider's resultJson could not be read.",)
    if isinstance(result, list):
        return result, None, ()
    found = wire.as_mapping(result)
    made = found.get("resultObject")
    large = made is not None and len(json.dumps(made)) > MAX_RESULT
    # resultUrls alone: resultWaterMarkUrls and originUrls are not the result.
    return wire.as_list(found.get("resultUrls")), None if large else made, (TOO_LARGE,) if large else ()
