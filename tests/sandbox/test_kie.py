"""The wire format of kie's market, held against its documents."""

import base64
import hashlib
import hmac
import json
import re
from typing import Any

import pytest

from receiver.sandbox.app import Sandbox

from .conftest import Clock
from .rig import HEADERS, Buyer, Rig, Stage, id_in, order, unserved

pytestmark = pytest.mark.anyio

PATH = "/kie/api/v1/jobs/createTask"
PARAM = '{"model":"wan/2-7-text-to-video","input":{"prompt":"A “cat”","duration":5}}'


async def test_a_create_answer_is_an_id_of_32_hexadecimal_digits_in_an_envelope(shop: Buyer) -> None:
    body = (await shop.buy("kie", "A cat")).json()
    assert re.fullmatch("[0-9a-f]{32}", body["data"]["taskId"])
    assert body == {"code": 200, "msg": "success", "data": {"taskId": body["data"]["taskId"]}}


async def test_a_waiting_task_has_empty_texts_and_null_times(shop: Buyer) -> None:
    task_id = id_in(await shop.buy("kie", "A “cat”"))
    assert (await shop.ask("kie", task_id)).json() == {
        "code": 200,
        "message": "success",
        "data": {
            "taskId": task_id,
            "model": "wan/2-7-text-to-video",
            "state": "waiting",
            "param": PARAM,
            "completeTime": None,
            "createTime": 1757584164490,
            "updateTime": 1757584164490,
            "resultJson": "",
            "failCode": "",
            "failMsg": "",
            "costTime": None,
            "progress": 0,
        },
    }


async def test_a_task_waits_queues_and_then_makes_progress_in_per_cent(shop: Buyer, clock: Clock) -> None:
    task_id = id_in(await shop.buy("kie", "A cat [sandbox: after=300]"))
    told = []
    for _ in range(6):
        data = (await shop.ask("kie", task_id)).json()["data"]
        told.append((data["state"], data["progress"]))
        clock.now += 60
    assert told == [
        ("waiting", 0),
        ("queuing", 0),
        ("generating", 40),
        ("generating", 60),
        ("generating", 80),
        ("success", 100),
    ]


async def test_a_finished_task_has_its_result_as_json_text_and_its_price(shop: Buyer, clock: Clock) -> None:
    task_id = id_in(await shop.buy("kie", "A cat [sandbox: after=30]"))
    clock.now += 100
    data = (await shop.ask("kie", task_id)).json()["data"]
    assert (data["state"], data["progress"]) == ("success", 100)
    assert data["resultJson"] == f'{{"resultUrls":["http://sandbox.example/media/{task_id}.mp4"]}}'
    assert (data["createTime"], data["completeTime"]) == (1757584164490, 1757584194490)
    assert data["costTime"] == 20000  # without the time in the queue, so shorter than from creation to completion
    assert data["creditsConsumed"] == 100
    assert (data["failCode"], data["failMsg"]) == ("", "")


async def test_soras_result_has_files_beside_it_that_are_not_the_result(shop: Buyer, clock: Clock) -> None:
    body = {"model": "sora-2-text-to-video", "input": {"prompt": "A cat", "n_frames": "10"}}
    task_id = id_in(await shop.client.post(PATH, json=body, headers=HEADERS["kie"]))
    clock.now += 3
    result = json.loads((await shop.ask("kie", task_id)).json()["data"]["resultJson"])
    assert result["resultUrls"] == [f"http://sandbox.example/media/{task_id}.mp4"]
    (watermarked,) = result["resultWaterMarkUrls"]
    assert (await shop.client.get(watermarked)).headers["content-type"] == "video/mp4"


async def test_a_failed_task_has_code_200_in_the_status_answer(shop: Buyer, clock: Clock) -> None:
    task_id = id_in(await shop.buy("kie", "A cat [sandbox: result=fail]"))
    clock.now += 3
    body = (await shop.ask("kie", task_id)).json()
    assert (body["code"], body["message"]) == (200, "success")
    data = body["data"]
    assert (data["state"], data["failCode"], data["failMsg"]) == ("fail", "500", "Internal server error")
    assert (data["resultJson"], data["creditsConsumed"], data["completeTime"]) == ("", 0, 1757584167490)
    assert "progress" not in data


async def test_a_success_is_called_back_with_credits_under_other_names(rig: Rig) -> None:
    task_id = id_in(await rig.buy("kie", "A cat [sandbox: after=0.1]", rig.sink.link("t1")))
    (call,) = await rig.sink.until("t1")
    status = (await rig.ask("kie", task_id)).json()["data"]
    told = call.body["data"]
    assert (call.body["code"], call.body["msg"]) == (200, "Playground task completed successfully.")
    assert told.keys() - status.keys() == {"consumeCredits", "remainedCredits"}
    assert status.keys() - told.keys() == {"creditsConsumed", "failCode", "failMsg", "progress"}
    assert (told["consumeCredits"], told["remainedCredits"]) == (100, 2510330)
    assert told["resultJson"] == status["resultJson"]
    assert json.loads(told["param"])["callBackUrl"] == rig.sink.link("t1")


async def test_cost_is_in_seconds_in_the_callback(rig: Rig, clock: Clock) -> None:
    async with unserved(Sandbox(clock=clock)) as shop:
        await shop.buy("kie", "A cat [sandbox: after=0]", rig.sink.link("t1"))
        (call,) = await rig.sink.until("t1")
    assert call.body["data"]["costTime"] == 0
    assert call.body["data"]["completeTime"] == 1757584164490


async def test_a_failure_is_called_back_with_code_501_and_without_a_result(rig: Rig) -> None:
    await rig.buy("kie", "A cat [sandbox: result=fail after=0]", rig.sink.link("t1"))
    (call,) = await rig.sink.until("t1")
    data = call.body["data"]
    assert (call.body["code"], call.body["msg"]) == (501, "Playground task failed.")
    assert "resultJson" not in data
    assert (data["state"], data["failCode"], data["failMsg"]) == ("fail", "500", "Internal server error")
    assert (data["consumeCredits"], data["costTime"], data["remainedCredits"]) == (0, 0, 2510430)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model": "veo3_fast"}, "not supported"),
        ({"model": None}, "Missing required field: model"),
        ({"input": None}, "input must be an object"),
        ({"input": {}}, "Missing required field: input.prompt"),
        ({"input": {"prompt": "A cat", "duration": "5"}}, "input.duration must be a whole number from 2 to 15"),
        ({"input": {"prompt": "A cat", "duration": True}}, "input.duration must be a whole number"),
        ({"input": {"prompt": "A cat", "watermark": "false"}}, "input.watermark must be true or false"),
        ({"input": {"prompt": "x" * 5001}}, "input.prompt must not exceed 5000 characters"),
        ({"callBackUrl": "caller.example"}, "callBackUrl must be an http or https URL"),
        ({"progressCallBackUrl": 1}, "progressCallBackUrl must be an http or https URL"),
        ({"input": {"prompt": "A cat [sandbox: speed=slow]"}}, "Unknown sandbox option 'speed'"),
        ({"model": "kling-2.6/text-to-video", "input": {"prompt": "A cat"}}, "Missing required field: input.sound"),
        ({"model": "wan/2-6-text-to-video", "input": {"prompt": "A", "duration": 5}}, 'one of "5", "10", "15"'),
    ],
)
async def test_an_order_against_the_document_is_refused_in_the_body_under_http_200(
    shop: Buyer, change: dict[str, Any], complaint: str
) -> None:
    path, body = order("kie", "A cat")
    answer = await shop.client.post(path, json=body | change, headers=HEADERS["kie"])
    assert (answer.status_code, answer.json()["code"], answer.json()["data"]) == (200, 422, None)
    assert complaint in answer.json()["msg"]
    assert await shop.purchases() == []


@pytest.mark.parametrize(
    "body",
    [
        {"model": "bytedance/seedance-2", "input": {"reference_image_urls": ["https://x.example/a.png"]}},
        {"model": "somebody/new-model", "input": {"prompt": "A cat", "duration": "eight"}},
        {"model": "sora-watermark-remover", "input": {"video_url": "https://x.example/a.mp4"}},
    ],
)
async def test_an_input_needs_a_prompt_only_where_its_page_says_so(shop: Buyer, body: dict[str, Any]) -> None:
    answer = await shop.client.post(PATH, json=body, headers=HEADERS["kie"])
    assert answer.json()["code"] == 200


async def test_a_request_without_a_key_is_turned_away_under_http_200(shop: Buyer) -> None:
    for headers in ({}, {"Authorization": "Bearer "}, {"x-api-key": "any"}):
        answer = await shop.client.post(PATH, json=order("kie", "A cat")[1], headers=headers)
        assert answer.status_code == 200
        assert answer.json() == {"code": 401, "msg": "You do not have access permissions"}


async def test_a_task_that_nobody_bought_has_no_record(shop: Buyer) -> None:
    body = (await shop.ask("kie", "0" * 32)).json()
    assert body == {"code": 422, "msg": "recordInfo is null", "data": None}


async def test_the_twenty_first_order_within_ten_seconds_is_rejected_and_not_queued(shop: Buyer, clock: Clock) -> None:
    for number in range(20):
        family = "kie" if number % 2 else "kie-veo"
        assert (await shop.buy(family, "A cat")).json()["code"] == 200
    clock.now += 9.9
    for family in ("kie", "kie-veo"):
        answer = await shop.buy(family, "A cat")
        assert (answer.status_code, answer.json()["code"]) == (429, 429)
    assert (await shop.buy("gateway", "A cat")).status_code == 200
    clock.now += 0.1
    assert (await shop.buy("kie", "A cat")).json()["code"] == 200
    assert len(await shop.purchases()) == 22


async def test_how_many_orders_are_taken_can_be_set(clock: Clock) -> None:
    async with unserved(Sandbox(kie_creates=(1, 60.0), clock=clock)) as shop:
        assert [(await shop.buy("kie", "A cat")).status_code for _ in range(2)] == [200, 429]
        clock.now += 60
        assert (await shop.buy("kie", "A cat")).status_code == 200


@pytest.mark.parametrize("family", ["kie", "kie-veo"])
async def test_callbacks_are_signed_where_there_is_a_key(stage: Stage, family: str) -> None:
    async with stage.playing(Sandbox(kie_webhook_key="a-key", retry_factor=0.01)) as rig:
        task_id = id_in(await rig.buy(family, "A cat [sandbox: after=0]", rig.sink.link("t1")))
        (call,) = await rig.sink.until("t1")
    timestamp = call.headers["x-webhook-timestamp"]
    signature = hmac.new(b"a-key", f"{task_id}.{timestamp}".encode(), hashlib.sha256).digest()
    assert base64.b64decode(call.headers["x-webhook-signature"]) == signature


async def test_a_forger_signs_with_a_key_of_his_own(stage: Stage) -> None:
    async with stage.playing(Sandbox(kie_webhook_key="a-key", retry_factor=0.01)) as rig:
        task_id = id_in(await rig.buy("kie", "A cat [sandbox: callback=forged after=0]", rig.sink.link("token")))
        await rig.settled(task_id)
        forged, honest = rig.sink.calls
    assert (forged.token == "token", honest.token) == (False, "token")
    for call, right in ((forged, False), (honest, True)):
        signed = f"{task_id}.{call.headers['x-webhook-timestamp']}".encode()
        signature = base64.b64encode(hmac.new(b"a-key", signed, hashlib.sha256).digest()).decode()
        assert (call.headers["x-webhook-signature"] == signature) is right


async def test_callbacks_are_not_signed_without_a_key(rig: Rig) -> None:
    prompt = "A cat [sandbox: callback=forged after=0]"
    await rig.settled(id_in(await rig.buy("kie", prompt, rig.sink.link("token"))))
    names = [name for call in rig.sink.calls for name in call.headers]
    assert len(rig.sink.calls) == 2
    assert not [name for name in names if name.startswith(("x-webhook", "webhook"))]
