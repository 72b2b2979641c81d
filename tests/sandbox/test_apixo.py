"""APIXO's wire format, held against its documents."""

from typing import Any

import pytest

from .conftest import Clock
from .rig import HEADERS, Buyer, id_in, order

pytestmark = pytest.mark.anyio


async def test_a_create_answer_is_the_id_in_an_envelope(shop: Buyer) -> None:
    answer = await shop.buy("apixo", "A cat")
    task_id = answer.json()["data"]["taskId"]
    assert answer.json() == {"code": 200, "message": "success", "data": {"taskId": task_id}}
    assert task_id.startswith("task_")


async def test_what_does_not_apply_yet_is_absent_rather_than_null(shop: Buyer, clock: Clock) -> None:
    task_id = id_in(await shop.buy("apixo", "A cat"))
    pending = {"taskId": task_id, "state": "pending", "createTime": 1757584164490}
    assert (await shop.ask("apixo", task_id)).json() == {"code": 200, "message": "success", "data": pending}
    clock.now += 1.5
    assert (await shop.ask("apixo", task_id)).json()["data"] == pending | {"state": "processing"}


async def test_a_finished_task_has_its_result_as_json_text_and_times_in_milliseconds(shop: Buyer, clock: Clock) -> None:
    task_id = id_in(await shop.buy("apixo", "A cat [sandbox: after=12.5]"))
    clock.now += 100
    assert (await shop.ask("apixo", task_id)).json()["data"] == {
        "taskId": task_id,
        "state": "success",
        "resultJson": f'{{"resultUrls":["http://sandbox.example/media/{task_id}.mp4"]}}',
        "costTime": 12500,
        "createTime": 1757584164490,
        "completeTime": 1757584176990,
    }


async def test_a_failed_task_still_comes_under_code_200_and_message_success(shop: Buyer, clock: Clock) -> None:
    task_id = id_in(await shop.buy("apixo", "A cat [sandbox: result=fail after=5]"))
    clock.now += 5
    assert (await shop.ask("apixo", task_id)).json() == {
        "code": 200,
        "message": "success",
        "data": {
            "taskId": task_id,
            "state": "failed",
            "failCode": "CONTENT_VIOLATION",
            "failMsg": "Content violates safety guidelines",
            "createTime": 1757584164490,
            "completeTime": 1757584169490,
        },
    }


async def test_an_order_without_a_prompt_is_refused_in_the_documents_words(shop: Buyer) -> None:
    path, body = order("apixo", "")
    answer = await shop.client.post(path, json=body, headers=HEADERS["apixo"])
    assert answer.status_code == 400
    assert answer.json() == {
        "code": 400,
        "message": "Invalid request",
        "data": {"error": "Missing required field: input.prompt"},
    }


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"provider": "auto"}, "provider must be official"),
        ({"request_type": "webhook"}, 'request_type must be one of "async", "callback"'),
        ({"request_type": "callback"}, "Missing required field: callback_url"),
        ({"request_type": "callback", "callback_url": "ftp://caller.example/cb"}, "must be an http or https URL"),
        ({"input": {"prompt": "A cat", "duration": "8"}}, "input.duration must be one of 4, 8, 12"),
        ({"input": {"prompt": "A cat", "duration": 8.0}}, "input.duration must be one of 4, 8, 12"),
        ({"input": {"prompt": "A cat", "remove_watermark": "true"}}, "input.remove_watermark must be true or false"),
        ({"input": {"prompt": "A cat", "image_urls": "https://x.example/a.png"}}, "a list of strings"),
        ({"input": {"prompt": "A cat [sandbox: after=soon]"}}, "seconds from 0 to 3600"),
    ],
)
async def test_an_order_against_the_document_is_refused_by_field(
    shop: Buyer, change: dict[str, Any], complaint: str
) -> None:
    path, body = order("apixo", "A cat")
    answer = await shop.client.post(path, json=body | change, headers=HEADERS["apixo"])
    assert (answer.status_code, answer.json()["code"]) == (400, 400)
    assert complaint in answer.json()["data"]["error"]
    assert await shop.purchases() == []


async def test_a_callback_url_counts_only_when_callbacks_are_asked_for(shop: Buyer) -> None:
    path, body = order("apixo", "A cat")
    await shop.client.post(path, json=body | {"callback_url": "https://caller.example/cb"}, headers=HEADERS["apixo"])
    assert (await shop.purchases())[0]["callback_url"] is None


async def test_a_task_is_known_only_under_its_own_model(shop: Buyer) -> None:
    task_id = id_in(await shop.buy("apixo", "A cat"))
    answer = await shop.ask("apixo", task_id, model="veo-3")
    assert (answer.status_code, answer.json()["code"]) == (404, 404)
    assert (await shop.ask("apixo", task_id)).status_code == 200


async def test_a_model_the_document_does_not_describe_takes_any_input(shop: Buyer) -> None:
    body = {"input": {"prompt": "A cat", "duration": "10"}}
    path = "/apixo/api/v1/generateTask/vendor/veo-3"
    task_id = id_in(await shop.client.post(path, json=body, headers=HEADERS["apixo"]))
    assert (await shop.ask("apixo", task_id, model="vendor/veo-3")).json()["data"]["state"] == "pending"


async def test_a_request_without_a_key_is_not_let_in(shop: Buyer) -> None:
    path, body = order("apixo", "A cat")
    answer = await shop.client.post(path, json=body)
    assert answer.status_code == 401
    assert (answer.json()["code"], answer.json()["message"]) == (401, "Invalid or missing API Key")
