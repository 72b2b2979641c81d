"""A stored callback is read again the same way in as a new one: for mended adapters, corrected secrets, late ids."""

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from receiver.core.errors import Invalid, NotFound
from receiver.tasks.replay import Replayed, replay
from tests.behaviour.families import REVID, RIVYA
from tests.behaviour.provider import Provider, says
from tests.behaviour.service import Service, Stage
from tests.behaviour.test_account_callbacks import ID, KEY, SECRET, address, event

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/out.mp4"


async def read_again(service: Service, delivery: int) -> Replayed:
    return await replay(service.app.state.services, delivery)


async def deliveries(service: Service, task_id: str) -> list[dict[str, Any]]:
    return await service.history(task_id, "delivery")


def rewrite(service: Service, body: bytes) -> None:
    """Stand in for a mended adapter: what could not be read before can be read now."""
    with service.database.connected() as connection:
        connection.execute("UPDATE delivery SET body = ?", (body,))


async def test_what_could_not_be_read_and_now_can_be_settles_its_task(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, says(REVID.accepted("r1")))
    task = await service.order(REVID.order())
    assert await service.call_back(task["id"], b"?") == "unreadable"
    [unread] = await deliveries(service, task["id"])
    again = await read_again(service, unread["delivery"])
    assert (again.outcome, again.task_id, again.was) == ("unreadable", task["id"], "unreadable")

    rewrite(service, json.dumps(REVID.done("r1", URL)).encode())
    again = await read_again(service, unread["delivery"])
    assert (again.was, again.outcome) == ("unreadable", "applied")
    done = await service.task(task["id"])
    assert (done["state"], done["settled_by"], done["evidence"]["token"]) == ("succeeded", "callback", True)
    assert (done["deliveries"], len(await deliveries(service, task["id"]))) == (1, 1), "no delivery was invented"
    [kept] = await deliveries(service, task["id"])
    assert (kept["outcome"], kept["at"]) == ("unreadable", unread["at"]), "it stays as it came"
    notes = await service.history(task["id"], "note")
    assert [(note["delivery"], note["outcome"]) for note in notes] == [
        (again.delivery, "unreadable"),
        (again.delivery, "applied"),
    ]
    assert f"Delivery {again.delivery} was replayed: applied (first outcome: unreadable)." in notes[1]["text"]
    [*_, last] = await service.history(task["id"])
    assert last["kind"] == "move", "the note stands before what it changed"


async def test_a_final_task_hears_what_is_read_again_as_it_would_hear_a_new_callback(
    service: Service, provider: Provider
) -> None:
    provider.on_create(REVID, says(REVID.accepted("r1")))
    task = await service.order(REVID.order())
    assert await service.call_back(task["id"], REVID.working("r1")) == "applied"
    assert await service.call_back(task["id"], REVID.done("r1", URL)) == "applied"
    early, final = await deliveries(service, task["id"])
    assert (await read_again(service, final["delivery"])).outcome == "repeated"
    assert (await read_again(service, early["delivery"])).outcome == "late"
    assert (await service.task(task["id"]))["state"] == "succeeded"
    assert await service.moves(task["id"]) == ["submitting", "submitted", "running", "succeeded"]


async def test_another_tasks_news_is_not_applied_however_often_it_is_read(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, says(REVID.accepted("r1")))
    task = await service.order(REVID.order())
    assert await service.call_back(task["id"], REVID.done("r2", URL)) == "unmatched"
    [foreign] = await deliveries(service, task["id"])
    assert (await read_again(service, foreign["delivery"])).outcome == "unmatched"
    assert (await service.task(task["id"]))["state"] == "submitted"


def signed(service: Service, body: bytes) -> dict[str, str]:
    time = str(service.clock() // 1000)
    mac = hmac.new(KEY, b".".join((b"evt_1", time.encode(), body)), hashlib.sha256).digest()
    signature = base64.b64encode(mac).decode()
    return {"webhook-id": "evt_1", "webhook-timestamp": time, "webhook-signature": f"v1,{signature}"}


async def test_a_forged_one_is_believed_after_its_secret_was_corrected_however_old_it_is_by_then(stage: Stage) -> None:
    wrong = "whsec_" + base64.b64encode(b"another key of 24 bytes!").decode()
    body = json.dumps(event(RIVYA.done(ID, URL))).encode()
    stage.provider.on_create(RIVYA, says(RIVYA.accepted(ID)))
    async with stage.serve(RIVYA_WEBHOOK_SECRET=wrong) as service:
        task = await service.order(RIVYA.order())
        answer = await service.stranger.post(address(), content=body, headers=signed(service, body))
        assert answer.status_code == 401
        [(delivery, of)] = service.database.rows("SELECT id, task_id FROM delivery")
        assert of is None
        assert (await read_again(service, delivery)).outcome == "forged"
    stage.clock.advance(3600)
    stage.provider.on_check(RIVYA, says(RIVYA.done(ID, URL)))
    async with stage.serve(RIVYA_WEBHOOK_SECRET=SECRET) as service:
        again = await read_again(service, delivery)
        assert (again.was, again.outcome, again.task_id) == ("forged", "confirming", task["id"])
        done = await service.task(task["id"])
        assert (done["state"], done["settled_by"]) == ("succeeded", "callback"), "the provider was asked, and confirmed"
        assert done["evidence"] | {"confirmed_at": ""} == {"token": False, "signature": "body", "confirmed_at": ""}
        assert done["deliveries"] == len(await deliveries(service, task["id"])) == 1, "it is the task's now"
        assert (await read_again(service, delivery)).outcome == "repeated"
        assert (await service.task(task["id"]))["deliveries"] == 1


async def test_an_event_that_could_not_be_read_waits_for_its_id_once_it_can_be(service: Service) -> None:
    assert (await service.deliver(address(), b"?")).json() == {"outcome": "unreadable"}
    [(delivery,)] = service.database.rows("SELECT id FROM delivery")
    rewrite(service, json.dumps(event(RIVYA.done(ID, URL))).encode())
    again = await read_again(service, delivery)
    assert (again.outcome, again.task_id) == ("held", None)
    service.provider.on_create(RIVYA, says(RIVYA.accepted(ID)))
    service.provider.on_check(RIVYA, says(RIVYA.done(ID, URL)))
    task = await service.order(RIVYA.order())
    await service.poll()
    assert (await service.until_state(task["id"], "succeeded"))["settled_by"] == "callback"


async def test_what_is_not_there_or_not_configured_is_said(stage: Stage) -> None:
    async with stage.serve() as service:
        task = await service.order(REVID.order())
        await service.call_back(task["id"], b"?")
        [unread] = await deliveries(service, task["id"])
        with pytest.raises(NotFound, match="receiver show"):
            await read_again(service, unread["delivery"] + 1)
    async with stage.serve(REVID_API_KEY=None, REVID_BASE_URL=None) as service:
        with pytest.raises(Invalid, match="revid"):
            await read_again(service, unread["delivery"])
