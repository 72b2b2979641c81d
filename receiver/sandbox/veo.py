"""kie.ai's Veo 3.1: a flat request, a successFlag instead of a state, naive times, a callback of yet another shape.

Written from kie's Veo pages; the account, the key and the words of errors are those of `kie`. The callback has no
state at all: its code alone tells how the work ended.
"""

import secrets
from datetime import UTC, datetime

from starlette.requests import Request

from receiver.sandbox.family import JSON, CallbackStyle, Family, bearer, json_text
from receiver.sandbox.kie import ROOT, VEO_MODELS, created, refusal, requested_id
from receiver.sandbox.orders import (
    BOOLEAN,
    STRING,
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
from receiver.sandbox.signing import sign_for_kie

BODY = {
    "imageUrls": STRINGS,
    "generationType": one_of("TEXT_2_VIDEO", "FIRST_AND_LAST_FRAMES_2_VIDEO", "REFERENCE_2_VIDEO"),
    "aspectRatio": one_of("16:9", "9:16", "Auto"),
    "resolution": one_of("720p", "1080p", "4k"),
    "duration": one_of(4, 6, 8),
    "watermark": STRING,
    "enableFallback": BOOLEAN,
}

# 0 is at work, 1 done, 2 failed; 3 is a failure of the model behind this API.
FLAGS = {Phase.WAITING: 0, Phase.RUNNING: 0, Phase.SUCCEEDED: 1, Phase.FAILED: 3}
FAIL_CODE = 400
FAIL_WORDS = "Your prompt was flagged by Website as violating content policies."


def read_order(_request: Request, body: JSON) -> Order:
    """Return the order in a request; the default model is the fast one."""
    model = body.get("model", "veo3_fast")
    if model not in VEO_MODELS:
        raise OrderError("The model name you specified is not supported")
    prompt = required_text(body, "prompt")
    check(body, BODY)
    return Order(model, prompt, body, optional_link(body, "callBackUrl"))


def new_id(_model: str) -> str:
    """Return an id like the documents' `veo_task_abcdef123456`."""
    return f"veo_task_{secrets.token_hex(6)}"


def status(purchase: Purchase, progress: Progress) -> JSON:
    """Return the status answer; times are text without a zone, here UTC."""
    failed = progress.phase is Phase.FAILED
    succeeded = progress.phase is Phase.SUCCEEDED
    data = {
        "taskId": purchase.id,
        "paramJson": json_text(purchase.order),
        "completeTime": None if progress.finished_at is None else _naive(progress.finished_at),
        "response": {"taskId": purchase.id, **_files(purchase)} if succeeded else None,
        "successFlag": FLAGS[progress.phase],
        "errorCode": FAIL_CODE if failed else None,
        "errorMessage": FAIL_WORDS if failed else "",
        "createTime": _naive(purchase.bought_at),
        "fallbackFlag": False,
    }
    return {"code": 200, "msg": "success", "data": data}


def callback_body(purchase: Purchase, progress: Progress) -> JSON:
    """Return the body of the callback, after a failure with hardly more than the id."""
    if progress.phase is Phase.FAILED:
        return {"code": FAIL_CODE, "msg": FAIL_WORDS, "data": {"taskId": purchase.id, "fallbackFlag": False}}
    # The document's own example has this escape before the callback URL, with which the text is no JSON any more.
    prompt_json = json_text(purchase.order).replace('"callBackUrl":"', '"callBackUrl":"\\')
    data = {"taskId": purchase.id, "promptJson": prompt_json, "info": _files(purchase), "fallbackFlag": False}
    return {"code": 200, "msg": "Veo3.1 video generated successfully.", "data": data}


def veo(key: str | None) -> Family:
    """Return the family, which signs its callbacks where there is a key."""
    return Family(
        name="kie-veo",
        create_path="/api/v1/veo/generate",
        status_path="/api/v1/veo/record-info",
        status_method="GET",
        credential=bearer,
        read_order=read_order,
        new_id=new_id,
        requested_id=requested_id,
        created=created,
        status=status,
        refusal=refusal,
        # The Veo page: stops after 3 retries.
        callbacks=CallbackStyle(body=callback_body, retries=3, sign=sign_for_kie, key=key),
        root=ROOT,
    )


def _files(purchase: Purchase) -> JSON:
    """Return the result, with the original beside it that nobody ordered."""
    return {
        "resultUrls": [purchase.video_url],
        "originUrls": [purchase.video_url.removesuffix(".mp4") + "-original.mp4"],
        "resolution": purchase.order.get("resolution", "720p"),
    }


def _naive(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
