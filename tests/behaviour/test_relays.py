"""What relays send is followed to its end: results where they put them, refusals that cost nothing, bases as given."""

import pytest

from tests.behaviour.families import GATEWAY, KIE, gateway
from tests.behaviour.provider import Provider, says
from tests.behaviour.service import Service, Stage

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/v.mp4"
PICTURE = "https://cdn.example.com/start.png"
NO_CHANNEL = {
    "error": {"code": "model_not_found", "message": "分组 default 下模型 x 无可用渠道", "type": "new_api_error"},
}


async def test_a_result_in_the_upstream_s_own_record_is_found_and_the_history_tells_where(
    service: Service, provider: Provider
) -> None:
    record = gateway("g1", "SUCCESS", data={"id": "u1", "status": "completed", "video_url": URL})
    provider.on_create(GATEWAY, says(GATEWAY.accepted("g1")))
    provider.on_check(GATEWAY, says(record))
    task = await service.order(GATEWAY.order())
    await service.poll_when_due(task["id"])
    done = await service.until_state(task["id"], "succeeded")
    assert [(output["url"], output["kind"]) for output in done["outputs"]] == [(URL, "video")]
    [check] = await service.history(task["id"], "check")
    assert check["found_at"] == "data.video_url"
    assert await service.call_back(task["id"], {"code": "success", "data": record}) == "repeated"
    [delivery] = await service.history(task["id"], "delivery")
    assert (delivery["found_at"], delivery["outcome"]) == ("data.data.video_url", "repeated")


async def test_a_result_in_its_documented_place_needs_no_telling(service: Service, provider: Provider) -> None:
    provider.on_create(GATEWAY, says(GATEWAY.accepted("g1")))
    provider.on_check(GATEWAY, says(GATEWAY.done("g1", URL)))
    task = await service.order(GATEWAY.order())
    await service.poll_when_due(task["id"])
    await service.until_state(task["id"], "succeeded")
    [check] = await service.history(task["id"], "check")
    assert "found_at" not in check


async def test_an_input_that_is_handed_back_is_no_result(service: Service, provider: Provider) -> None:
    order = GATEWAY.order(validate=False)
    order["input"]["images"] = [PICTURE]
    provider.on_create(GATEWAY, says(GATEWAY.accepted("g1")))
    provider.on_check(GATEWAY, says(gateway("g1", "SUCCESS", images=[PICTURE])))
    task = await service.order(order)
    await service.poll_when_due(task["id"])
    waiting = await service.until_checked(task["id"])
    assert (waiting["state"], waiting["outputs"]) == ("running", [])
    assert await service.call_back(task["id"], gateway("g1", "SUCCESS", images=[PICTURE, URL])) == "applied"
    done = await service.task(task["id"])
    assert (done["state"], [output["url"] for output in done["outputs"]]) == ("succeeded", [URL])


async def test_orders_that_no_channel_takes_fail_at_once_and_hold_no_place(stage: Stage) -> None:
    refusals = [says(NO_CHANNEL, status=503)] * 4
    stage.provider.on_create(GATEWAY, *refusals, says(GATEWAY.accepted("g5")))
    async with stage.serve(GATEWAY_MAX_RUNNING="4") as service:
        for _ in range(4):
            task = await service.order(GATEWAY.order())
            assert (task["state"], task["error"]["code"]) == ("failed", "model_not_found")
        fifth = await service.order(GATEWAY.order())
        assert (fifth["state"], fifth["remote_id"]) == ("submitted", "g5")


async def test_an_order_into_an_empty_account_is_not_repeated(service: Service, provider: Provider) -> None:
    words = "You exceeded your current quota, please check your plan and billing details."
    error = {"error": {"message": words, "type": "insufficient_quota", "code": "insufficient_quota"}}
    provider.on_create(GATEWAY, says(error, status=429))
    task = await service.order(GATEWAY.order())
    assert (task["state"], task["error"]) == ("failed", {"code": "insufficient_quota", "message": words})
    await service.poll_after(3600)
    assert len(provider.bought()) == 1


async def test_what_an_upstream_may_have_taken_is_never_sent_again(service: Service, provider: Provider) -> None:
    error = {"error": {"message": "model not found", "type": "upstream_error", "code": "bad_response_status_code"}}
    provider.on_create(GATEWAY, says(error, status=503))
    task = await service.order(GATEWAY.order())
    assert task["state"] == "unconfirmed"
    await service.poll_after(3600)
    assert len(provider.bought()) == 1


async def test_too_often_is_tried_again(stage: Stage) -> None:
    busy = {"code": 430, "msg": "Your call frequency is too high. Please try again later.", "data": None}
    stage.provider.on_create(KIE, says(busy), says(KIE.accepted("k1")))
    async with stage.serve(KIE_API_KEY="the-key", KIE_BASE_URL=f"{stage.provider.url}/kie") as service:
        task = await service.order(KIE.order(validate=False))
        assert task["state"] == "queued"
        await service.poll_when_due(task["id"])
        taken = await service.until_state(task["id"], "submitted")
        assert taken["remote_id"] == "k1"


@pytest.mark.parametrize("end", ["/v1", "/v2/", "/v2/videos/generations", "/v1/chat/completions"])
async def test_a_base_url_with_a_version_or_an_endpoint_at_its_end_works(stage: Stage, end: str) -> None:
    stage.provider.on_create(GATEWAY, says(GATEWAY.accepted("g1")))
    stage.provider.on_check(GATEWAY, says({"status": "done", "video": {"url": "/v1/videos/g1/content"}}))
    async with stage.serve(GATEWAY_BASE_URL=f"{stage.provider.url}/gateway{end}") as service:
        task = await service.order(GATEWAY.order())
        assert (task["state"], task["remote_id"]) == ("submitted", "g1")
        await service.poll_when_due(task["id"])
        done = await service.until_state(task["id"], "succeeded")
        assert done["outputs"][0]["url"] == f"{stage.provider.url}/gateway/v1/videos/g1/content"
    assert [received.path for received in stage.provider.received] == [
        "/v2/videos/generations",
        "/v2/videos/generations/g1",
    ]
