"""Rivya's wire format, held against its documents."""

from typing import Any

import pytest

from .conftest import Clock
from .rig import HEADERS, Buyer, id_in, order

pytestmark = pytest.mark.anyio

PATH = "/rivya/api/v1/generations"


async def test_a_create_answer_is_the_queued_task_without_an_envelope(shop: Buyer) -> None:
    answer = await shop.buy("rivya", "A cat")
    body = answer.json()
    assert answer.status_code == 200
    assert body.pop("id").startswith("task_")
    assert body == {
        "status": "queued",
        "model": "sora-2",
        "reserved_credits": 6,
        "final_credits": 0,
        "created_at": "2025-09-11T09:49:24.490Z",
        "updated_at": "2025-09-11T09:49:24.490Z",
        "result": None,
        "error": None,
    }


async def test_a_finished_task_has_its_result_and_its_price(shop: Buyer, clock: Clock) -> None:
    task_id = id_in(await shop.buy("rivya", "A cat [sandbox: after=190]"))
    clock.now += 190
    url = f"http://sandbox.example/media/{task_id}.mp4"
    assert (await shop.ask("rivya", task_id)).json() == {
        "id": task_id,
        "status": "succeeded",
        "model": "sora-2",
        "reserved_credits": 6,
        "final_credits": 6,
        "created_at": "2025-09-11T09:49:24.490Z",
        "updated_at": "2025-09-11T09:52:34.490Z",
        "result": {"primary_url": url, "urls": [url]},
        "error": None,
    }


async def test_a_failed_task_costs_nothing_and_says_why(shop: Buyer, clock: Clock) -> None:
    task_id = id_in(await shop.buy("rivya", "A cat [sandbox: result=fail]"))
    clock.now += 3
    body = (await shop.ask("rivya", task_id)).json()
    assert (body["status"], body["final_credits"], body["result"]) == ("failed", 0, None)
    assert body["error"] == {"code": "generation_failed", "message": "Generation failed"}


async def test_a_task_in_work_is_processing(shop: Buyer, clock: Clock) -> None:
    task_id = id_in(await shop.buy("rivya", "A cat"))
    clock.now += 2
    assert (await shop.ask("rivya", task_id)).json()["status"] == "processing"


async def test_a_repeat_under_the_same_key_buys_nothing(shop: Buyer, clock: Clock) -> None:
    first = await shop.buy("rivya", "A cat", key="k1")
    clock.now += 3
    again = await shop.buy("rivya", "A cat", key="k1")
    assert id_in(again) == id_in(first)
    assert again.json()["status"] == "succeeded"
    assert len(await shop.purchases()) == 1


async def test_another_body_under_the_same_key_is_a_conflict(shop: Buyer) -> None:
    await shop.buy("rivya", "A cat", key="k1")
    answer = await shop.buy("rivya", "A dog", key="k1")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "idempotency_conflict"
    assert answer.json()["error"]["requestId"].startswith("req_")
    assert len(await shop.purchases()) == 1


async def test_the_same_body_under_another_key_or_none_is_bought_again(shop: Buyer) -> None:
    for key in ("k1", "k2", None, None):
        await shop.buy("rivya", "A cat", key=key)
    assert len(await shop.purchases()) == 4


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"prompt": None}, "Missing required field: prompt"),
        ({"prompt": "x" * 10001}, "10000"),
        ({"model": ""}, "Missing required field: model"),
        ({"params": []}, "params must be an object"),
        ({"params": {"n_frames": 10}}, 'params.n_frames must be one of "10", "15"'),
        ({"params": {"remove_watermark": True}}, 'params.remove_watermark must be one of "false", "true"'),
        ({"params": {"size": "high"}}, "params.size is not allowed for sora-2"),
        ({"params": {"referenceMediaItems": [{"url": "https://x.example/a.png"}]}}, "referenceMediaItems"),
        ({"client_request_id": "x" * 129}, "128"),
        ({"prompt": "A cat [sandbox: callback=never]"}, "allowed are drop"),
    ],
)
async def test_an_order_against_the_document_is_refused_by_field(
    shop: Buyer, change: dict[str, Any], complaint: str
) -> None:
    path, body = order("rivya", "A cat")
    answer = await shop.client.post(path, json=body | change, headers=HEADERS["rivya"])
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "validation_failed"
    assert complaint in answer.json()["error"]["message"]
    assert await shop.purchases() == []


async def test_the_documents_reference_file_request_for_the_pro_model_is_taken_at_its_price(shop: Buyer) -> None:
    item = {
        "url": "https://cdn.example.com/reference-image.png",
        "kind": "image",
        "name": "reference-image.png",
        "mimeType": "image/png",
    }
    params = {"size": "standard", "remove_watermark": "false", "upload_method": "s3", "referenceMediaItems": [item]}
    body = {"model": "sora-2-pro", "prompt": "A product reveal", "params": params}
    answer = await shop.client.post(PATH, json=body, headers=HEADERS["rivya"])
    assert answer.json()["reserved_credits"] == 75


async def test_a_request_without_a_key_is_not_let_in(shop: Buyer) -> None:
    for headers in ({}, {"Authorization": "Bearer "}, {"x-api-key": "any"}):
        answer = await shop.client.post(PATH, json=order("rivya", "A cat")[1], headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "api_key_missing")
    assert (await shop.client.get(f"{PATH}/task_1")).status_code == 401


async def test_a_task_that_nobody_bought_is_not_found(shop: Buyer) -> None:
    answer = await shop.ask("rivya", "task_nobody_bought")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_a_callback_url_means_nothing_here(shop: Buyer) -> None:
    path, body = order("rivya", "A cat [sandbox: after=0]")
    hooks = {"callback_url": "https://caller.example/cb/token-1"}
    answer = await shop.client.post(path, json=body | hooks, headers=HEADERS["rivya"])
    assert answer.status_code == 200
    listed = (await shop.purchases())[0]
    assert (listed["callback_url"], listed["callbacks"]) == (None, [])
    assert "token-1" not in str(listed)
