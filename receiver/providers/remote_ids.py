"""Where the answer to a create names the task: the places that relays are known to put its id. Pure.

Each family looks in its own places first. An id that is found here is only believed in an answer that speaks of no
error: there, the same names are those of the request.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from receiver.core import wire
from receiver.core.errors import Unreadable
from receiver.providers.words import is_state

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
"""The task's id only where nothing else is; elsewhere that of the question."""
_WITHIN = (
    *("data", "result", "results", "output", "response", "task", "tasks", "job", "jobs", "prediction", "generation"),
    *("generations", "video", "videos"),
)
_PLAIN = ("data", "result", "task", "job", "prediction", "generation")
_EVENT = re.compile(r"(evt|req|chatcmpl|log|trace)[_-]")
_LONE = re.compile(r"(?=.*\d)[\w.:~=+-]{6,256}")


def find_task_id(body: Mapping[str, Any]) -> str | None:
    """Find the id of the task in an answer that accepts it, the better name first, and of the same name the nearest."""
    records = list(_records(body, 3))
    for names in (_TASK, _JOB):
        for record in records:
            if (found := _named(record, names)) is not None:
                return found
    for key in _PLAIN:
        value = body.get(key)
        for item in value if isinstance(value, list) else [value]:
            if (lone := _lone(item)) is not None:
                return lone
    return next((found for record in records if (found := _named(record, _REQUEST)) is not None), None)


def _named(record: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    for name in names:
        value = record.get(name)
        if name.endswith("ds") and isinstance(value, list) and value:  # `task_ids` of an order for one
            value = value[0]
        found = wire.read_id(value)
        if found is not None and not _EVENT.match(found):
            return found
    return None


def _lone(value: Any) -> str | None:
    """Take an id that stands alone, and no word, sentence, URL or number of something."""
    found = value.strip() if isinstance(value, str) else None
    return found if found and _LONE.fullmatch(found) and not is_state(found) and not _EVENT.match(found) else None


def _records(value: Any, deeper: int) -> Iterator[Mapping[str, Any]]:
    """List a record and those within it, the nearest first."""
    level = [value]
    for _ in range(deeper + 1):
        level = [record for item in level for record in _objects(item)]
        yield from level
        level = [record.get(key) for record in level for key in _WITHIN if record.get(key)]


def _objects(value: Any) -> list[Mapping[str, Any]]:
    """Take an object, the first few of a list, or what a JSON text holds."""
    if isinstance(value, str) and value.strip().startswith(("{", "[")):
        try:
            value = wire.read_nested(value)
        except Unreadable:
            return []
    return [item for item in (value[:10] if isinstance(value, list) else [value]) if isinstance(item, dict)]
