"""The gateway's wire format, held against its documents."""

import json
import uuid
from typing import Any
from urllib.parse import quote

import pytest

from .conftest import Clock
from .rig import HEADERS, Buyer, id_in, order

pytestmark = pytest.mark.anyio

PATH = "/gateway/v2/videos/generations"


async def test_a_create_answer_is_the_id_and_nothing_else(shop: Buyer) -> None:
    body = (await shop.buy("gateway", "A cat")).json()
    assert body == {"task_id": str(uuid.UUID(body["task_id"]))}


async def test_before_the_start_times_are_zero_and_progress_is_empty(shop: Buyer) -> None:
    task_id = id_in(await shop.buy("gateway", "A cat"))
    assert (await shop.ask("gateway", task_id)).json() == {
        "task_id": task_id,
        "platform": "openai",
        "action": "openai-videos",
        "status": "NOT_START",
        "fail_reason": "",
        "submit_time": 1757584164,
        "start_time": 0,
        "finish_time": 0,
        "progress": "",
        "data": None,
        "search_item": "",
    }


async def test_progress_is_a_text_in_per_cent_and_times_are_seconds(shop: Buyer, clock: Clock) -> None:
    task_id = id_in(await shop.buy("gateway", "A cat [sandbox: after=300]"))
    clock.now += 280
    body = (await shop.ask("gateway", task_id)).json()
    assert (body["status"], body["progress"], body["data"]) == ("IN_PROGRESS", "93%", None)
    assert (body["submit_time"], body["start_time"], body["finish_time"]) == (1757584164, 1757584264, 0)


async def test_a_finished_task_has_its_result_in_data(shop: Buyer, clock: Clock) -> None:
    task_id = id_in(await shop.buy("gateway", "A cat [sandbox: after=90]"))
    clock.now += 91
    body = (await shop.ask("gateway", task_id)).json()
    url = f"http://sandbox.example/media/{task_id}.mp4"
    assert (body["status"], body["progress"], body["fail_reason"]) == ("SUCCESS", "100%", "")
    assert body["data"] == {"output": url, "outputs": [url]}
    assert body["finish_time"] == 1757584254


async def test_work_fails_late_and_its_reason_is_json_in_a_text(shop: Buyer, clock: Clock) -> None:
    task_id = id_in(await shop.buy("gateway", "A cat [sandbox: result=fail]"))
    clock.now += 3
    body = (await shop.ask("gateway", task_id)).json()
    assert (body["status"], body["progress"], body["data"]) == ("FAILURE", "95%", None)
    assert json.loads(body["fail_reason"])["message"] == "This content may violate our guardrails"


async def test_the_pro_models_id_holds_a_colon_and_is_found_however_it_is_encoded(shop: Buyer) -> None:
    body = {"model": "sora-2-pro", "prompt": "A cat", "hd": True, "duration": "25"}
    task_id = id_in(await shop.client.post(PATH, json=body, headers=HEADERS["gateway"]))
    assert task_id.startswith("sora-2-pro:task_01k")
    for encoded in (task_id, quote(task_id, safe="")):
        assert (await shop.ask("gateway", encoded)).json()["task_id"] == task_id


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"prompt": ""}, "Missing required field: prompt"),
        ({"model": None}, "Missing required field: model"),
        ({"duration": 10}, "duration must be one of"),
        ({"duration": "25"}, "supported only by sora-2-pro"),
        ({"hd": True}, "supported only by sora-2-pro"),
        ({"hd": "true"}, "hd must be true or false"),
        ({"aspect_ratio": "landscape"}, 'aspect_ratio must be one of "16:9", "9:16"'),
        ({"images": [1]}, "images must be a list of strings"),
        ({"notify_hook": "caller.example"}, "notify_hook must be an http or https URL"),
        ({"prompt": "A cat [sandbox: submit=later]"}, "allowed are refuse, busy, break, mute"),
    ],
)
async def test_an_order_against_the_document_is_refused_by_field(
    shop: Buyer, change: dict[str, Any], complaint: str
) -> None:
    path, body = order("gateway", "A cat")
    answer = await shop.client.post(path, json=body | change, headers=HEADERS["gateway"])
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert complaint in error.pop("message")
    assert error == {"type": "invalid_request_error", "param": None, "code": None}
    assert await shop.purchases() == []


async def test_a_model_the_document_does_not_describe_takes_any_parameters(shop: Buyer) -> None:
    body = {"model": "doubao-seedance", "prompt": "A cat", "duration": 5}
    answer = await shop.client.post(PATH, json=body, headers=HEADERS["gateway"])
    assert answer.status_code == 200


async def test_a_request_without_a_key_is_not_let_in(shop: Buyer) -> None:
    answer = await shop.client.post(PATH, json=order("gateway", "A cat")[1])
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")


async def test_a_task_that_nobody_bought_is_not_found(shop: Buyer) -> None:
    assert (await shop.ask("gateway", str(uuid.uuid4()))).status_code == 404


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"prompt": NaN}', b"\xff", b"[" * 100_000])
async def test_a_body_that_is_no_json_object_is_refused_and_not_fatal(shop: Buyer, raw: bytes) -> None:
    answer = await shop.client.post(PATH, content=raw, headers=HEADERS["gateway"])
    assert answer.status_code == 400
    assert "request body is not" in answer.json()["error"]["message"]


async def test_a_prompt_with_half_a_surrogate_pair_can_be_bought_and_listed(shop: Buyer) -> None:
    raw = rb'{"model": "sora-2", "prompt": "A cat \ud83d"}'
    assert (await shop.client.post(PATH, content=raw, headers=HEADERS["gateway"])).status_code == 200
    assert (await shop.purchases())[0]["prompt"] == "A cat \ud83d"
