"""Rivya Public API v1: one task object without an envelope, ISO times, an Idempotency-Key, no callback per task.

Written from the documents for sora-2 and sora-2-pro and the API's pages on status, errors and webhooks. Events go to
the endpoints that the account has registered (see `webhooks`). The document breaks off within their body and does not
name the signature: here the generation is the event's `data`, and the signature that of Standard Webhooks.
"""

import hashlib
import json
import secrets
from datetime import UTC, datetime

from starlette.requests import Request

from receiver.sandbox.family import JSON, CallbackStyle, Family, Refusal, bearer
from receiver.sandbox.orders import STRING, Order, OrderError, Rule, check, one_of, optional_object, required_text
from receiver.sandbox.progress import Phase, Progress
from receiver.sandbox.purchase import Purchase
from receiver.sandbox.signing import sign_standard_webhook

STATUSES = {
    Phase.WAITING: "queued",
    Phase.RUNNING: "processing",
    Phase.SUCCEEDED: "succeeded",
    Phase.FAILED: "failed",
}

# "Reserved" at the start, "final" only after a success; fixed per task. Other models have no documented price.
CREDITS = {"sora-2": 6, "sora-2-pro": 75}
OTHER_CREDITS = 10

REFERENCE_FIELDS = ("url", "kind", "name", "mimeType")


def _is_reference_list(value: object) -> bool:
    """Return whether a value is a list of at most one image with all the keys of the document's example."""
    return (
        isinstance(value, list)
        and len(value) <= 1
        and all(
            isinstance(item, dict) and all(isinstance(item.get(f), str) for f in REFERENCE_FIELDS) for item in value
        )
    )


# Every select is a string here, even the yes and no of remove_watermark.
PARAMS = {
    "n_frames": one_of("10", "15"),
    "aspect_ratio": one_of("landscape", "portrait"),
    "remove_watermark": one_of("false", "true"),
    "upload_method": one_of("s3", "oss"),
    "referenceMediaItems": Rule("a list of at most one item with url, kind, name and mimeType", _is_reference_list),
}
MODEL_PARAMS = {"sora-2": PARAMS, "sora-2-pro": {**PARAMS, "size": one_of("standard", "high")}}

REFUSALS = {
    Refusal.UNAUTHORISED: (401, "api_key_missing"),
    Refusal.INVALID: (400, "validation_failed"),
    Refusal.REFUSED: (400, "validation_failed"),
    Refusal.CONFLICT: (409, "idempotency_conflict"),
    Refusal.BUSY: (429, "rate_limited"),
    Refusal.UNKNOWN: (404, "not_found"),
}


def read_order(request: Request, body: JSON) -> Order:
    """Return the order in a request; `client_request_id` is for tracing only, not the idempotency key."""
    model = required_text(body, "model")
    prompt = required_text(body, "prompt")
    check(body, {"client_request_id": STRING})
    if len(body.get("client_request_id", "")) > 128:
        raise OrderError("client_request_id must not exceed 128 characters")
    params = optional_object(body, "params")
    rules = MODEL_PARAMS.get(model)
    if rules is not None:
        check(params, rules, within="params.")
        if unknown := sorted(params.keys() - rules.keys()):
            raise OrderError(f"params.{unknown[0]} is not allowed for {model}")
    return Order(model, prompt, body, idempotency_key=request.headers.get("idempotency-key") or None)


def new_id(_model: str) -> str:
    """Return an id like the documents' `task_sora_2_example`."""
    return f"task_{secrets.token_hex(12)}"


def requested_id(request: Request) -> str:
    """Return the task id in the path of a status request."""
    return str(request.path_params["id"])


def created(purchase: Purchase) -> JSON:
    """Return the answer to a create request: the task as it is at first."""
    return status(purchase, Progress(Phase.WAITING))


def status(purchase: Purchase, progress: Progress) -> JSON:
    """Return the task object; `result` and `error` are null rather than absent."""
    reserved = price(purchase.model)
    succeeded = progress.phase is Phase.SUCCEEDED
    failed = progress.phase is Phase.FAILED
    return {
        "id": purchase.id,
        "status": STATUSES[progress.phase],
        "model": purchase.model,
        "reserved_credits": reserved,
        "final_credits": reserved if succeeded else 0,
        "created_at": iso(purchase.bought_at),
        "updated_at": iso(progress.finished_at or progress.started_at or purchase.bought_at),
        "result": {"primary_url": purchase.video_url, "urls": [purchase.video_url]} if succeeded else None,
        "error": {"code": "generation_failed", "message": "Generation failed"} if failed else None,
    }


def event(purchase: Purchase, progress: Progress) -> JSON:
    """Return the event about the end of a generation; told again it is the same event, with the same id."""
    generation = status(purchase, progress)
    digest = hashlib.sha256(json.dumps(generation).encode()).hexdigest()
    return {
        "id": f"evt_{digest[:24]}",
        "type": f"generation.{generation['status']}",
        "api_version": "2026-05-11",
        "created_at": generation["updated_at"],
        "data": generation,
    }


def refusal(reason: Refusal, detail: str) -> tuple[int, JSON]:
    """Return the HTTP status and the error object for what every family can refuse."""
    http_status, code = REFUSALS[reason]
    return http_status, error(code, detail)


def error(code: str, detail: str) -> JSON:
    """Return the error object; its requestId is camelCase in an API that is snake_case elsewhere."""
    return {"error": {"code": code, "message": detail, "requestId": f"req_{secrets.token_hex(8)}"}}


def price(model: str) -> int:
    """Return what a task of this model costs in credits."""
    return CREDITS.get(model, OTHER_CREDITS)


def iso(seconds: float) -> str:
    """Return epoch seconds as this API writes times."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


RIVYA = Family(
    name="rivya",
    create_path="/api/v1/generations",
    status_path="/api/v1/generations/{id}",
    status_method="GET",
    credential=bearer,
    read_order=read_order,
    new_id=new_id,
    requested_id=requested_id,
    created=created,
    status=status,
    refusal=refusal,
    # Retries are not documented; those of its relatives are 3.
    callbacks=CallbackStyle(body=event, retries=3, to_account=True, sign=sign_standard_webhook),
)
