"""A signature that does not cover the body (kie.ai) proves no more than that its sender knew the id at that time: the
status answer alone decides, whatever was captured and sent again."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.behaviour.families import KIE, Body
from tests.behaviour.provider import says
from tests.behaviour.service import Service, Stage, Task

pytestmark = [pytest.mark.anyio, pytest.mark.row("C5")]

ID, URL = "e989621f54392584b05867f87b160672", "https://cdn.example.com/out.mp4"
SECRET = "the-webhook-hmac-key"
OTHERS = {
    "failed": KIE.failed(ID),
    "urls": KIE.done(ID, "https://evil.example.com/x.mp4"),
    "cost": {**KIE.done(ID, URL), "data": {**KIE.done(ID, URL)["data"], "costTime": 1, "creditsConsumed": 99}},
    "empty": KIE.done(ID),
}
each_change = pytest.mark.parametrize("change", OTHERS)


@pytest.fixture
async def kie(stage: Stage) -> AsyncIterator[Service]:
    base = f"{stage.provider.url}/kie"
    async with stage.serve(KIE_API_KEY="the-key-of-kie", KIE_BASE_URL=base, KIE_WEBHOOK_SECRET=SECRET) as service:
        yield service


def signed(seconds: int, remote_id: str = ID) -> dict[str, str]:
    mac = hmac.new(SECRET.encode(), f"{remote_id}.{seconds}".encode(), hashlib.sha256)
    return {"X-Webhook-Timestamp": str(seconds), "X-Webhook-Signature": base64.b64encode(mac.digest()).decode()}


async def ordered(service: Service) -> Task:
    service.provider.on_create(KIE, says(KIE.accepted(ID)))
    service.provider.on_check(KIE, says(KIE.working(ID)))
    return await service.order(KIE.order())


async def send(service: Service, task: Task, body: Body, headers: dict[str, str]) -> httpx.Response:
    content = json.dumps(body).encode()
    return await service.stranger.post(service.link(task["id"]), content=content, headers=headers)


@each_change
async def test_a_captured_signature_over_another_body_settles_nothing(change: str, kie: Service) -> None:
    task = await ordered(kie)
    captured = signed(kie.clock() // 1000)
    answer = await send(kie, task, OTHERS[change], captured)
    assert (answer.status_code, answer.json()) == (200, {"outcome": "confirming"})
    after = await kie.until_checked(task["id"])
    assert (after["state"], after["outputs"], after["settled_by"]) == ("running", [], None)


@each_change
async def test_after_the_truth_a_captured_signature_over_another_body_changes_nothing(
    change: str, kie: Service
) -> None:
    task = await ordered(kie)
    kie.provider.on_check(KIE, says(KIE.done(ID, URL)))
    captured = signed(kie.clock() // 1000)
    assert (await send(kie, task, KIE.done(ID, URL), captured)).status_code == 200
    await kie.until_state(task["id"], "succeeded")
    kie.clock.advance(200)
    assert (await send(kie, task, OTHERS[change], captured)).status_code == 200
    await kie.poll_after(300)
    after = await kie.task(task["id"])
    assert (after["state"], [output["url"] for output in after["outputs"]]) == ("succeeded", [URL])
    assert after["credits"]["charged"] != 99
    assert after["evidence"]["signature"] == "id"


@pytest.mark.parametrize("seconds", [301, 600, -301])
async def test_a_replay_outside_of_the_window_is_refused_stored_and_asked_about(seconds: int, kie: Service) -> None:
    task = await ordered(kie)
    captured = signed(kie.clock() // 1000)
    kie.clock.advance(seconds)
    assert (await send(kie, task, KIE.failed(ID), captured)).status_code == 401
    after = await kie.until_checked(task["id"])
    assert (after["state"], after["deliveries"]) == ("running", 1)
    assert [step["outcome"] for step in await kie.history(task["id"], "delivery")] == ["forged"]


async def test_a_signature_of_another_task_is_refused(kie: Service) -> None:
    task = await ordered(kie)
    answer = await send(kie, task, KIE.failed(ID), signed(kie.clock() // 1000, "another-id"))
    assert answer.status_code == 401
