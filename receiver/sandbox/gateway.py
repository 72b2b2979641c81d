"""The gateway format `/v2/videos/generations`: a bare status object, Unix seconds, progress as "93%", a notify_hook.

Written from the Sora2 image-to-video document and the format's status pages. The body of a notify_hook is documented
nowhere; gateways of this family post on each change, never twice, and either the status object or the same in an
envelope. The sandbox does the former, and the latter for sora-2-pro, so that both are met.
"""

import json
import secrets
import uuid

from starlette.requests import Request

from receiver.sandbox.family import JSON, CallbackStyle, Family, Refusal, bearer
from receiver.sandbox.orders import (
    BOOLEAN,
    STRINGS,
    Order,
    OrderError,
    check,
    one_of,
    optional_link,
    required_text,
)
from receiver.sandbox.progress import Phase, Progress
from receiver.sandbox.purchase import Purchase

STATUSES = {
    Phase.WAITING: "NOT_START",
    Phase.RUNNING: "IN_PROGRESS",
    Phase.SUCCEEDED: "SUCCESS",
    Phase.FAILED: "FAILURE",
}

# `images` is required on the image-to-video page only: without it the same endpoint makes a video from text.
BODY = {
    "images": STRINGS,
    "aspect_ratio": one_of("16:9", "9:16"),
    "hd": BOOLEAN,
    "duration": one_of("10", "15", "25", "4", "8", "12"),
    "watermark": BOOLEAN,
    "private": BOOLEAN,
}
SORA_MODELS = ("sora-2", "sora-2-pro")

# Observed: fail_reason may itself be JSON text. The document: work can fail after more than 90 % progress.
FAIL_REASON = json.dumps({"code": "content_violation", "message": "This content may violate our guardrails"})
FAIL_PROGRESS = "95%"

REFUSALS = {
    Refusal.UNAUTHORISED: (401, "authentication_error"),
    Refusal.INVALID: (400, "invalid_request_error"),
    Refusal.REFUSED: (400, "invalid_request_error"),
    Refusal.CONFLICT: (409, "invalid_request_error"),
    Refusal.BUSY: (429, "rate_limit_error"),
    Refusal.UNKNOWN: (404, "invalid_request_error"),
}
COMMON_ERROR = "Inpaint image must match the requested width and height"


def read_order(_request: Request, body: JSON) -> Order:
    """Return the order in a request; only sora-2-pro accepts hd and 25 seconds."""
    model = required_text(body, "model")
    prompt = required_text(body, "prompt")
    if model in SORA_MODELS:
        check(body, BODY)
    if model == "sora-2" and body.get("hd") is True:
        raise OrderError("hd is supported only by sora-2-pro")
    if model == "sora-2" and body.get("duration") == "25":
        raise OrderError("duration 25 is supported only by sora-2-pro")
    return Order(model, prompt, body, optional_link(body, "notify_hook"))


def new_id(model: str) -> str:
    """Return a UUID, or for sora-2-pro an id with a colon, which must be encoded in the path of a status request."""
    if model == "sora-2-pro":
        return f"{model}:task_01k{secrets.token_hex(12)}"
    return str(uuid.uuid4())


def requested_id(request: Request) -> str:
    """Return the task id in the path of a status request."""
    return str(request.path_params["id"])


def created(purchase: Purchase) -> JSON:
    """Return the answer to a create request: the id and nothing else."""
    return {"task_id": purchase.id}


def status(purchase: Purchase, progress: Progress) -> JSON:
    """Return the status object; 0 stands for a time that is not reached, and progress is "" before the start."""
    succeeded = progress.phase is Phase.SUCCEEDED
    return {
        "task_id": purchase.id,
        "platform": "openai",
        "action": "openai-videos",
        "status": STATUSES[progress.phase],
        "fail_reason": FAIL_REASON if progress.phase is Phase.FAILED else "",
        "submit_time": int(purchase.bought_at),
        "start_time": int(progress.started_at or 0),
        "finish_time": int(progress.finished_at or 0),
        "progress": _progress(progress),
        "data": {"output": purchase.video_url, "outputs": [purchase.video_url]} if succeeded else None,
        "search_item": "",
    }


def callback_body(purchase: Purchase, progress: Progress) -> JSON:
    """Return the body of a notify_hook: the status object, for sora-2-pro in an envelope with code "success"."""
    if purchase.model == "sora-2-pro":
        return {"code": "success", "message": "", "data": status(purchase, progress)}
    return status(purchase, progress)


def refusal(reason: Refusal, detail: str) -> tuple[int, JSON]:
    """Return the error object, in the style of OpenAI; a refusal on order is the document's common error."""
    http_status, kind = REFUSALS[reason]
    message = COMMON_ERROR if reason is Refusal.REFUSED else detail
    return http_status, {"error": {"message": message, "type": kind, "param": None, "code": None}}


def _progress(progress: Progress) -> str:
    if progress.phase is Phase.WAITING:
        return ""
    if progress.phase is Phase.FAILED:
        return FAIL_PROGRESS
    return f"{int(progress.share * 100)}%"


GATEWAY = Family(
    name="gateway",
    create_path="/v2/videos/generations",
    status_path="/v2/videos/generations/{id}",
    status_method="GET",
    credential=bearer,
    read_order=read_order,
    new_id=new_id,
    requested_id=requested_id,
    created=created,
    status=status,
    refusal=refusal,
    callbacks=CallbackStyle(body=callback_body, retries=0, each_change=True),
)
