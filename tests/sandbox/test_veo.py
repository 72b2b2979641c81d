"""The wire format of kie's Veo, held against its documents."""

import json
import re
from typing import Any

import pytest

from .conftest import Clock
from .rig import HEADERS, Buyer, Rig, id_in, order

pytestmark = pytest.mark.anyio

PATH = "/kie/api/v1/veo/generate"


async def test_a_create_answer_is_an_id_in_an_envelope(shop: Buyer) -> None:
    body = (await shop.buy("kie-veo", "A cat")).json()
    assert re.fullmatch("veo_task_[0-9a-f]{12}", body["data"]["taskId"])
    assert body == {"code": 200, "msg": "success", "data": {"taskId": body["data"]["taskId"]}}


async def test_a_task_at_work_has_flag_0_and_a_time_without_a_zone(shop: Buyer) -> None:
    task_id = id_in(await shop.buy("kie-veo", "A cat"))
    assert (await shop.ask("kie-veo", task_id)).json() == {
        "code": 200,
        "msg": "success",
        "data": {
            "taskId": task_id,
            "paramJson": '{"model":"veo3_fast","prompt":"A cat","duration":8}',
            "completeTime": None,
            "response": None,
            "successFlag": 0,
            "errorCode": None,
            "errorMessage": "",
            "createTime": "2025-09-11 09:49:24",
            "fallbackFlag": False,
        },
    }


async def test_a_finished_task_has_flag_1_and_its_result_in_response(shop: Buyer, clock: Clock) -> None:
    task_id = id_in(await shop.buy("kie-veo", "A cat [sandbox: after=60]"))
    clock.now += 60
    data = (await shop.ask("kie-veo", task_id)).json()["data"]
    assert (data["successFlag"], data["completeTime"]) == (1, "2025-09-11 09:50:24")
    assert data["response"] == {
        "taskId": task_id,
        "resultUrls": [f"http://sandbox.example/media/{task_id}.mp4"],
        "originUrls": [f"http://sandbox.example/media/{task_id}-original.mp4"],
        "resolution": "720p",
    }


async def test_a_failed_task_has_flag_3_under_code_200(shop: Buyer, clock: Clock) -> None:
    task_id = id_in(await shop.buy("kie-veo", "A cat [sandbox: result=fail]"))
    clock.now += 3
    body = (await shop.ask("kie-veo", task_id)).json()
    assert (body["code"], body["data"]["successFlag"], body["data"]["response"]) == (200, 3, None)
    assert (body["data"]["errorCode"], "flagged" in body["data"]["errorMessage"]) == (400, True)


async def test_a_success_is_called_back_in_a_shape_of_its_own(rig: Rig) -> None:
    task_id = id_in(await rig.buy("kie-veo", "A cat [sandbox: after=0]", rig.sink.link("t1")))
    (call,) = await rig.sink.until("t1")
    data = call.body["data"]
    response = (await rig.ask("kie-veo", task_id)).json()["data"]["response"]
    assert call.body["code"] == 200
    assert data.keys() == {"taskId", "promptJson", "info", "fallbackFlag"}
    assert data["taskId"] == task_id
    assert data["info"] == {key: value for key, value in response.items() if key != "taskId"}


async def test_the_echo_of_the_request_is_broken_by_its_callback_url(rig: Rig) -> None:
    await rig.buy("kie-veo", "A cat [sandbox: after=0]", rig.sink.link("t1"))
    (call,) = await rig.sink.until("t1")
    echo = call.body["data"]["promptJson"]
    assert f'"callBackUrl":"\\{rig.sink.link("t1")}"' in echo
    with pytest.raises(json.JSONDecodeError):
        json.loads(echo)


async def test_a_failure_is_called_back_with_its_code_alone(rig: Rig) -> None:
    task_id = id_in(await rig.buy("kie-veo", "A cat [sandbox: result=fail after=0]", rig.sink.link("t1")))
    (call,) = await rig.sink.until("t1")
    assert call.body == {
        "code": 400,
        "msg": "Your prompt was flagged by Website as violating content policies.",
        "data": {"taskId": task_id, "fallbackFlag": False},
    }


async def test_without_a_model_it_is_the_fast_one(shop: Buyer) -> None:
    await shop.client.post(PATH, json={"prompt": "A cat"}, headers=HEADERS["kie"])
    assert (await shop.purchases())[0]["model"] == "veo3_fast"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model": "veo3.1"}, "not supported"),
        ({"model": []}, "not supported"),
        ({"prompt": ""}, "Missing required field: prompt"),
        ({"duration": "8"}, "duration must be one of 4, 6, 8"),
        ({"aspectRatio": "1:1"}, 'aspectRatio must be one of "16:9", "9:16", "Auto"'),
        ({"imageUrls": "https://x.example/a.png"}, "imageUrls must be a list of strings"),
        ({"watermark": True}, "watermark must be a string"),
        ({"callBackUrl": "caller.example"}, "callBackUrl must be an http or https URL"),
    ],
)
async def test_an_order_against_the_document_is_refused_in_the_body_under_http_200(
    shop: Buyer, change: dict[str, Any], complaint: str
) -> None:
    path, body = order("kie-veo", "A cat")
    answer = await shop.client.post(path, json=body | change, headers=HEADERS["kie"])
    assert (answer.status_code, answer.json()["code"]) == (200, 422)
    assert complaint in answer.json()["msg"]
    assert await shop.purchases() == []


async def test_market_and_veo_do_not_know_each_others_tasks(shop: Buyer) -> None:
    task_id = id_in(await shop.buy("kie-veo", "A cat"))
    assert (await shop.ask("kie", task_id)).json()["code"] == 422
    assert (await shop.ask("kie-veo", task_id)).json()["code"] == 200
