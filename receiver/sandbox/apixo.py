"""APIXO: an envelope of code, message and data, the model in the path, Unix milliseconds, a callback at the end.

Written from the sora-2 document and the API's pages on answers, webhooks and errors. What does not apply yet is absent
rather than null, and a failed task still comes under code 200 and message "success".
"""

import json
import secrets

from starlette.requests import Request

from receiver.sandbox.family import JSON, CallbackStyle, Family, Refusal, bearer, milliseconds
from receiver.sandbox.orders import (
    BOOLEAN,
    STRINGS,
    Order,
    OrderError,
    check,
    one_of,
    optional_link,
    required_object,
    required_text,
)
from receiver.sandbox.progress import Phase, Progress
from receiver.sandbox.purchase import Purchase

STATES = {
    Phase.WAITING: "pending",
    Phase.RUNNING: "processing",
    Phase.SUCCEEDED: "success",
    Phase.FAILED: "failed",
}

# Only sora-2 is described by the document; the inputs of other models pass as they are.
SORA_2_INPUT = {
    "mode": one_of("text-to-video", "image-to-video"),
    "duration": one_of(4, 8, 12),
    "aspect_ratio": one_of("landscape", "portrait"),
    "image_urls": STRINGS,
    "remove_watermark": BOOLEAN,
}

REFUSALS = {
    Refusal.UNAUTHORISED: (401, "Invalid or missing API Key"),
    Refusal.INVALID: (400, "Invalid request"),
    Refusal.REFUSED: (400, "Invalid request"),
    Refusal.CONFLICT: (400, "Invalid request"),
    Refusal.BUSY: (429, "Rate limit exceeded"),
    Refusal.UNKNOWN: (404, "Not found"),
}


def read_order(request: Request, body: JSON) -> Order:
    """Return the order in a request; the callback URL counts only with request_type=callback, which requires it."""
    model = str(request.path_params["model"])
    given = required_object(body, "input")
    prompt = required_text(given, "prompt", within="input.")
    check(body, {"request_type": one_of("async", "callback")})
    if model == "sora-2":
        check(given, SORA_2_INPUT, within="input.")
        # The document: only "official" is supported, always set it explicitly.
        if body.get("provider") != "official":
            raise OrderError("provider must be official")
    callback_url = None
    if body.get("request_type") == "callback":
        callback_url = optional_link(body, "callback_url")
        if callback_url is None:
            raise OrderError("Missing required field: callback_url")
    return Order(model, prompt, body, callback_url)


def new_id(_model: str) -> str:
    """Return an id like the documents' `task_abc123xyz`."""
    return f"task_{secrets.token_hex(12)}"


def requested_id(request: Request) -> str:
    """Return the task id in the query of a status request."""
    return request.query_params.get("taskId", "")


def created(purchase: Purchase) -> JSON:
    """Return the answer to a create request."""
    return _envelope({"taskId": purchase.id})


def status(purchase: Purchase, progress: Progress) -> JSON:
    """Return the status answer, which is also the body of the callback."""
    data: JSON = {"taskId": purchase.id, "state": STATES[progress.phase]}
    created_at = milliseconds(purchase.bought_at)
    if progress.phase is Phase.SUCCEEDED:
        data["resultJson"] = json.dumps({"resultUrls": [purchase.video_url]}, separators=(",", ":"))
        data["costTime"] = milliseconds(progress.finished_at or 0) - created_at
    if progress.phase is Phase.FAILED:
        data["failCode"] = "CONTENT_VIOLATION"
        data["failMsg"] = "Content violates safety guidelines"
    data["createTime"] = created_at
    if progress.finished_at is not None:
        data["completeTime"] = milliseconds(progress.finished_at)
    return _envelope(data)


def refusal(reason: Refusal, detail: str) -> tuple[int, JSON]:
    """Return the error envelope: the HTTP status is repeated as its code, the reason stands in data.error."""
    code, message = REFUSALS[reason]
    return code, {"code": code, "message": message, "data": {"error": detail}}


def _envelope(data: JSON) -> JSON:
    return {"code": 200, "message": "success", "data": data}


APIXO = Family(
    name="apixo",
    create_path="/api/v1/generateTask/{model:path}",
    status_path="/api/v1/statusTask/{model:path}",
    status_method="GET",
    credential=bearer,
    read_order=read_order,
    new_id=new_id,
    requested_id=requested_id,
    created=created,
    status=status,
    refusal=refusal,
    # The webhook page: up to 3 retries after anything but exactly HTTP 200; no interim callbacks are described.
    callbacks=CallbackStyle(body=status, retries=3),
)
