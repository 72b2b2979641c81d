"""Getting one task and waiting for it: the steps that several calls share."""

import time
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote

from receiver.client.errors import BadAnswer
from receiver.client.results import SETTLED, Task
from receiver.client.steps import Outage, Pause, Request, Steps, fetch_object

LONGEST_WAIT = 60.0
"""Seconds for which the service waits in one request."""
WAIT_MARGIN = 30.0
"""Seconds beyond them after which an answer is given up."""
EARLY_PAUSE = 1.0
"""Seconds before waiting again when the service answered early, as it does when it stops."""


def path_of(task: str | Task, *more: object) -> str:
    """Return the path of a task, given by its id or its document, or of something below it."""
    task_id = task if isinstance(task, str) else task["id"]
    if not task_id:
        raise ValueError("task: must be a task's id, such as tsk_...")
    return "/".join(["/api/tasks", quote(task_id, safe=""), *map(str, more)])


def fetch_task(request: Request, patience: float) -> Steps[Task]:
    """Return the task that is the answer to a request."""
    document = yield from fetch_object(request, Outage(patience))
    require_field(document, "id")
    require_field(document, "state")
    return cast("Task", document)


def wait_for(task: str | Task, seconds: float | None, patience: float) -> Steps[Task]:
    """Return a task once it is settled, or as it is after so many seconds."""
    end = float("inf") if seconds is None else time.monotonic() + seconds
    while True:
        began = time.monotonic()
        left = max(end - began, 0.0)
        asked = min(left, LONGEST_WAIT)
        request = Request("GET", path_of(task), (("wait", f"{asked:.3f}"),), silence=asked + WAIT_MARGIN)
        found = yield from fetch_task(request, min(patience, left))
        now = time.monotonic()
        if found["state"] in SETTLED or now >= end:
            return found
        if now - began < asked / 2:
            yield Pause(min(EARLY_PAUSE, end - now))


def require_field(document: Mapping[str, Any], name: str) -> Any:
    """Return a field of an answer; raises `BadAnswer` if it is missing."""
    try:
        return document[name]
    except KeyError:
        raise BadAnswer(f'The answer has no "{name}". Is the URL that of a current Receiver service?') from None
