"""`/openapi.json`: the table of endpoints as OpenAPI 3.1."""

import json
import re
from functools import cache
from typing import Any

from pydantic import BaseModel, TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from receiver import __version__
from receiver.core.attention import Reason
from receiver.core.messages import Outcome
from receiver.documents import TaskDocument
from receiver.notifications.resending import NotificationDocument
from receiver.web.api.endpoints import OPERATIONS, Operation
from receiver.web.api.requests import KEY, MAX_KEY, inline

_TEXT = {"type": ["string", "null"]}
_TIME = {"type": ["string", "null"], "format": "date-time"}
_NUMBER = {"type": ["number", "null"]}
_OBJECT = {"type": "object"}


def _record(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _list_of(name: str) -> dict[str, Any]:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}}


def _typed_schemas() -> dict[str, Any]:
    """Return the schemas of what has a type: a task, a message, and their parts."""
    found: dict[str, Any] = {}
    for name, document in (("Task", TaskDocument), ("NotificationDocument", NotificationDocument)):
        schema = TypeAdapter(document).json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
        found |= {**schema.pop("$defs"), name: schema}
    return found


SCHEMAS: dict[str, Any] = _typed_schemas() | {
    "Tasks": _record(tasks=_list_of("Task"), next=_TEXT),
    "HistoryEvent": {
        "type": "object",
        "required": ["id", "at", "kind"],
        "properties": {
            "id": {"type": "integer"},
            "at": _TIME,
            "kind": {"enum": ["move", "attempt", "delivery", "check", "note"]},
        },
    },
    "History": _record(events=_list_of("HistoryEvent")),
    "Results": _record(
        results={
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "ok"],
                "properties": {
                    "id": {"type": "string"},
                    "ok": {"type": "boolean"},
                    "task": {"$ref": "#/components/schemas/Task"},
                    "problem": {"$ref": "#/components/schemas/Problem"},
                },
            },
        },
        next=_TEXT,
    ),
    "Attention": _record(
        items={
            "type": "array",
            "items": _record(
                task={"$ref": "#/components/schemas/Task"},
                reason={"enum": [reason.value for reason in Reason]},
                since=_TIME,
                advice={"type": "string"},
                detail=_TEXT,
            ),
        },
        counts={"type": "object", "additionalProperties": {"type": "integer"}},
    ),
    "Delivery": _record(
        id={"type": "integer"},
        task=_TEXT,
        provider={"type": "string"},
        received_at=_TIME,
        outcome={"enum": [outcome.value for outcome in Outcome]},
        remote_id=_TEXT,
    ),
    "Deliveries": _record(deliveries=_list_of("Delivery"), next=_TEXT),
    "Replayed": _record(
        delivery={"type": "integer"},
        was={"enum": [outcome.value for outcome in Outcome]},
        outcome={"enum": [outcome.value for outcome in Outcome]},
        task=_TEXT,
        state=_TEXT,
    ),
    "Notifications": _record(notifications=_list_of("NotificationDocument"), next=_TEXT),
    "Report": _record(**{n: {"type": "integer"} for n in ("submitted", "checked", "settled", "expired", "failed")}),
    "Providers": _record(providers={"type": "array", "items": _OBJECT}),
    "Balance": _record(name={"type": "string"}, credits={"type": "number"}),
    "File": _record(provider={"type": "string"}, id=_TEXT, url={"type": "string"}, input=_OBJECT),
    "Stats": _record(
        tasks=_OBJECT,
        time_to_settle=_OBJECT,
        settled_by=_OBJECT,
        callback_share=_NUMBER,
        credits=_OBJECT,
        spend=_OBJECT,
    ),
    "Link": _record(url={"type": "string"}, expires_at=_TIME),
    "Outcome": _record(outcome={"enum": [outcome.value for outcome in Outcome]}),
    "Status": {"type": "object", "required": ["status"], "properties": {"status": {"const": "ok"}}},
    "Problem": {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "errors": {
                "type": "array",
                "items": _record(loc={"type": "array"}, msg={"type": "string"}),
            },
        },
    },
}


async def openapi(_request: Request) -> Response:
    """GET /openapi.json."""
    return Response(_document(), media_type="application/json")


@cache
def _document() -> bytes:
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Receiver", "version": __version__},
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": SCHEMAS,
        },
    }
    return json.dumps(document).encode("ascii")


def _described(operation: Operation) -> dict[str, Any]:
    answers = dict(operation.answers) if operation.open else {**operation.answers, 401: "Problem"}
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": operation.endpoint.__name__,
        "parameters": [*_path_parameters(operation.path), *_query_parameters(operation.query), *_headers(operation)],
        "responses": {str(status): _answer(status, name, operation) for status, name in sorted(answers.items())},
    }
    if operation.body:
        described["requestBody"] = {"required": True, "content": _content(operation)}
    if operation.open:
        described["security"] = []
    return described


def _content(operation: Operation) -> dict[str, Any]:
    schemas = [body.model_json_schema() for body in operation.body]
    schema = {"anyOf": schemas} if len(schemas) > 1 else schemas[0]
    if not operation.multipart:
        return {"application/json": {"schema": schema}}
    encoding = {"file": {"contentType": "image/*, video/*, audio/*"}}
    return {"multipart/form-data": {"schema": schema, "encoding": encoding}}


def _links() -> dict[str, Any]:
    """Return the operations that accept the id of the task in a response."""
    return {
        operation.endpoint.__name__: {
            "operationId": operation.endpoint.__name__,
            "parameters": {"id": "$response.body#/id"},
        }
        for operation in OPERATIONS
        if operation.path.startswith("/api/tasks/{id}") and "{n}" not in operation.path
    }


def _answer(status: int, name: str, operation: Operation) -> dict[str, Any]:
    if name == "text":
        return {"description": "text", "content": {"text/plain": {"schema": {"type": "string"}}}}
    if name == "file":
        content = {"*/*": {"schema": {"type": "string", "format": "binary"}}} if status in (200, 206) else {}
        return {"description": f"{status}", **({"content": content} if content else {})}
    if name == "events":
        return {"description": "events", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
    kind = "application/problem+json" if name == "Problem" else "application/json"
    schema = {"$ref": f"#/components/schemas/{name}"}
    described: dict[str, Any] = {"description": f"{status}", "content": {kind: {"schema": schema}}}
    if name == "Task" and operation.keyed:
        described["links"] = _links()
    return described


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _query_parameters(query: type[BaseModel] | None) -> list[dict[str, Any]]:
    if query is None:
        return []
    schema = query.model_json_schema()
    definitions = schema.get("$defs", {})
    return [
        {"name": name, "in": "query", "required": False, "schema": inline(part, definitions)}
        for name, part in schema["properties"].items()
    ]


def _headers(operation: Operation) -> list[dict[str, Any]]:
    if not operation.keyed:
        return []
    schema = {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[ -~]+$"}
    return [{"name": KEY, "in": "header", "required": False, "schema": schema}]
