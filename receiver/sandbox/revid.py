"""RevidAPI: an envelope of code, msg and data, status by POST, JSON in JSON, a callback at the end.

Written from its Sora 2 document. `param` holds the whole create request, callback URL included, and the callback is
the status answer. States are waiting, success and fail only; what does not apply is null.
"""

import uuid
from collections.abc import Mapping

from starlette.requests import Request

from receiver.sandbox.family import JSON, CallbackStyle, Family, Refusal, json_text, milliseconds
from receiver.sandbox.orders import BOOLEAN, STRING, Order, check, one_of, optional_link, required_object, required_text
from receiver.sandbox.progress import Phase, Progress
from receiver.sandbox.purchase import Purchase

STATES = {
    Phase.WAITING: "waiting",
    Phase.RUNNING: "waiting",
    Phase.SUCCEEDED: "success",
    Phase.FAILED: "fail",
}

INPUT = {
    "aspect_ratio": one_of("portrait", "landscape"),
    "n_frames": one_of("10", "15"),
    "remove_watermark": BOOLEAN,
}
# The document prices these but describes no input of theirs, so theirs passes as it is.
UNDESCRIBED = ("sora-watermark-remover", "sora-2-pro-storyboard")

# The document does not say whether its codes are HTTP statuses. Credential and rate are HTTP matters here; what
# concerns the order comes under HTTP 200 with the code in the body, the way of the API this one was copied from.
REFUSALS = {
    Refusal.UNAUTHORISED: (401, 401, "Authentication failed, please check API Key"),
    Refusal.INVALID: (200, 422, "Parameter validation failed"),
    Refusal.REFUSED: (200, 402, "Insufficient account balance"),
    Refusal.CONFLICT: (200, 400, "Invalid request parameters"),
    Refusal.BUSY: (429, 429, "Request rate limit exceeded"),
    Refusal.UNKNOWN: (200, 404, "Resource not found"),
}


def credential(headers: Mapping[str, str]) -> str:
    """Return the key; the page speaks of a bearer token, but all its examples send `x-api-key`."""
    return headers.get("x-api-key", "").strip()


def read_order(_request: Request, body: JSON) -> Order:
    """Return the order in a request."""
    model = required_text(body, "model")
    given = required_object(body, "input")
    if model in UNDESCRIBED:
        check(given, {"prompt": STRING})
        prompt = given.get("prompt", "")
    else:
        prompt = required_text(given, "prompt", within="input.")
        check(given, INPUT, within="input.")
    return Order(model, prompt, body, optional_link(body, "callBackUrl"))


def new_id(_model: str) -> str:
    """Return an id of 32 hexadecimal digits, like the document's `281e5b0…f39b9`."""
    return uuid.uuid4().hex


def requested_id(request: Request) -> str:
    """Return the task id: a query parameter, although the request is a POST."""
    return request.query_params.get("taskId", "")


def created(purchase: Purchase) -> JSON:
    """Return the answer to a create request."""
    return _envelope({"taskId": purchase.id})


def status(purchase: Purchase, progress: Progress) -> JSON:
    """Return the status answer and callback body; the result is there before the state says success."""
    failed = progress.phase is Phase.FAILED
    created_at = milliseconds(purchase.bought_at)
    # The document's own example is a task still waiting, with its resultJson already filled.
    result = {"resultUrls": [purchase.video_url]} if progress.phase in {Phase.RUNNING, Phase.SUCCEEDED} else None
    # The document: cost and completion time only "when task is success".
    ended = progress.finished_at if progress.phase is Phase.SUCCEEDED else None
    completed_at = None if ended is None else milliseconds(ended)
    return _envelope(
        {
            "taskId": purchase.id,
            "model": purchase.model,
            "state": STATES[progress.phase],
            "param": json_text(purchase.order),
            "resultJson": None if result is None else json_text(result),
            "failCode": "500" if failed else None,
            "failMsg": "Internal server error" if failed else None,
            "costTime": None if completed_at is None else completed_at - created_at,
            "completeTime": completed_at,
            "createTime": created_at,
        }
    )


def refusal(reason: Refusal, detail: str) -> tuple[int, JSON]:
    """Return the error envelope, with the document's words and our reason behind them."""
    http_status, code, message = REFUSALS[reason]
    return http_status, {"code": code, "msg": f"{message}: {detail}", "data": None}


def _envelope(data: JSON) -> JSON:
    return {"code": 200, "msg": "success", "data": data}


REVID = Family(
    name="revid",
    create_path="/paid/sora2/create",
    status_path="/paid/get/taskid",
    status_method="POST",
    credential=credential,
    read_order=read_order,
    new_id=new_id,
    requested_id=requested_id,
    created=created,
    status=status,
    refusal=refusal,
    # Retries are not documented; those of its relatives are 3.
    callbacks=CallbackStyle(body=status, retries=3),
)
