"""The Python client of a Receiver service: `Client`, and `AsyncClient` whose calls are awaited.

    from receiver.client import Client

    with Client("http://127.0.0.1:8000", token) as client:
        task = client.submit("revid", "sora-2-text-to-video", {"prompt": "A paper boat"}, wait=300)

It speaks HTTP only, needs only httpx, and must import no other part of Receiver. `docs/python.md` shows how to use it.
"""

from receiver.client.asynchronous import AsyncClient
from receiver.client.blocking import Client
from receiver.client.errors import (
    BadAnswer,
    BadRequest,
    BrokenDownload,
    ClientError,
    Conflict,
    FieldError,
    Invalid,
    NotFound,
    Problem,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from receiver.client.results import (
    SETTLED,
    Attention,
    AttentionItem,
    Credits,
    Evidence,
    FeedEvent,
    HistoryEvent,
    Link,
    Model,
    Output,
    Provider,
    State,
    Stored,
    Task,
    TaskError,
)

__all__ = [
    "SETTLED",
    "AsyncClient",
    "Attention",
    "AttentionItem",
    "BadAnswer",
    "BadRequest",
    "BrokenDownload",
    "Client",
    "ClientError",
    "Conflict",
    "Credits",
    "Evidence",
    "FeedEvent",
    "FieldError",
    "HistoryEvent",
    "Invalid",
    "Link",
    "Model",
    "NotFound",
    "Output",
    "Problem",
    "Provider",
    "State",
    "Stored",
    "Task",
    "TaskError",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
]
