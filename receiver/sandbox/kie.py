"""kie.ai's market: an envelope of code, msg (or message) and data, JSON in JSON, a callback at the end.

Written from kie's common pages and its market pages. Nearly everything comes under HTTP 200 with the true code in the
body. A failure has code 200 in the status answer and 501 in the callback, which is otherwise nearly the same. Veo has
shapes of its own, see `veo`.
"""

import uuid
from collections.abc import Callable
from functools import partial

from starlette.requests import Request

from receiver.sandbox.family import JSON, CallbackStyle, Family, Refusal, bearer, json_text, milliseconds
from receiver.sandbox.kie_inputs import price, read_prompt
from receiver.sandbox.orders import Order, OrderError, optional_link, required_object, required_text
from receiver.sandbox.progress import Phase, Progress
from receiver.sandbox.purchase import Purchase
from receiver.sandbox.signing import sign_for_kie

ROOT = "kie"
VEO_MODELS = ("veo3", "veo3_fast", "veo3_lite")
# How much of the whole work is done when a waiting task is queuing.
QUEUING_FROM = 1 / 6

# HTTP status and code; the words of the documents where they give any, else the detail.
REFUSALS = {
    Refusal.UNAUTHORISED: (200, 401, "You do not have access permissions"),
    Refusal.INVALID: (200, 422, None),
    Refusal.REFUSED: (200, 402, "The current credits are insufficient. Please top up."),
    Refusal.CONFLICT: (200, 400, None),
    Refusal.BUSY: (429, 429, "Your call frequency is too high. Please try again later."),
    Refusal.UNKNOWN: (200, 422, "recordInfo is null"),
}
# These come without a data key, the others with data null.
WITHOUT_DATA = {Refusal.UNAUTHORISED, Refusal.BUSY}


def read_order(_request: Request, body: JSON) -> Order:
    """Return the order in a request; progress callbacks are documented by name only, so they are never sent."""
    model = required_text(body, "model")
    if model in VEO_MODELS:
        raise OrderError("The model name you specified is not supported")
    prompt = read_prompt(model, required_object(body, "input"))
    optional_link(body, "progressCallBackUrl")
    return Order(model, prompt, body, optional_link(body, "callBackUrl"))


def new_id(_model: str) -> str:
    """Return an id of 32 hexadecimal digits, like the documents' `281e5b0…f39b9`."""
    return uuid.uuid4().hex


def requested_id(request: Request) -> str:
    """Return the task id in the query of a status request."""
    return request.query_params.get("taskId", "")


def created(purchase: Purchase) -> JSON:
    """Return the answer to a create request."""
    return {"code": 200, "msg": "success", "data": {"taskId": purchase.id}}


def status(purchase: Purchase, progress: Progress) -> JSON:
    """Return the status answer; unused texts are empty and unused times null. A failure has code 200, too."""
    failed = progress.phase is Phase.FAILED
    ended = progress.finished_at is not None
    data = {
        **_facts(purchase, progress),
        "resultJson": _result(purchase, progress),
        "failCode": "500" if failed else "",
        "failMsg": "Internal server error" if failed else "",
        "costTime": milliseconds(_seconds_of_work(progress)) if ended else None,
    }
    if not failed:
        data["progress"] = 0 if progress.phase is Phase.WAITING else int(progress.share * 100)
    if ended:
        data["creditsConsumed"] = 0 if failed else price(purchase.model)
    # `message` on the page about task details, `msg` on most others.
    return {"code": 200, "message": "success", "data": data}


def callback_body(left: Callable[[], int], purchase: Purchase, progress: Progress) -> JSON:
    """Return the callback's body: cost in whole seconds, other names for credits, no resultJson after a failure."""
    failed = progress.phase is Phase.FAILED
    data = {
        **_facts(purchase, progress),
        "costTime": int(_seconds_of_work(progress)),
        "consumeCredits": 0 if failed else price(purchase.model),
        "remainedCredits": left(),
    }
    if failed:
        data |= {"failCode": "500", "failMsg": "Internal server error"}
        return {"code": 501, "data": data, "msg": "Playground task failed."}
    data["resultJson"] = _result(purchase, progress)
    return {"code": 200, "data": data, "msg": "Playground task completed successfully."}


def refusal(reason: Refusal, detail: str) -> tuple[int, JSON]:
    """Return the error envelope; only too many requests are an HTTP error, too."""
    http_status, code, words = REFUSALS[reason]
    body: JSON = {"code": code, "msg": words or detail}
    return http_status, body if reason in WITHOUT_DATA else {**body, "data": None}


def market(key: str | None, left: Callable[[], int]) -> Family:
    """Return the family. It signs its callbacks if there is a key, and reports what is `left` on the account."""
    return Family(
        name="kie",
        create_path="/api/v1/jobs/createTask",
        status_path="/api/v1/jobs/recordInfo",
        status_method="GET",
        credential=bearer,
        read_order=read_order,
        new_id=new_id,
        requested_id=requested_id,
        created=created,
        status=status,
        refusal=refusal,
        # Market pages say nothing of retries; kie's other pages: stops after 3.
        callbacks=CallbackStyle(body=partial(callback_body, left), retries=3, sign=sign_for_kie, key=key),
        root=ROOT,
    )


def _facts(purchase: Purchase, progress: Progress) -> JSON:
    """Return what status answer and callback have in common; param is the whole request with its callback URL."""
    changed = progress.finished_at or progress.started_at or purchase.bought_at
    return {
        "taskId": purchase.id,
        "model": purchase.model,
        "state": _state(progress),
        "param": json_text(purchase.order),
        "completeTime": None if progress.finished_at is None else milliseconds(progress.finished_at),
        "createTime": milliseconds(purchase.bought_at),
        "updateTime": milliseconds(changed),
    }


def _state(progress: Progress) -> str:
    if progress.phase is Phase.WAITING:
        return "waiting" if progress.share < QUEUING_FROM else "queuing"
    return {Phase.RUNNING: "generating", Phase.SUCCEEDED: "success", Phase.FAILED: "fail"}[progress.phase]


def _result(purchase: Purchase, progress: Progress) -> str:
    """Return the result as JSON text, "" while there is none; Sora's has a second file that nobody ordered."""
    if progress.phase is not Phase.SUCCEEDED:
        return ""
    result = {"resultUrls": [purchase.video_url]}
    if purchase.model.startswith("sora-2"):
        result["resultWaterMarkUrls"] = [purchase.video_url.removesuffix(".mp4") + "-watermark.mp4"]
    return json_text(result)


def _seconds_of_work(progress: Progress) -> float:
    """Return the work without the time in the queue, as the documents' examples have it; 0 for a failure."""
    if progress.phase is not Phase.SUCCEEDED or progress.finished_at is None or progress.started_at is None:
        return 0.0
    return progress.finished_at - progress.started_at
