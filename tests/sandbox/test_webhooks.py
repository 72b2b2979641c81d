"""Rivya's webhooks: how endpoints are managed, and what is posted to them."""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.sandbox.app import Sandbox
from receiver.sandbox.handlers import EARLY_SECONDS
from receiver.sandbox.plan import FORGED_VIDEO, LYING_VIDEO

from .conftest import Clock
from .rig import HEADERS, Buyer, Call, Rig, id_in, unserved

pytestmark = pytest.mark.anyio

PATH = "/rivya/api/v1/webhooks"
URL = "https://receiver.example/callbacks/rivya/token-1"
BODY = {"name": "receiver", "url": URL, "event_types": ["generation.succeeded", "generation.failed"]}


async def manage(shop: Buyer, method: str, path: str = "", body: Any = None) -> httpx.Response:
    return await shop.client.request(method, f"{PATH}{path}", json=body, headers=HEADERS["rivya"])


def is_signed(call: Call, secret: str) -> bool:
    """Verify a call as the specification of Standard Webhooks has it."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{call.headers['webhook-id']}.{call.headers['webhook-timestamp']}.".encode() + call.raw
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return call.headers["webhook-signature"] == f"v1,{expected}"


async def test_a_new_endpoint_is_shown_with_its_secret_and_never_again(shop: Buyer) -> None:
    created = (await manage(shop, "POST", body=BODY)).json()
    secret, endpoint_id = created.pop("signing_secret"), created["id"]
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 24
    assert endpoint_id.startswith("whend_")
    assert created == {
        "id": endpoint_id,
        "object": "webhook_endpoint",
        **BODY,
        "status": "active",
        "secret_preview": f"{secret[:8]}...{secret[-6:]}",
        "last_success_at": None,
        "last_failure_at": None,
        "failure_count": 0,
        "created_at": "2025-09-11T09:49:24.490Z",
        "updated_at": "2025-09-11T09:49:24.490Z",
        "disabled_at": None,
        "revoked_at": None,
    }
    assert (await manage(shop, "GET", f"/{endpoint_id}")).json() == created
    listed = (await manage(shop, "GET")).json()
    assert listed == {"object": "list", "data": [created]}
    assert secret not in (await shop.client.get("/ledger")).text


async def test_an_endpoint_can_be_changed_and_disabled(shop: Buyer, clock: Clock) -> None:
    created = await shop.register(URL)
    created.pop("signing_secret")
    clock.now += 10
    change = {"name": "other", "event_types": ["generation.failed"], "status": "disabled"}
    changed = (await manage(shop, "PATCH", f"/{created['id']}", change)).json()
    now = "2025-09-11T09:49:34.490Z"
    assert changed == created | change | {"updated_at": now, "disabled_at": now}
    again = (await manage(shop, "PATCH", f"/{created['id']}", {"status": "active", "url": f"{URL}-2"})).json()
    assert (again["status"], again["disabled_at"], again["url"]) == ("active", None, f"{URL}-2")


async def test_a_removed_endpoint_is_gone(shop: Buyer) -> None:
    endpoint = await shop.register(URL)
    removed = (await manage(shop, "DELETE", f"/{endpoint['id']}")).json()
    assert (removed["id"], removed["status"]) == (endpoint["id"], "revoked")
    assert removed["revoked_at"]
    assert (await manage(shop, "GET")).json()["data"] == []
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/rotate-secret")):
        answer = await manage(shop, method, f"/{endpoint['id']}{path}", {})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("change", "code", "complaint"),
    [
        ({"name": ""}, "validation_failed", "Missing required field: name"),
        ({"event_types": []}, "validation_failed", "event_types must be a list of some of generation.succeeded"),
        ({"event_types": ["generation.started"]}, "validation_failed", "event_types"),
        ({"event_types": "generation.failed"}, "validation_failed", "event_types"),
        ({"url": None}, "webhook_url_rejected", "url"),
        ({"url": "http://receiver.example/cb"}, "webhook_url_rejected", "https"),
        ({"url": "ftp://localhost/cb"}, "webhook_url_rejected", "https"),
        ({"url": "https://user:pw@receiver.example/cb"}, "webhook_url_rejected", "credentials"),
        ({"url": "https://receiver.example/cb#part"}, "webhook_url_rejected", "fragment"),
        ({"url": "https://receiver/cb"}, "webhook_url_rejected", "local name"),
        ({"url": "https://receiver.local/cb"}, "webhook_url_rejected", "local name"),
        ({"url": "https://192.168.0.1/cb"}, "webhook_url_rejected", "private"),
        ({"url": "https://[fe80::1]/cb"}, "webhook_url_rejected", "private"),
        ({"url": "https://receiver.example:port/cb"}, "webhook_url_rejected", "must be a URL"),
    ],
)
async def test_an_endpoint_against_the_document_is_refused(
    shop: Buyer, change: dict[str, Any], code: str, complaint: str
) -> None:
    answer = await manage(shop, "POST", body=BODY | change)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert complaint in answer.json()["error"]["message"]
    assert (await manage(shop, "GET")).json()["data"] == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/cb", "http://localhost/cb", "http://[::1]:8000/cb", URL])
async def test_an_endpoint_may_be_on_this_machine_since_this_is_a_simulation(shop: Buyer, url: str) -> None:
    assert (await shop.register(url))["url"] == url


async def test_a_sandbox_kept_to_one_address_takes_no_endpoint_elsewhere(clock: Clock) -> None:
    async with unserved(Sandbox(callbacks_to="http://127.0.0.1:8000", clock=clock)) as shop:
        endpoint = await shop.register("http://127.0.0.1:8000/cb/t1")
        answers = [
            await manage(shop, "POST", body=BODY),
            await manage(shop, "PATCH", f"/{endpoint['id']}", {"url": "http://127.0.0.1:80001/cb"}),
            await manage(shop, "PATCH", f"/{endpoint['id']}", {"url": URL}),
        ]
        told = [(answer.status_code, answer.json()["error"]["code"]) for answer in answers]
        assert told == [(400, "webhook_url_rejected")] * 3


async def test_webhooks_need_a_key(shop: Buyer) -> None:
    answer = await shop.client.get(PATH)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "api_key_missing")


@pytest.mark.parametrize(("options", "word"), [("", "succeeded"), ("result=fail", "failed")])
async def test_the_end_of_a_generation_is_posted_as_a_signed_event(rig: Rig, options: str, word: str) -> None:
    endpoint = await rig.register(rig.sink.link("t1"))
    task_id = id_in(await rig.buy("rivya", f"A cat [sandbox: {options} after=0.1]"))
    (call,) = await rig.sink.until("t1")
    generation = (await rig.ask("rivya", task_id)).json()
    assert call.body == {
        "id": call.body["id"],
        "type": f"generation.{word}",
        "api_version": "2026-05-11",
        "created_at": generation["updated_at"],
        "data": generation,
    }
    assert call.body["id"].startswith("evt_")
    assert call.headers["webhook-id"] == call.body["id"]
    assert is_signed(call, endpoint["signing_secret"])


async def test_an_endpoint_gets_only_the_events_it_wants_while_it_is_active(rig: Rig) -> None:
    await rig.register(rig.sink.link("all"))
    await rig.register(rig.sink.link("failures"), event_types=["generation.failed"])
    disabled = await rig.register(rig.sink.link("disabled"))
    await manage(rig, "PATCH", f"/{disabled['id']}", {"status": "disabled"})
    removed = await rig.register(rig.sink.link("removed"))
    await manage(rig, "DELETE", f"/{removed['id']}")
    for options in ("after=0", "result=fail after=0"):
        await rig.settled(id_in(await rig.buy("rivya", f"A cat [sandbox: {options}]")))
    assert [call.body["type"] for call in rig.sink.of("all")] == ["generation.succeeded", "generation.failed"]
    assert [call.body["type"] for call in rig.sink.of("failures")] == ["generation.failed"]
    assert {call.token for call in rig.sink.calls} == {"all", "failures"}


async def test_an_endpoint_registered_while_the_work_goes_on_hears_of_its_end(rig: Rig) -> None:
    task_id = id_in(await rig.buy("rivya", "A cat [sandbox: after=0.6]"))
    await rig.register(rig.sink.link("t1"))
    (call,) = await rig.sink.until("t1")
    assert call.body["data"]["id"] == task_id


async def test_an_endpoint_registered_after_the_end_hears_nothing_of_it(rig: Rig) -> None:
    await rig.settled(id_in(await rig.buy("rivya", "A cat [sandbox: after=0]")))
    await rig.register(rig.sink.link("t1"))
    task_id = id_in(await rig.buy("rivya", "A dog [sandbox: after=0]"))
    await rig.settled(task_id)
    assert [call.body["data"]["id"] for call in rig.sink.calls] == [task_id]


async def test_after_a_rotation_events_are_signed_with_the_new_secret(rig: Rig) -> None:
    endpoint = await rig.register(rig.sink.link("t1"))
    rotated = (await manage(rig, "POST", f"/{endpoint['id']}/rotate-secret")).json()
    assert rotated["signing_secret"] != endpoint["signing_secret"]
    assert rotated["secret_preview"] != endpoint["secret_preview"]
    await rig.buy("rivya", "A cat [sandbox: after=0]")
    (call,) = await rig.sink.until("t1")
    assert is_signed(call, rotated["signing_secret"])
    assert not is_signed(call, endpoint["signing_secret"])


async def test_an_event_that_is_not_taken_is_posted_again_with_the_same_id(rig: Rig) -> None:
    endpoint = await rig.register(rig.sink.link("t1"))
    rig.sink.answers["t1"] = [503, 204]
    await rig.settled(id_in(await rig.buy("rivya", "A cat [sandbox: after=0]")))
    calls = rig.sink.of("t1")
    assert [is_signed(call, endpoint["signing_secret"]) for call in calls] == [True] * 3
    assert len({call.headers["webhook-id"] for call in calls}) == 1
    told = (await manage(rig, "GET", f"/{endpoint['id']}")).json()
    assert (told["failure_count"], told["last_failure_at"] is None, told["last_success_at"] is None) == (
        2,
        False,
        False,
    )


async def ordered(rig: Rig, option: str, more: str = "after=0") -> tuple[str, str, list[Call]]:
    """Order a trouble; returns the task's id, the endpoint's secret and the calls when all is through."""
    endpoint = await rig.register(rig.sink.link("t1"))
    task_id = id_in(await rig.buy("rivya", f"A cat [sandbox: callback={option} {more}]"))
    if option != "drop":
        await rig.settled(task_id)
    return task_id, endpoint["signing_secret"], rig.sink.of("t1")


async def test_a_dropped_event_never_comes(rig: Rig) -> None:
    await ordered(rig, "drop")
    honest = id_in(await rig.buy("rivya", "A cat [sandbox: after=0.1]"))
    await rig.settled(honest)
    assert [call.body["data"]["id"] for call in rig.sink.calls] == [honest]


async def test_an_event_can_come_twice_with_the_same_id(rig: Rig) -> None:
    await ordered(rig, "twice")
    first, second = await rig.sink.until("t1", 2)
    assert (first.raw, first.headers["webhook-id"]) == (second.raw, second.headers["webhook-id"])


async def test_an_early_event_overtakes_the_answer_to_the_purchase(rig: Rig) -> None:
    await rig.register(rig.sink.link("t1"))
    answer = await rig.buy("rivya", "A cat [sandbox: callback=early after=60]")
    (call,) = rig.sink.of("t1")
    assert call.body["data"]["id"] == id_in(answer)


async def test_an_early_event_that_nobody_wants_does_not_hold_the_answer_up(rig: Rig) -> None:
    rig.client.timeout = httpx.Timeout(EARLY_SECONDS - 0.5)  # so long it would be held up
    assert (await rig.buy("rivya", "A cat [sandbox: callback=early]")).status_code == 200


async def test_a_late_event_leaves_the_status_answer_time_to_be_first(slow: Rig, clock: Clock) -> None:
    await slow.register(slow.sink.link("t1"))
    task_id = id_in(await slow.buy("rivya", "A cat [sandbox: callback=late after=0]"))
    clock.move_on(59)
    assert (await slow.ask("rivya", task_id)).json()["status"] == "succeeded"
    assert slow.sink.calls == []
    clock.move_on(1)
    await slow.sink.until("t1")


async def test_a_forged_event_comes_to_the_right_url_with_a_wrong_signature(rig: Rig) -> None:
    task_id, secret, (forged, honest) = await ordered(rig, "forged")
    assert (forged.body["type"], forged.body["data"]["id"]) == ("generation.succeeded", task_id)
    assert forged.body["data"]["result"]["primary_url"] == FORGED_VIDEO
    assert (is_signed(forged, secret), is_signed(honest, secret)) == (False, True)
    assert forged.body["id"] != honest.body["id"]


async def test_a_foreign_event_is_about_a_task_that_was_never_bought(rig: Rig) -> None:
    task_id, secret, (call,) = await ordered(rig, "foreign")
    assert call.body["data"]["id"] != task_id
    assert is_signed(call, secret)


async def test_an_unreadable_event_is_rightly_signed(rig: Rig) -> None:
    _, secret, (call,) = await ordered(rig, "unreadable")
    with pytest.raises(json.JSONDecodeError):
        json.loads(call.raw)
    assert is_signed(call, secret)


@pytest.mark.parametrize(("result", "words"), [("", ("failed", "succeeded")), ("result=fail", ("succeeded", "failed"))])
async def test_a_lying_event_is_rightly_signed_and_the_truth_comes_after_it(
    rig: Rig, result: str, words: tuple[str, str]
) -> None:
    task_id, secret, (lie, honest) = await ordered(rig, "lying", f"{result} after=0.1")
    assert tuple(call.body["data"]["status"] for call in (lie, honest)) == words
    assert all(is_signed(call, secret) and call.body["data"]["id"] == task_id for call in (lie, honest))
    assert lie.body["id"] != honest.body["id"]
    assert (LYING_VIDEO in lie.raw.decode()) == (words[0] == "succeeded")


async def test_endpoints_survive_a_restart_and_hear_what_ended_in_between(
    rig: Rig, clock: Clock, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.jsonl"
    async with unserved(Sandbox(ledger_path=path, clock=clock)) as before:
        kept = await before.register(rig.sink.link("kept"))
        secret = kept.pop("signing_secret")
        removed = await before.register(rig.sink.link("removed"))
        await manage(before, "DELETE", f"/{removed['id']}")
        task_id = id_in(await before.buy("rivya", "A cat [sandbox: after=60]"))
    clock.now += 60
    async with unserved(Sandbox(ledger_path=path, clock=clock)) as after:
        await after.settled(task_id)
        listed = (await manage(after, "GET")).json()["data"]
    assert [(endpoint["id"], endpoint["url"]) for endpoint in listed] == [(kept["id"], rig.sink.link("kept"))]
    (call,) = rig.sink.calls
    assert (call.token, call.body["data"]["id"], is_signed(call, secret)) == ("kept", task_id, True)


async def test_what_one_endpoint_has_taken_is_not_posted_to_it_again_for_the_sake_of_another(
    rig: Rig, clock: Clock, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.jsonl"
    rig.sink.answers["slow"] = [503]
    async with unserved(Sandbox(ledger_path=path, retry_factor=60, clock=clock)) as before:
        quick = await before.register(rig.sink.link("quick"))
        await before.register(rig.sink.link("slow"))
        task_id = id_in(await before.buy("rivya", "A cat [sandbox: after=0]"))
        await rig.sink.until("slow")
        await before.settled(task_id, f"end {quick['id']}")
    async with unserved(Sandbox(ledger_path=path, clock=clock)):
        await rig.sink.until("slow", 2)
    assert len(rig.sink.of("quick")) == 1
