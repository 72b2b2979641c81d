"""Every endpoint of the API in one table: `app` makes routes of it, `/openapi.json` documents it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from receiver.web import callbacks
from receiver.web.api import batch, deliveries, events, files, health, notifications, outputs, requests, tasks

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `answers` names the schema of each status."""

    method: str
    path: str
    endpoint: Endpoint
    summary: str
    answers: dict[int, str]
    query: type[BaseModel] | None = None
    body: tuple[type[BaseModel], ...] = ()
    """The schemas that a body may have."""
    multipart: bool = False
    """The body is a form with a file, not JSON."""
    keyed: bool = False
    """Accepts an Idempotency-Key."""
    open: bool = False
    """Needs no bearer token."""


_TASK = {200: "Task", 404: "Problem"}

OPERATIONS = (
    # The busiest first: routes are tried in this order.
    Operation("POST", "/callbacks/{provider}/{token}", callbacks.callback, "Receive a provider's callback",
              {200: "Outcome", 401: "Problem", 404: "Problem", 408: "Problem", 413: "Problem", 415: "Problem",
               503: "Problem"}, open=True),
    Operation(
        "POST",
        "/api/tasks",
        tasks.create_task,
        "Submit a task; answers when the first attempt has ended",
        {201: "Task", 200: "Task", 400: "Problem", 409: "Problem", 413: "Problem", 422: "Problem", 503: "Problem"},
        body=(requests.OrderBody, requests.TrackBody),
        keyed=True,
    ),
    Operation(
        "GET",
        "/api/tasks",
        tasks.list_tasks,
        "List tasks, newest first; metadata.KEY filters by a metadata entry",
        {200: "Tasks", 422: "Problem"},
        query=requests.ListQuery,
    ),
    # Before the task's own path, which would match it, too: the wrong method is told the right one.
    Operation("POST", "/api/tasks/batch", batch.run_batch, "Do the same with many tasks, by their ids or by a filter",
              {200: "Results", 400: "Problem", 409: "Problem", 422: "Problem", 503: "Problem"},
              body=(requests.BatchBody,), keyed=True),
    Operation(
        "GET",
        "/api/tasks/{id}",
        tasks.get_task,
        "Get a task; wait=SECONDS answers as soon as it is final or expired",
        {**_TASK, 422: "Problem"},
        query=requests.WaitQuery,
    ),
    Operation("GET", "/api/tasks/{id}/history", tasks.get_history, "List what happened to a task",
              {200: "History", 404: "Problem", 422: "Problem"}),
    Operation("POST", "/api/tasks/{id}/check", tasks.check_task, "Check the task at the provider now",
              {**_TASK, 409: "Problem", 422: "Problem"}),
    Operation("POST", "/api/tasks/{id}/retry", tasks.retry_task, "Place the same order again as a new task",
              {201: "Task", 200: "Task", 404: "Problem", 409: "Problem", 422: "Problem"}, keyed=True),
    Operation("POST", "/api/tasks/{id}/cancel", tasks.cancel_task, "Cancel a queued task",
              {**_TASK, 409: "Problem", 422: "Problem"}),
    Operation("POST", "/api/tasks/{id}/adopt", tasks.adopt_task, "Resolve an unconfirmed task by hand",
              {**_TASK, 400: "Problem", 409: "Problem", 422: "Problem"}, body=(requests.AdoptBody,)),
    Operation("GET", "/api/tasks/{id}/outputs/{n}", outputs.get_output,
              "Get an archived file, or a range of it; also with a signed link instead of a token",
              {200: "file", 206: "file", 304: "file", 404: "Problem", 410: "Problem", 416: "file", 422: "Problem",
               503: "Problem"}, query=requests.OutputQuery),
    Operation("GET", "/api/tasks/{id}/outputs/{n}/poster", outputs.get_poster,
              "Get a small WebP of an archived image, or of a video's first frame",
              {200: "file", 404: "Problem", 422: "Problem"}),
    Operation("POST", "/api/tasks/{id}/outputs/{n}/link", outputs.link_output,
              "Make a link to an archived file that needs no token until it ends",
              {200: "Link", 400: "Problem", 404: "Problem", 422: "Problem"}, body=(requests.LinkBody,)),
    Operation("POST", "/api/tasks/{id}/acknowledge", tasks.acknowledge_task,
              "Take a task off the attention list until something new happens to it", {**_TASK, 422: "Problem"}),
    Operation("GET", "/api/attention", batch.list_attention, "List what a person should look at, most costly first",
              {200: "Attention", 422: "Problem"}, query=requests.AttentionQuery),
    Operation("GET", "/api/deliveries", deliveries.list_deliveries, "List callbacks of all tasks and accounts",
              {200: "Deliveries", 422: "Problem"}, query=requests.DeliveriesQuery),
    Operation("POST", "/api/deliveries/{id}/replay", deliveries.replay_delivery, "Read a stored callback again",
              {200: "Replayed", 404: "Problem", 409: "Problem", 422: "Problem"}),
    Operation("GET", "/api/notifications", notifications.list_notifications,
              "List messages to your application with their tries, newest first",
              {200: "Notifications", 422: "Problem"}, query=notifications.NotificationsQuery),
    Operation("POST", "/api/notifications/{id}/send", notifications.send_notification,
              "Send a message again now, under the same id",
              {200: "NotificationDocument", 404: "Problem", 422: "Problem", 503: "Problem"}),
    Operation("POST", "/api/poll", tasks.poll, "Run one sweep over everything that is due, at most 50 s",
              {200: "Report", 422: "Problem", 503: "Problem"}),
    Operation("GET", "/api/providers", tasks.list_providers, "List providers, their models and prices",
              {200: "Providers", 422: "Problem"}),
    Operation("GET", "/api/providers/{name}/balance", tasks.get_balance, "Get an account's balance from its provider",
              {200: "Balance", 404: "Problem", 409: "Problem", 422: "Problem"}),
    Operation("POST", "/api/files", files.upload_file,
              "Upload a reference file; answers with the part of an input that refers to it",
              {200: "File", 400: "Problem", 408: "Problem", 409: "Problem", 413: "Problem", 415: "Problem",
               422: "Problem"}, body=(files.FileForm,), multipart=True),
    Operation("GET", "/api/events", events.stream_events,
              "Follow the changes of all tasks as Server-Sent Events; Last-Event-ID continues after an event",
              {200: "events", 422: "Problem", 503: "Problem"}, query=requests.EventsQuery),
    Operation("GET", "/api/stats", tasks.stats, "Get counts of tasks, times and credits",
              {200: "Stats", 422: "Problem"}),
    Operation("GET", "/healthz", health.healthz, "Whether the process is alive", {200: "Status"}, open=True),
    Operation("GET", "/readyz", health.readyz, "Whether the service is ready: the database can be written",
              {200: "Status", 503: "Problem"}, open=True),
    Operation("GET", "/metrics", health.metrics, "Prometheus metrics", {200: "text"}),
)  # fmt: skip
