"""Finds a task's id wherever relays put it in the answer to a submission. Pure.

Each family looks in its own fields first. This search is used only for answers that are not errors: in an error, the
same field names hold the request's id.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from receiver.core import wire
from receiver.core.errors import Unreadable
from receiver.providers.words import is_state_word

_TASK = (
    "task_id",
    "taskId",
    "taskID",
    "taskid",
    "task_uuid",
    "taskUUID",
    "taskNo",
    "task_no",
    "TaskId",
    "task_ids",
    "taskIds",
)
_JOB = (
    *("id", "job_id", "jobId", "prediction_id", "predictionId", "generation_id", "generationId"),
    *("video_id", "videoId", "operation_id", "submit_id", "prompt_id", "run_id", "execution_id", "creation_id", "uuid"),
)
_REQUEST = ("request_id", "requestId")
"""The task's id only if there is no other; else the request's."""
_WITHIN = (
    *("data", "result", "results", "output", "response", "task", "tasks", "job", "jobs", "prediction", "generation"),
    *("generations", "video", "videos"),
)
_PLAIN = ("data", "result", "task", "job", "prediction", "generation")
_OTHER_ID = re.compile(r"(evt|req|chatcmpl|log|trace)[_-]")
_BARE_ID = re.compile(r"(?=.*\d)[\w.:~=+-]{6,256}")


def find_task_id(body: Mapping[str, Any]) -> str | None:
    """Return the task's id in an answer that accepts it: the best field name first, then the least nested."""
    records = list(_records(body, 3))
    for names in (_TASK, _JOB):
        for record in records:
            if (found := _find_named(record, names)) is not None:
                return found
    for key in _PLAIN:
        value = body.get(key)
        for item in value if isinstance(value, list) else [value]:
            if (lone := _bare_id(item)) is not None:
                return lone
    return next((found for record in records if (found := _find_named(record, _REQUEST)) is not None), None)


def _find_named(record: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    for name in names:
        value = record.get(name)
        if name.endswith("ds") and isinstance(value, list) and value:  # `task_ids` of a single order
            value = value[0]
        found = wire.read_id(value)
        if found is not None and not _OTHER_ID.match(found):
            return found
    return None


def _bare_id(value: Any) -> str | None:
    """Return a value that can only be an id, not a word, a sentence, a URL or a count."""
    found = value.strip() if isinstance(value, str) else None
    return (
        found
        if found and _BARE_ID.fullmatch(found) and not is_state_word(found) and not _OTHER_ID.match(found)
        else None
    )


def _records(value: Any, deeper: int) -> Iterator[Mapping[str, Any]]:
    """Yield a record and those nested in it, the least nested first."""
    level = [value]
    for _ in range(deeper + 1):
        level = [record for item in level for record in _as_objects(item)]
        yield from level
        level = [record.get(key) for record in level for key in _WITHIN if record.get(key)]


def _as_objects(value: Any) -> list[Mapping[str, Any]]:
    """Return an object, the first few of a list, or what a JSON string holds."""
    if isinstance(value, str) and value.strip().startswith(("{", "[")):
        try:
            value = wire.read_nested(value)
        except Unreadable:
            return []
    return [item for item in (value[:10] if isinstance(value, list) else [value]) if isinstance(item, dict)]
