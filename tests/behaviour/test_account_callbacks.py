"""Interface, section 4: providers that know one webhook for a whole account (Rivya). The task is found by the id in the
body, and every final event is confirmed by a status request."""

import base64
import hashlib
import hmac
import json

import pytest

from receiver.core.links import Links
from receiver.tasks.inbox import MAX_HELD_DELIVERIES
from tests.behaviour.families import RIVYA, Body
from tests.behaviour.provider import after, says
from tests.behaviour.service import PUBLIC_URL, Service, Stage

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/out.mp4"
ID = "task_sora_2_example"
KEY = b"a signing key of 24 bytes"
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def address(account: str = "rivya") -> str:
    """The path of an account's webhook."""
    url = Links(["the-signing-key"], PUBLIC_URL).account_url(account)
    assert url is not None
    return url.removeprefix(PUBLIC_URL)


def event(generation: Body) -> Body:
    """An event as Rivya sends it; the place of the generation in it is not documented."""
    return {
        "id": "evt_1",
        "type": "generation.succeeded",
        "api_version": "2026-05-11",
        "data": {"generation": generation},
    }


async def outcome(service: Service, body: Body | bytes) -> str:
    answer = await service.deliver(address(), body)
    assert answer.status_code == 200, answer.text
    told: str = answer.json()["outcome"]
    return told


async def test_an_event_finds_its_task_by_the_generations_id_and_is_confirmed(service: Service) -> None:
    service.provider.on_create(RIVYA, says(RIVYA.accepted(ID)))
    service.provider.on_check(RIVYA, says(RIVYA.done(ID, URL)))
    task = await service.order(RIVYA.order())
    assert await outcome(service, event(RIVYA.done(ID, "https://evil.example.com/x.mp4"))) == "confirming"
    done = await service.until_state(task["id"], "succeeded")
    assert [output["url"] for output in done["outputs"]] == [URL]
    assert (done["settled_by"], done["evidence"]["token"]) == ("callback", False)
    assert done["evidence"]["confirmed_at"] is not None


async def test_a_lie_is_not_believed(service: Service) -> None:
    service.provider.on_create(RIVYA, says(RIVYA.accepted(ID)))
    service.provider.on_check(RIVYA, says(RIVYA.working(ID)))
    task = await service.order(RIVYA.order())
    assert await outcome(service, event(RIVYA.failed(ID))) == "confirming"
    await service.until_checked(task["id"])
    assert (await service.task(task["id"]))["state"] in ("submitted", "running")


async def test_an_event_that_comes_before_its_id_is_known_is_held_and_then_asked_about(service: Service) -> None:
    held: list[str] = []

    async def overtake(_request: object) -> None:
        held.append(await outcome(service, event(RIVYA.done(ID, URL))))

    service.provider.on_create(RIVYA, after(overtake, says(RIVYA.accepted(ID))))
    service.provider.on_check(RIVYA, says(RIVYA.done(ID, URL)))
    task = await service.order(RIVYA.order())
    assert held == ["held"]
    assert task["deliveries"] == 1
    await service.poll()
    done = await service.task(task["id"])
    assert (done["state"], done["settled_by"]) == ("succeeded", "callback")
    assert [step["outcome"] for step in await service.history(task["id"], "delivery")] == ["held"]


async def test_an_event_names_no_task_by_its_own_id(service: Service) -> None:
    service.provider.on_create(RIVYA, says(RIVYA.accepted("evt_1")))
    task = await service.order(RIVYA.order())
    await outcome(service, event(RIVYA.done("another", URL)))
    assert (await service.task(task["id"]))["state"] == "submitted"


@pytest.mark.parametrize(("body", "told"), [(b"{", "unreadable"), (b'{"id": "evt_1"}', "unreadable")])
async def test_what_cannot_be_read_is_kept_and_answered_200(service: Service, body: bytes, told: str) -> None:
    assert await outcome(service, body) == told
    assert service.database.rows("SELECT count(*) FROM delivery") == [(1,)]


async def test_news_of_others_tasks_never_keep_ours_out(service: Service) -> None:
    for number in range(MAX_HELD_DELIVERIES + 1):
        assert await outcome(service, event(RIVYA.done(f"of-others-{number}", URL))) == "held"
    assert service.database.rows("SELECT count(*) FROM delivery") == [(MAX_HELD_DELIVERIES,)]
    assert service.database.rows("SELECT remote_id FROM delivery WHERE remote_id = 'of-others-0'") == []


async def test_the_address_of_one_account_is_not_that_of_another(service: Service) -> None:
    token = address().rsplit("/", 1)[1]
    assert (await service.deliver(f"/callbacks/apixo/{token}", b"{}")).status_code == 404


def signed(body: bytes, seconds: int, key: bytes = KEY) -> dict[str, str]:
    text = b"msg_1." + str(seconds).encode() + b"." + body
    signature = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
    return {"webhook-id": "msg_1", "webhook-timestamp": str(seconds), "webhook-signature": f"v1,{signature}"}


@pytest.mark.row("C5")
async def test_a_signature_is_checked_where_there_is_one(stage: Stage) -> None:
    async with stage.serve(RIVYA_WEBHOOK_SECRET=SECRET) as service:
        service.provider.on_create(RIVYA, says(RIVYA.accepted(ID)))
        service.provider.on_check(RIVYA, says(RIVYA.done(ID, URL)))
        task = await service.order(RIVYA.order())
        body, now = json.dumps(event(RIVYA.done(ID, URL))).encode(), service.clock() // 1000
        forged = await service.stranger.post(address(), content=body, headers=signed(body, now, b"another key"))
        assert forged.status_code == 401
        assert (await service.task(task["id"]))["state"] == "submitted"
        true = await service.stranger.post(address(), content=body, headers=signed(body, now))
        assert true.json() == {"outcome": "confirming"}
        done = await service.until_state(task["id"], "succeeded")
        assert done["evidence"]["signature"] == "body"
