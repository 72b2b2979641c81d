"""What the client returns: the documents of the API, typed. A newer service may send more fields."""

from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

State = Literal[
    "queued", "submitting", "unconfirmed", "submitted", "running", "succeeded", "failed", "cancelled", "expired"
]
SETTLED: frozenset[State] = frozenset({"succeeded", "failed", "cancelled", "expired"})
"""The states for which `wait` waits. A late result may still come to an expired task."""


class Stored(TypedDict):
    """Where an archived file is, and what was found in it."""

    url: str
    bytes: int
    sha256: str
    media_type: str
    at: str


class Output(TypedDict):
    """One produced file: the provider's link to it, and its archived copy."""

    url: str
    kind: Literal["video", "image", "audio", "file"]
    expires_at: str | None
    archive: Literal["waiting", "stored", "failed", "off"]
    stored: Stored | None
    problem: NotRequired[str | None]


class TaskError(TypedDict):
    """Why a task failed, expired or is unconfirmed."""

    code: str
    message: str | None
    advice: NotRequired[str | None]


class Credits(TypedDict):
    """What a task costs, in the provider's own unit; None is unknown."""

    estimated: float | None
    reserved: float | None
    charged: float | None


class Evidence(TypedDict):
    """Why the end of a task is believed."""

    token: bool
    signature: str | None
    confirmed_at: str | None


class Task(TypedDict):
    """One task. Times are ISO 8601 in UTC."""

    id: str
    state: State
    provider: str
    model: str
    remote_id: str | None
    remote_state: str | None
    progress: float | None
    input: dict[str, Any]
    validated: bool
    metadata: dict[str, Any]
    outputs: list[Output]
    result: Any
    error: TaskError | None
    credits: Credits
    settled_by: Literal["callback", "check", "submission", "hand"] | None
    evidence: Evidence
    notices: list[str]
    retry_of: str | None
    attempts: int
    checks: int
    deliveries: int
    sandbox: bool
    created_at: str
    submitted_at: str | None
    finished_at: str | None
    updated_at: str
    next_check_at: str | None
    next_check_because: NotRequired[str | None]


HistoryEvent = TypedDict(
    "HistoryEvent",
    {
        "id": int,
        "at": str,
        "kind": Literal["move", "attempt", "delivery", "check", "note"],
        "from": NotRequired[State],
        "to": NotRequired[State],
        "via": NotRequired[str],
        "error": NotRequired[TaskError],
        "number": NotRequired[int],
        "outcome": NotRequired[str | None],
        "message": NotRequired[str | None],
        "delivery": NotRequired[int],
        "request": NotRequired[dict[str, Any]],
        "http_status": NotRequired[int | None],
        "answer": NotRequired[str | None],
        "headers": NotRequired[Any],
        "body": NotRequired[str],
        "truncated": NotRequired[bool],
        "text": NotRequired[str],
    },
)
"""One thing that happened to a task; `kind` decides which of the fields it has."""


class Link(TypedDict):
    """A signed link to an archived file, which needs no token until it ends."""

    url: str
    expires_at: str


class AttentionItem(TypedDict):
    """A task that a person should look at: why, since when, and what to do."""

    task: Task
    reason: str
    since: str
    advice: str
    detail: NotRequired[str | None]


class Attention(TypedDict):
    """What a person should look at, most costly first, and how many there are of each reason."""

    items: list[AttentionItem]
    counts: dict[str, int]


class Model(TypedDict):
    """A model that a provider offers: its input as JSON Schema, and its price in words."""

    id: str
    title: NotRequired[str | None]
    validated: bool
    input: dict[str, Any]
    price: str | None


class Provider(TypedDict):
    """A provider account, configured or not, and its models."""

    name: str
    family: str
    configured: bool
    callbacks: bool | None
    signed: bool
    models: list[Model]


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """One event of the feed.

    `kind` is `task`: `task` is the task as it then was. Or it is `reset`: what was asked for is no longer kept, so list
    the tasks again. Pass `id` to `events` to go on after this event.
    """

    id: str
    kind: Literal["task", "reset"]
    task: Task | None
