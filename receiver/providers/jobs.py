"""The task record of APIXO and the APIs like kie.ai: `{code, msg or message, data: {taskId, state, ...}}`.

Their results are JSON inside JSON (`resultJson`). Only the provider files call it.
"""

import json
from collections.abc import Mapping
from typing import Any

from receiver.core import wire
from receiver.core.errors import Unreadable
from receiver.core.messages import Event
from receiver.core.states import State
from receiver.providers.results import MAX_RESULT, Found, find_result
from receiver.providers.words import STATE_KEYS, error_envelope, find_failure, find_task, parse_state

TOO_LARGE = f"The provider's resultObject has more than {MAX_RESULT} characters, so it was not stored."


def find_record_id(body: Mapping[str, Any]) -> str | None:
    """Return the task's id, in `data` or beside it."""
    data = wire.as_mapping(body.get("data"))
    return wire.read_id(wire.first_value(data, "taskId", "task_id") or wire.first_value(body, "taskId", "task_id"))


def read_record(body: Mapping[str, Any], states: Mapping[str, State], base: str) -> Event:
    """Return what a task record says, from a status answer or a callback.

    Only the `state` field decides: the envelope's code is 200 for failures, too, and `resultJson` may be filled while
    the task waits.
    """
    data = wire.as_mapping(body.get("data"))
    if not data.get("state"):
        data = find_task(body)
    word = wire.read_text(wire.first_value(data, *STATE_KEYS))
    state, notices = parse_state(word, states)
    ended = state in (State.SUCCEEDED, State.FAILED)
    found = Found()
    if state is State.SUCCEEDED:
        urls, result, broken = read_result(data.get("resultJson"))
        found = find_result(body, urls, base, result=result)
        notices += broken or found.notices
    return Event(
        state,
        remote_id=find_record_id(body) or wire.read_id(wire.first_value(data, "taskId", "task_id")),
        remote_state=word,
        progress=wire.parse_progress(data.get("progress")),
        outputs=found.outputs,
        result=found.result,
        error=find_failure(data, word, error_envelope(body)) if state is State.FAILED else None,
        charged=wire.parse_credits(wire.first_value(data, "creditsConsumed", "consumeCredits")) if ended else None,
        ended_at=wire.parse_timestamp(data.get("completeTime")),
        found_at=found.location,
        notices=notices,
    )


def read_result(value: Any) -> tuple[list[Any], Any, tuple[str, ...]]:
    """Return what is in a `resultJson`: URLs, or a result that is not files, and a notice if it cannot be read."""
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
