"""Request bodies and query parameters of the API, validated by pydantic; unknown names are refused."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.config import JsonDict
from starlette.requests import Request

from receiver.core.catalog import RESERVED_NAMES
from receiver.core.errors import Fault, Invalid
from receiver.core.messages import Outcome
from receiver.core.states import State
from receiver.outbound.guard import MAX_LINK
from receiver.store.reading import Filter
from receiver.tasks.batch import MAX_TASKS, Action

M = TypeVar("M", bound=BaseModel)

KEY = "Idempotency-Key"
LAST_EVENT_ID = "Last-Event-ID"
MAX_KEY = 255
MAX_WAIT = 60
MAX_LINK_SECONDS = 10 * 365 * 86400
MAX_FILTERS = 20
"""Metadata entries by which one list can be filtered."""
MAX_FIELDS = 100
"""Fields of a body or query; the answer names each unknown one, so more of them would take long."""
METADATA = "metadata."
ID_PATTERN = r"[^\s\x1c-\x1f\x85]"
"""A provider's id is more than white space."""
_WRITTEN_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]")


def _require_iso_time(given: Any) -> Any:
    """Return a time as given; raises for a bare number, which pydantic would read as seconds, not as ISO 8601."""
    if isinstance(given, str) and not _WRITTEN_TIME.match(given):
        raise ValueError("must be a time in ISO 8601, such as 2026-11-20T12:00:00Z")
    return given


Timestamp = Annotated[AwareDatetime, BeforeValidator(_require_iso_time)]


NotifyUrl = Annotated[
    str, Field(max_length=MAX_LINK, description="is told of this task instead of RECEIVER_NOTIFY_URL")
]


class OrderBody(BaseModel):
    """The body of `POST /api/tasks`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    provider: str
    model: Annotated[str, Field(min_length=1, max_length=200)]
    input: Annotated[
        dict[str, Any], Field(json_schema_extra={"propertyNames": {"not": {"enum": sorted(RESERVED_NAMES)}}})
    ]
    metadata: dict[str, Any] = {}
    notify_url: NotifyUrl | None = None
    validated: Annotated[bool, Field(alias="validate", description="false sends the input as it is")] = True


class TrackBody(BaseModel):
    """The body of `POST /api/tasks` that follows a task bought elsewhere."""

    model_config = ConfigDict(extra="forbid", strict=True)

    provider: str
    model: Annotated[str, Field(min_length=1, max_length=200)]
    remote_id: Annotated[str, Field(min_length=1, max_length=512, pattern=ID_PATTERN)]
    metadata: dict[str, Any] = {}
    notify_url: NotifyUrl | None = None


_NULL: JsonDict = {"type": "null"}


class AdoptBody(BaseModel):
    """The body of `POST /api/tasks/{id}/adopt`: either the provider's id, or that there is none."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "oneOf": [
                {"required": ["remote_id"], "properties": {"remote_id": {"type": "string"}, "not_bought": _NULL}},
                {"required": ["not_bought"], "properties": {"not_bought": {"const": True}, "remote_id": _NULL}},
            ]
        },
    )

    remote_id: Annotated[str, Field(min_length=1, max_length=512, pattern=ID_PATTERN)] | None = None
    not_bought: Literal[True] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.remote_id is None) is (self.not_bought is None):
            raise ValueError('give either "remote_id" or "not_bought": true')
        return self


class EmptyBody(BaseModel):
    """The body of requests that need none."""

    model_config = ConfigDict(extra="forbid")


class OutputQuery(BaseModel):
    """The query of `GET /api/tasks/{id}/outputs/{n}`."""

    model_config = ConfigDict(extra="forbid")

    download: Annotated[bool, Field(description="1 sends the file as an attachment")] = False
    link: Annotated[str, Field(max_length=1000, description="what a signed link ends with")] | None = None


class LinkBody(BaseModel):
    """The body of `POST /api/tasks/{id}/outputs/{n}/link`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    seconds: Annotated[float, Field(gt=0, le=MAX_LINK_SECONDS, allow_inf_nan=False)] = 3600


class WaitQuery(BaseModel):
    """The query of `GET /api/tasks/{id}`."""

    model_config = ConfigDict(extra="forbid")

    wait: Annotated[float, Field(ge=0, le=MAX_WAIT, allow_inf_nan=False)] = 0


class EventsQuery(BaseModel):
    """The query of `GET /api/events`."""

    model_config = ConfigDict(extra="forbid")

    state: list[State] = []
    provider: str | None = None


class ListQuery(BaseModel):
    """The query of `GET /api/tasks`; `metadata.KEY` is read beside it."""

    model_config = ConfigDict(extra="forbid")

    state: list[State] = []
    provider: str | None = None
    model: str | None = None
    q: Annotated[str, Field(max_length=500)] | None = None
    since: Timestamp | None = None
    until: Timestamp | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str, Field(pattern=r"^tsk_[0-9a-z]{26}$")] | None = None


class BatchFilter(ListQuery):
    """The filter of `POST /api/tasks/batch`: the parameters of the list, with a larger limit."""

    limit: Annotated[int, Field(ge=1, le=MAX_TASKS)] = MAX_TASKS


def inline(part: Any, definitions: Mapping[str, Any]) -> Any:
    """Return a schema with pydantic's own definitions put where they are used: elsewhere nobody finds them."""
    if isinstance(part, dict):
        if "$ref" in part:
            return definitions[part["$ref"].rsplit("/", 1)[1]]
        return {name: inline(value, definitions) for name, value in part.items()}
    return [inline(value, definitions) for value in part] if isinstance(part, list) else part


def _filter_schema() -> dict[str, Any]:
    schema: dict[str, Any] = BatchFilter.model_json_schema()
    definitions = schema.pop("$defs")
    schema = dict(inline(schema, definitions))
    schema["properties"]["state"] = {"anyOf": [schema["properties"]["state"], definitions["State"]]}
    return schema | {"patternProperties": {"^metadata[.]": {"type": "string"}}, "maxProperties": MAX_FILTERS}


_NEEDS_IDS: JsonDict = {"required": ["ids"], "properties": {"ids": {"type": "array"}, "filter": _NULL}}
_NEEDS_FILTER: JsonDict = {"required": ["filter"], "properties": {"filter": {"type": "object"}, "ids": _NULL}}


class BatchBody(BaseModel):
    """The body of `POST /api/tasks/batch`: one action, for tasks by their ids or by a filter."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "allOf": [
                {"oneOf": [_NEEDS_IDS, _NEEDS_FILTER]},
                {"anyOf": [{"properties": {"action": {"const": "retry"}}}, {"properties": {"max_credits": _NULL}}]},
            ]
        },
    )

    action: Annotated[Action, Field(strict=False), WithJsonSchema({"enum": [action.value for action in Action]})]
    ids: (
        Annotated[
            list[Annotated[str, Field(max_length=60)]],
            Field(min_length=1, max_length=MAX_TASKS, json_schema_extra={"uniqueItems": True}),
        ]
        | None
    ) = None
    filter: Annotated[dict[str, Any], WithJsonSchema(_filter_schema())] | None = None
    max_credits: Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if (self.ids is None) is (self.filter is None):
            raise ValueError('give either "ids" or "filter"')
        if self.ids is not None and len(set(self.ids)) < len(self.ids):
            raise ValueError('"ids" names a task twice')
        if self.max_credits is not None and self.action is not Action.RETRY:
            raise ValueError('"max_credits" is only for the action "retry"')
        return self


class AttentionQuery(BaseModel):
    """The query of `GET /api/attention`."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=200)] = 50


class DeliveriesQuery(BaseModel):
    """The query of `GET /api/deliveries`."""

    model_config = ConfigDict(extra="forbid")

    provider: str | None = None
    outcome: Outcome | None = None
    since: Timestamp | None = None
    until: Timestamp | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None


def validate(model: type[M], given: Mapping[str, Any], place: str | None = None) -> M:
    """Return what was sent as a model; raises `Invalid` naming every field that is wrong."""
    if len(given) > MAX_FIELDS:
        raise Invalid([Fault((place or "body",), f"has {len(given)} fields; at most {MAX_FIELDS} are accepted")])
    try:
        return model.model_validate(given)
    except ValidationError as error:
        faults = []
        for fault in error.errors(include_url=False, include_context=False, include_input=False):
            loc = (place, *fault["loc"]) if place else fault["loc"]
            is_unknown = fault["type"] == "extra_forbidden"
            faults.append(Fault(tuple(loc), "is not a known field" if is_unknown else _as_clause(fault["msg"])))
        raise Invalid(faults) from error


def _as_clause(message: str) -> str:
    """Return pydantic's message as it reads after a field's name."""
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def refuse_query(request: Request) -> None:
    """Raise `Invalid` for any query parameter."""
    validate(EmptyBody, dict(request.query_params), "query")


def read_filter(request: Request) -> Filter:
    """Return the filter of a list from the query."""
    single, states, metadata = {}, [], {}
    for name, value in request.query_params.multi_items():
        if name == "state":
            states.append(value)
        elif name.startswith(METADATA):
            metadata[name.removeprefix(METADATA)] = value
        else:
            single[name] = value
    refuse_many_filters(metadata)
    return _to_filter(validate(ListQuery, {**single, "state": states}, "query"), metadata)


def _to_filter(query: ListQuery, metadata: Mapping[str, str]) -> Filter:
    return Filter(
        states=query.state,
        provider=query.provider,
        model=query.model,
        q=query.q,
        metadata=metadata,
        since=to_milliseconds(query.since),
        until=to_milliseconds(query.until),
        before=query.cursor,
        limit=query.limit,
    )


def to_milliseconds(time: datetime | None) -> int | None:
    """Return a time in Unix milliseconds."""
    return None if time is None else round(time.timestamp() * 1000)


def read_batch_filter(given: Mapping[str, Any]) -> Filter:
    """Return the filter of a batch, which has the parameters of the list; a single state may stand without a list."""
    metadata = {name.removeprefix(METADATA): value for name, value in given.items() if name.startswith(METADATA)}
    if wrong := [name for name, value in metadata.items() if not isinstance(value, str)]:
        raise Invalid([Fault(("filter", METADATA + wrong[0]), "must be a text")])
    refuse_many_filters(metadata)
    fields = {name: value for name, value in given.items() if not name.startswith(METADATA)}
    if isinstance(fields.get("state"), str):
        fields["state"] = [fields["state"]]
    return _to_filter(validate(BatchFilter, fields, "filter"), metadata)


def refuse_many_filters(metadata: Mapping[str, str]) -> None:
    """Raise `Invalid` for more metadata filters than one statement should have."""
    if len(metadata) > MAX_FILTERS:
        raise Invalid(
            [Fault(("query", METADATA + "*"), f"has {len(metadata)} filters; at most {MAX_FILTERS} are accepted")]
        )


def read_events_query(request: Request) -> EventsQuery:
    """Return which changes of the feed are wanted."""
    given: dict[str, Any] = dict(request.query_params)
    if "state" in given:
        given["state"] = request.query_params.getlist("state")
    return validate(EventsQuery, given, "query")


def last_event_id(request: Request) -> int | None:
    """Return the number of the last change that a reader has seen; raises `Invalid` for what is no such number."""
    given = request.headers.get(LAST_EVENT_ID)
    if not given:
        return None
    if not re.fullmatch(r"[0-9]{1,30}", given):
        raise Invalid([Fault(("header", LAST_EVENT_ID), "must be the id of an event, a number")])
    return int(given)


def idempotency_key(request: Request) -> str | None:
    """Return the caller's key; raises `Invalid` unless it is 1 to 255 printable ASCII characters."""
    key = request.headers.get(KEY)
    if key is None:
        return None
    if len(set(request.headers.getlist(KEY))) > 1:
        raise Invalid([Fault(("header", KEY), "was sent more than once, with different keys")])
    if not 0 < len(key) <= MAX_KEY or not key.isascii() or not key.isprintable():
        raise Invalid([Fault(("header", KEY), f"must be 1 to {MAX_KEY} printable ASCII characters")])
    return key
