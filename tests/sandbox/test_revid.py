"""RevidAPI's wire format, held against its document."""

import json
import re
from typing import Any

import pytest

from .conftest import Clock
from .rig import HEADERS, Buyer, id_in, order

pytestmark = pytest.mark.anyio


async def test_a_create_answer_is_an_id_of_32_hexadecimal_digits_in_an_envelope(shop: Buyer) -> None:
    body = (await shop.buy("revid", "A cat")).json()
    assert re.fullmatch("[0-9a-f]{32}", body["data"]["taskId"])
    assert body == {"code": 200, "msg": "success", "data": {"taskId": body["data"]["taskId"]}}


async def test_a_waiting_task_has_null_where_nothing_applies_yet(shop: Buyer) -> None:
    task_id = id_in(await shop.buy("revid", "A “cat”"))
    assert (await shop.ask("revid", task_id)).json() == {
        "code": 200,
        "msg": "success",
        "data": {
            "taskId": task_id,
            "model": "sora-2-text-to-video",
            "state": "waiting",
            "param": '{"model":"sora-2-text-to-video","input":{"prompt":"A “cat”","n_frames":"10"}}',
            "resultJson": None,
            "failCode": None,
            "failMsg": None,
            "costTime": None,
            "completeTime": None,
            "createTime": 1757584164490,
        },
    }


async def test_the_result_may_be_there_while_the_state_still_says_waiting(shop: Buyer, clock: Clock) -> None:
    task_id = id_in(await shop.buy("revid", "A cat"))
    clock.now += 2
    data = (await shop.ask("revid", task_id)).json()["data"]
    assert data["state"] == "waiting"
    assert json.loads(data["resultJson"]) == {"resultUrls": [f"http://sandbox.example/media/{task_id}.mp4"]}
    assert data["completeTime"] is None


async def test_a_finished_task_has_its_result_as_json_text_and_times_in_milliseconds(shop: Buyer, clock: Clock) -> None:
    task_id = id_in(await shop.buy("revid", "A cat [sandbox: after=185]"))
    clock.now += 200
    data = (await shop.ask("revid", task_id)).json()["data"]
    assert data["state"] == "success"
    assert data["resultJson"] == f'{{"resultUrls":["http://sandbox.example/media/{task_id}.mp4"]}}'
    assert (data["costTime"], data["completeTime"], data["createTime"]) == (185000, 1757584349490, 1757584164490)
    assert (data["failCode"], data["failMsg"]) == (None, None)


async def test_a_failed_task_comes_under_code_200_with_neither_result_nor_end(shop: Buyer, clock: Clock) -> None:
    task_id = id_in(await shop.buy("revid", "A cat [sandbox: result=fail]"))
    clock.now += 3
    body = (await shop.ask("revid", task_id)).json()
    assert body["code"] == 200
    data = body["data"]
    assert (data["state"], data["failCode"], data["failMsg"]) == ("fail", "500", "Internal server error")
    assert (data["resultJson"], data["costTime"], data["completeTime"]) == (None, None, None)


async def test_the_param_echoes_the_whole_request_with_its_callback_url(shop: Buyer) -> None:
    path, body = order("revid", "A cat [sandbox: after=60]", "https://caller.example/cb/token-1")
    task_id = id_in(await shop.client.post(path, json=body, headers=HEADERS["revid"]))
    assert json.loads((await shop.ask("revid", task_id)).json()["data"]["param"]) == body


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"input": {}}, "Missing required field: input.prompt"),
        ({"input": {"prompt": "x" * 10001}}, "10000"),
        ({"input": {"prompt": "A cat", "n_frames": 10}}, 'input.n_frames must be one of "10", "15"'),
        ({"input": {"prompt": "A cat", "remove_watermark": "true"}}, "input.remove_watermark must be true or false"),
        ({"input": "A cat"}, "input must be an object"),
        ({"model": 2}, "model must be a string"),
        ({"callBackUrl": "caller.example"}, "callBackUrl must be an http or https URL"),
        ({"input": {"prompt": "A cat [sandbox: speed=slow]"}}, "Unknown sandbox option 'speed'"),
    ],
)
async def test_an_order_against_the_document_is_refused_in_the_body_under_http_200(
    shop: Buyer, change: dict[str, Any], complaint: str
) -> None:
    path, body = order("revid", "A cat")
    answer = await shop.client.post(path, json=body | change, headers=HEADERS["revid"])
    assert (answer.status_code, answer.json()["code"], answer.json()["data"]) == (200, 422, None)
    assert complaint in answer.json()["msg"]
    assert await shop.purchases() == []


async def test_a_model_without_a_described_input_needs_no_prompt(shop: Buyer) -> None:
    body = {"model": "sora-watermark-remover", "input": {"video_url": "https://x.example/a.mp4"}}
    answer = await shop.client.post("/revid/paid/sora2/create", json=body, headers=HEADERS["revid"])
    assert answer.json()["code"] == 200


async def test_a_bearer_token_is_not_the_key_this_api_reads(shop: Buyer) -> None:
    path, body = order("revid", "A cat")
    for headers in ({}, {"Authorization": "Bearer any"}, {"x-api-key": ""}):
        answer = await shop.client.post(path, json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, 401)


async def test_a_task_that_nobody_bought_is_not_found_in_the_body(shop: Buyer) -> None:
    answer = await shop.ask("revid", "0" * 32)
    assert (answer.status_code, answer.json()["code"]) == (200, 404)


async def test_status_is_asked_by_post_only(shop: Buyer) -> None:
    answer = await shop.client.get("/revid/paid/get/taskid", params={"taskId": "1"}, headers=HEADERS["revid"])
    assert answer.status_code == 405
