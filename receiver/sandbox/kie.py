"""kie.ai's market: an envelope of code, msg (or message) and data, JSON in JSON, a callback at the end.

Written from kie's common pages and its market pages. Nearly everything comes under HTTP 200 with the true code in the
body. A failure has code 200 in the status answer and 501 in the callback, which is otherwise nearly the same. Veo has
shapes of its own, see `veo`.
"""

import uuid
from collections.abc import Callable
from functools import partial

from starlette.requests import Request

from receiver.sandbox.family import JSON, Family, Hook, No, bearer, json_text, milliseconds
from receiver.sandbox.kie_inputs import price, read_prompt
from receiver.sandbox.orders import Order, OrderError, optional_link, required_object, required_text
from receiver.sandbox.progress import Phase, Truth
from receiver.sandbox.purchase import Purchase
from receiver.sandbox.signing import kie_seal

ROOT = "kie"
VEO_MODELS = ("veo3", "veo3_fast", "veo3_lite")
# How much of the whole work is done when a waiting task is queuing.
QUEUING_FROM = 1 / 6

# HTTP status and code; the words of the documents where they give any, else the detail.
REFUSALS = {
    No.UNAUTHORISED: (200, 401, "You do not have access permissions"),
    No.INVALID: (200, 422, None),
    No.REFUSED: (200, 402, "The current credits are insufficient. Please top up."),
    No.CONFLICT: (200, 400, None),
    No.BUSY: (429, 429, "Your call frequency is too high. Please try again later."),
    No.UNKNOWN: (200, 422, "recordInfo is null"),
}
# These come without a data key, the others with data null.
WITHOUT_DATA = {No.UNAUTHORISED, No.BUSY}


def read_order(_request: Request, body: JSON) -> Order:
    """Check a create request; progress callbacks are documented by their name only and so never sent."""
    model = required_text(body, "model")
    if model in VEO_MODELS:
        raise OrderError("The model name you specified is not supported")
    prompt = read_prompt(model, required_object(body, "input"))
    optional_link(body, "progressCallBackUrl")
    return Order(model, prompt, body, optional_link(body, "callBackUrl"))


def new_id(_model: str) -> str:
    """32 hexadecimal digits, like the documents' `281e5b0…f39b9`."""
    return uuid.uuid4().hex


def asked_id(request: Request) -> str:
    """The task id in the query of a status request."""
    return request.query_params.get("taskId", "")


def created(purchase: Purchase) -> JSON:
    """The answer to a create request."""
    return {"code": 200, "msg": "success", "data": {"taskId": purchase.id}}


def status(purchase: Purchase, truth: Truth) -> JSON:
    """The status answer: texts are empty and times null where they do not apply; a failure comes under code 200."""
    failed = truth.phase is Phase.FAILED
    ended = truth.finished_at is not None
    data = {
        **_facts(purchase, truth),
        "resultJson": _result(purchase, truth),
        "failCode": "500" if failed else "",
        "failMsg": "Internal server error" if failed else "",
        "costTime": milliseconds(_seconds_of_work(truth)) if ended else None,
    }
    if not failed:
        data["progress"] = 0 if truth.phase is Phase.WAITING else int(truth.share * 100)
    if ended:
        data["creditsConsumed"] = 0 if failed else price(purchase.model)
    # `message` on the page about task details, `msg` on most others.
    return {"code": 200, "message": "success", "data": data}


def hook_body(left: Callable[[], int], purchase: Purchase, truth: Truth) -> JSON:
    """The body of the callback: cost in whole seconds, credits under other names, no resultJson after a failure."""
    failed = truth.phase is Phase.FAILED
    data = {
        **_facts(purchase, truth),
        "costTime": int(_seconds_of_work(truth)),
        "consumeCredits": 0 if failed else price(purchase.model),
        "remainedCredits": left(),
    }
    if failed:
        data |= {"failCode": "500", "failMsg": "Internal server error"}
        return {"code": 501, "data": data, "msg": "Playground task failed."}
    data["resultJson"] = _result(purchase, truth)
    return {"code": 200, "data": data, "msg": "Playground task completed successfully."}


def refusal(no: No, detail: str) -> tuple[int, JSON]:
    """The error envelope; only too many requests are an HTTP error, too."""
    http_status, code, words = REFUSALS[no]
    body: JSON = {"code": code, "msg": words or detail}
    return http_status, body if no in WITHOUT_DATA else {**body, "data": None}


def market(key: str | None, left: Callable[[], int]) -> Family:
    """The family, which signs its callbacks where there is a key and tells in them what is `left` on the account."""
    return Family(
        name="kie",
        create_path="/api/v1/jobs/createTask",
        status_path="/api/v1/jobs/recordInfo",
        status_method="GET",
        credential=bearer,
        read_order=read_order,
        new_id=new_id,
        asked_id=asked_id,
        created=created,
        status=status,
        refusal=refusal,
        # Market pages say nothing of retries; kie's other pages: stops after 3.
        hook=Hook(body=partial(hook_body, left), retries=3, seal=kie_seal, key=key),
        root=ROOT,
    )


def _facts(purchase: Purchase, truth: Truth) -> JSON:
    """What status answer and callback have in common; param is the whole request with its callback URL."""
    changed = truth.finished_at or truth.started_at or purchase.bought_at
    return {
        "taskId": purchase.id,
        "model": purchase.model,
        "state": _state(truth),
        "param": json_text(purchase.order),
        "completeTime": None if truth.finished_at is None else milliseconds(truth.finished_at),
        "createTime": milliseconds(purchase.bought_at),
        "updateTime": milliseconds(changed),
    }


def _state(truth: Truth) -> str:
    if truth.phase is Phase.WAITING:
        return "waiting" if truth.share < QUEUING_FROM else "queuing"
    return {Phase.RUNNING: "generating", Phase.SUCCEEDED: "success", Phase.FAILED: "fail"}[truth.phase]


def _result(purchase: Purchase, truth: Truth) -> str:
    """The result as JSON text, "" while there is none; Sora's has a second file that nobody ordered."""
    if truth.phase is not Phase.SUCCEEDED:
        return ""
    result = {"resultUrls": [purchase.video_url]}
    if purchase.model.startswith("sora-2"):
        result["resultWaterMarkUrls"] = [purchase.video_url.removesuffix(".mp4") + "-watermark.mp4"]
    return json_text(result)


def _seconds_of_work(truth: Truth) -> float:
    """The work without the time in the queue, as the documents' examples have it; 0 for a failure."""
    if truth.phase is not Phase.SUCCEEDED or truth.finished_at is None or truth.started_at is None:
        return 0.0
    return truth.finished_at - truth.started_at
