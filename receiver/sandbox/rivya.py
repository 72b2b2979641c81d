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

from receiver.sandbox.family import JSON, Family, Hook, No, bearer
from receiver.sandbox.orders import STRING, Order, OrderError, Rule, check, one_of, optional_object, required_text
from receiver.sandbox.progress import Phase, Truth
from receiver.sandbox.purchase import Purchase
from receiver.sandbox.signing import standard_seal

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
    """At most one image, each with all the keys of the document's example."""
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
    No.UNAUTHORISED: (401, "api_key_missing"),
    No.INVALID: (400, "validation_failed"),
    No.REFUSED: (400, "validation_failed"),
    No.CONFLICT: (409, "idempotency_conflict"),
    No.BUSY: (429, "rate_limited"),
    No.UNKNOWN: (404, "not_found"),
}


def read_order(request: Request, body: JSON) -> Order:
    """Check a create request; `client_request_id` is for tracing only and not the idempotency key."""
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
    """An id like the documents' `task_sora_2_example`."""
    return f"task_{secrets.token_hex(12)}"


def asked_id(request: Request) -> str:
    """The task id in the path of a status request."""
    return str(request.path_params["id"])


def created(purchase: Purchase) -> JSON:
    """The answer to a create request: the task as it is at first."""
    return status(purchase, Truth(Phase.WAITING))


def status(purchase: Purchase, truth: Truth) -> JSON:
    """The task object; `result` and `error` are null rather than absent."""
    reserved = price(purchase.model)
    succeeded = truth.phase is Phase.SUCCEEDED
    failed = truth.phase is Phase.FAILED
    return {
        "id": purchase.id,
        "status": STATUSES[truth.phase],
        "model": purchase.model,
        "reserved_credits": reserved,
        "final_credits": reserved if succeeded else 0,
        "created_at": iso(purchase.bought_at),
        "updated_at": iso(truth.finished_at or truth.started_at or purchase.bought_at),
        "result": {"primary_url": purchase.video_url, "urls": [purchase.video_url]} if succeeded else None,
        "error": {"code": "generation_failed", "message": "Generation failed"} if failed else None,
    }


def event(purchase: Purchase, truth: Truth) -> JSON:
    """The event about the end of a generation; told again it is the same event, with the same id."""
    generation = status(purchase, truth)
    digest = hashlib.sha256(json.dumps(generation).encode()).hexdigest()
    return {
        "id": f"evt_{digest[:24]}",
        "type": f"generation.{generation['status']}",
        "api_version": "2026-05-11",
        "created_at": generation["updated_at"],
        "data": generation,
    }


def refusal(no: No, detail: str) -> tuple[int, JSON]:
    """The HTTP status and the error object for what every family can refuse."""
    http_status, code = REFUSALS[no]
    return http_status, error(code, detail)


def error(code: str, detail: str) -> JSON:
    """The error object; its requestId is camelCase in an API that is snake_case elsewhere."""
    return {"error": {"code": code, "message": detail, "requestId": f"req_{secrets.token_hex(8)}"}}


def price(model: str) -> int:
    """What a task of this model costs in credits."""
    return CREDITS.get(model, OTHER_CREDITS)


def iso(seconds: float) -> str:
    """Epoch seconds as this API writes times."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


RIVYA = Family(
    name="rivya",
    create_path="/api/v1/generations",
    status_path="/api/v1/generations/{id}",
    status_method="GET",
    credential=bearer,
    read_order=read_order,
    new_id=new_id,
    asked_id=asked_id,
    created=created,
    status=status,
    refusal=refusal,
    # Retries are not documented; those of its relatives are 3.
    hook=Hook(body=event, retries=3, to_account=True, seal=standard_seal),
)
