"""What the API is told: bodies and query parameters, checked by pydantic, with every unknown name refused."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.config import JsonDict
from starlette.requests import Request

from receiver.core.catalog import RESERVED_NAMES
from receiver.core.errors import Fault, Invalid
from receiver.core.states import State
from receiver.store.reading import Filter

M = TypeVar("M", bound=BaseModel)

KEY = "Idempotency-Key"
MAX_KEY = 255
MAX_WAIT = 60
MAX_FILTERS = 20
"""Metadata entries that one list is filtered by."""
MAX_FIELDS = 100
"""Fields of a body or query; each unknown one is told, so that many more would take their time."""
METADATA = "metadata."
ID_PATTERN = r"[^\s\x1c-\x1f\x85]"
"""A provider's id is more than blanks."""
_WRITTEN_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]")


def _iso(given: Any) -> Any:
    """Refuse a bare number, which pydantic takes for seconds: the API's times are ISO 8601."""
    if isinstance(given, str) and not _WRITTEN_TIME.match(given):
        raise ValueError("must be a time in ISO 8601, such as 2026-11-20T12:00:00Z")
    return given


Moment = Annotated[AwareDatetime, BeforeValidator(_iso)]


class OrderBody(BaseModel):
    """The body of `POST /api/tasks`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    provider: str
    model: Annotated[str, Field(min_length=1, max_length=200)]
    input: Annotated[
        dict[str, Any], Field(json_schema_extra={"propertyNames": {"not": {"enum": sorted(RESERVED_NAMES)}}})
    ]
    metadata: dict[str, Any] = {}
    validated: Annotated[bool, Field(alias="validate", description="false sends the input as it is")] = True


class TrackBody(BaseModel):
    """The body of `POST /api/tasks` that follows a task bought elsewhere."""

    model_config = ConfigDict(extra="forbid", strict=True)

    provider: str
    model: Annotated[str, Field(min_length=1, max_length=200)]
    remote_id: Annotated[str, Field(min_length=1, max_length=512, pattern=ID_PATTERN)]
    metadata: dict[str, Any] = {}


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
            raise ValueError('say either "remote_id" or "not_bought": true')
        return self


class EmptyBody(BaseModel):
    """The body of calls that need none."""

    model_config = ConfigDict(extra="forbid")


class WaitQuery(BaseModel):
    """The query of `GET /api/tasks/{id}`."""

    model_config = ConfigDict(extra="forbid")

    wait: Annotated[float, Field(ge=0, le=MAX_WAIT, allow_inf_nan=False)] = 0


class ListQuery(BaseModel):
    """The query of `GET /api/tasks`; `metadata.KEY` is read beside it."""

    model_config = ConfigDict(extra="forbid")

    state: list[State] = []
    provider: str | None = None
    model: str | None = None
    q: Annotated[str, Field(max_length=500)] | None = None
    since: Moment | None = None
    until: Moment | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str, Field(pattern=r"^tsk_[0-9a-z]{26}$")] | None = None


def checked(model: type[M], given: Mapping[str, Any], place: str | None = None) -> M:
    """Check what was sent; raises `Invalid` naming every field that is wrong."""
    if len(given) > MAX_FIELDS:
        raise Invalid([Fault((place or "body",), f"has {len(given)} fields; at most {MAX_FIELDS} are taken")])
    try:
        return model.model_validate(given)
    except ValidationError as error:
        faults = []
        for fault in error.errors(include_url=False, include_context=False, include_input=False):
            loc = (place, *fault["loc"]) if place else fault["loc"]
            unknown = fault["type"] == "extra_forbidden"
            faults.append(Fault(tuple(loc), "is not known here" if unknown else _lowered(fault["msg"])))
        raise Invalid(faults) from error


def _lowered(words: str) -> str:
    return words[:1].lower() + words[1:]


def no_query(request: Request) -> None:
    """Refuse every query parameter."""
    checked(EmptyBody, dict(request.query_params), "query")


def wanted(request: Request) -> Filter:
    """Read the filter of a list from the query."""
    single, states, metadata = {}, [], {}
    for name, value in request.query_params.multi_items():
        if name == "state":
            states.append(value)
        elif name.startswith(METADATA):
            metadata[name.removeprefix(METADATA)] = value
        else:
            single[name] = value
    refuse_many_filters(metadata)
    query = checked(ListQuery, {**single, "state": states}, "query")
    return Filter(
        states=query.state,
        provider=query.provider,
        model=query.model,
        q=query.q,
        metadata=metadata,
        since=None if query.since is None else round(query.since.timestamp() * 1000),
        until=None if query.until is None else round(query.until.timestamp() * 1000),
        before=query.cursor,
        limit=query.limit,
    )


def refuse_many_filters(metadata: Mapping[str, str]) -> None:
    """Refuse a list with more metadata filters than one statement should have; raises `Invalid`."""
    if len(metadata) > MAX_FILTERS:
        raise Invalid(
            [Fault(("query", METADATA + "*"), f"at most {MAX_FILTERS} filters are taken, not {len(metadata)}")]
        )


def idempotency_key(request: Request) -> str | None:
    """Read the caller's key; raises `Invalid` where it is no printable ASCII of at most 255 characters."""
    key = request.headers.get(KEY)
    if key is None:
        return None
    if len(set(request.headers.getlist(KEY))) > 1:
        raise Invalid([Fault(("header", KEY), "was sent more than once, with different keys")])
    if not 0 < len(key) <= MAX_KEY or not key.isascii() or not key.isprintable():
        raise Invalid([Fault(("header", KEY), f"must be 1 to {MAX_KEY} printable ASCII characters")])
    return key
