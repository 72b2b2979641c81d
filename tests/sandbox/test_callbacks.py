"""Callbacks over real HTTP: the honest ones, and each trouble that can be ordered."""

import json
from pathlib import Path

import httpx
import pytest

from receiver.sandbox.app import Sandbox
from receiver.sandbox.plan import with_altered_token

from .conftest import Clock
from .rig import CALLING_BACK, HEADERS, Buyer, Rig, id_in, id_told, order, tells_of_failure, unserved

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("family", ["apixo", "revid"])
async def test_the_callback_is_the_final_status_answer(rig: Rig, family: str) -> None:
    task_id = id_in(await rig.buy(family, "A cat [sandbox: after=0.1]", rig.sink.link("t1")))
    await rig.settled(task_id)
    (call,) = rig.sink.of("t1")
    assert call.body == (await rig.ask(family, task_id)).json()
    assert call.body["data"]["state"] == "success"
    assert call.content_type == "application/json"


@pytest.mark.parametrize("family", CALLING_BACK)
async def test_a_failure_is_called_back_too(rig: Rig, family: str) -> None:
    task_id = id_in(await rig.buy(family, "A cat [sandbox: result=fail after=0]", rig.sink.link("t1")))
    (call,) = await rig.sink.until("t1")
    assert id_told(call.body) == task_id
    assert tells_of_failure(call.body)


async def test_the_gateway_tells_of_each_change_with_the_bare_status_object(rig: Rig) -> None:
    task_id = id_in(await rig.buy("gateway", "A cat [sandbox: after=0.3]", rig.sink.link("t1")))
    started, ended = await rig.sink.until("t1", 2)
    assert (started.body["task_id"], started.body["status"], started.body["data"]) == (task_id, "IN_PROGRESS", None)
    assert ended.body == (await rig.ask("gateway", task_id)).json()
    assert ended.body["status"] == "SUCCESS"


async def test_the_gateway_wraps_its_callback_for_the_pro_model(rig: Rig) -> None:
    path, body = order("gateway", "A cat [sandbox: after=0]", rig.sink.link("t1"))
    answer = await rig.client.post(path, json=body | {"model": "sora-2-pro"}, headers=HEADERS["gateway"])
    (call,) = await rig.sink.until("t1")
    status = (await rig.ask("gateway", id_in(answer))).json()
    assert call.body == {"code": "success", "message": "", "data": status}


@pytest.mark.parametrize("family", CALLING_BACK)
async def test_a_dropped_callback_never_comes_though_the_work_ends(rig: Rig, family: str) -> None:
    dropped = id_in(await rig.buy(family, "A cat [sandbox: callback=drop after=0]", rig.sink.link("dropped")))
    await rig.settled(id_in(await rig.buy(family, "A cat [sandbox: after=0.1]", rig.sink.link("honest"))))
    assert rig.sink.of("dropped") == []
    assert "success" in (await rig.ask(family, dropped)).text.lower()


@pytest.mark.parametrize("family", CALLING_BACK)
async def test_a_callback_can_come_twice_with_the_same_bytes(rig: Rig, family: str) -> None:
    await rig.buy(family, "A cat [sandbox: callback=twice after=0]", rig.sink.link("t1"))
    first, second = await rig.sink.until("t1", 2)
    assert first == second


@pytest.mark.parametrize("family", CALLING_BACK)
async def test_an_early_callback_overtakes_the_answer_to_the_purchase(rig: Rig, family: str) -> None:
    answer = await rig.buy(family, "A cat [sandbox: callback=early after=60]", rig.sink.link("t1"))
    (call,) = rig.sink.of("t1")
    assert id_told(call.body) == id_in(answer)
    assert "success" in call.raw.decode().lower()


async def test_an_early_callback_that_is_not_taken_does_not_hold_the_answer_up(rig: Rig) -> None:
    rig.sink.answers["t1"] = [503]
    await rig.buy("apixo", "A cat [sandbox: callback=early]", rig.sink.link("t1"))
    assert len(await rig.sink.until("t1", 2)) == 2


async def test_a_late_callback_leaves_the_status_answer_time_to_be_first(slow: Rig, clock: Clock) -> None:
    task_id = id_in(await slow.buy("apixo", "A cat [sandbox: callback=late after=0]", slow.sink.link("t1")))
    clock.move_on(59)
    assert (await slow.ask("apixo", task_id)).json()["data"]["state"] == "success"
    assert slow.sink.of("t1") == []
    clock.move_on(1)
    (call,) = await slow.sink.until("t1")
    data, tried = call.body["data"], (await slow.settled(task_id))["callbacks"][0]
    assert tried["at"] * 1000 - data["completeTime"] >= 59_999


async def test_a_forger_who_has_to_guess_the_token_comes_before_the_honest_callback(rig: Rig) -> None:
    token = "dHNrXzEyMzQ1Njc4.c2lnbmF0dXJl"
    rig.sink.answers[with_altered_token(token).strip("/")] = [404]
    task_id = id_in(await rig.buy("revid", "A cat [sandbox: callback=forged after=0.2]", rig.sink.link(token)))
    await rig.settled(task_id)
    forged, honest = rig.sink.calls
    assert forged.token != token
    assert (forged.token[0], forged.token[-1], len(forged.token)) == ("d", "l", len(token))
    assert (forged.body["data"]["taskId"], forged.body["data"]["state"]) == (task_id, "success")
    assert json.loads(forged.body["data"]["resultJson"]) == {"resultUrls": ["https://forged.invalid/video.mp4"]}
    assert honest.token == token
    assert honest.body == (await rig.ask("revid", task_id)).json()


@pytest.mark.parametrize("family", CALLING_BACK)
async def test_a_foreign_callback_names_a_task_that_was_never_bought(rig: Rig, family: str) -> None:
    task_id = id_in(await rig.buy(family, "A cat [sandbox: callback=foreign after=0]", rig.sink.link("t1")))
    (call,) = await rig.sink.until("t1")
    told = id_told(call.body)
    assert told != task_id
    assert len(told) == len(task_id)
    assert told not in (purchase["id"] for purchase in await rig.purchases())


@pytest.mark.parametrize("family", CALLING_BACK)
async def test_an_unreadable_callback_is_json_cut_off(rig: Rig, family: str) -> None:
    await rig.buy(family, "A cat [sandbox: callback=unreadable after=0]", rig.sink.link("t1"))
    (call,) = await rig.sink.until("t1")
    assert call.raw.startswith(b"{")
    with pytest.raises(json.JSONDecodeError):
        json.loads(call.raw)


async def test_only_exactly_200_counts_as_taken(rig: Rig) -> None:
    rig.sink.answers["t1"] = [204, 202, 302]
    task_id = id_in(await rig.buy("apixo", "A cat [sandbox: after=0]", rig.sink.link("t1")))
    purchase = await rig.settled(task_id)
    assert [tried["answer"] for tried in purchase["callbacks"]] == [204, 202, 302, 200]


async def test_a_callback_is_given_up_after_three_retries(rig: Rig) -> None:
    rig.sink.answers["t1"] = [500] * 9
    task_id = id_in(await rig.buy("revid", "A cat [sandbox: after=0]", rig.sink.link("t1")))
    purchase = await rig.settled(task_id)
    assert [tried["answer"] for tried in purchase["callbacks"]] == [500] * 4


async def test_the_gateway_never_tries_again(rig: Rig) -> None:
    rig.sink.answers["t1"] = [500] * 9
    task_id = id_in(await rig.buy("gateway", "A cat [sandbox: after=0]", rig.sink.link("t1")))
    purchase = await rig.settled(task_id)
    assert [tried["answer"] for tried in purchase["callbacks"]] == [500]


async def test_a_receiver_that_is_not_there_is_noted_by_what_broke(rig: Rig) -> None:
    task_id = id_in(await rig.buy("gateway", "A cat [sandbox: after=0]", "http://127.0.0.1:1/cb"))
    purchase = await rig.settled(task_id)
    assert [tried["answer"] for tried in purchase["callbacks"]] == ["ConnectError"]


async def test_what_was_not_delivered_before_a_restart_is_delivered_after_it(
    rig: Rig, clock: Clock, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.jsonl"
    async with unserved(Sandbox(ledger_path=path, clock=clock)) as before:
        taken = id_in(await before.buy("gateway", "A cat [sandbox: after=0]", rig.sink.link("taken")))
        open_id = id_in(await before.buy("gateway", "A cat [sandbox: after=60]", rig.sink.link("open")))
        await before.settled(taken)
    assert rig.sink.of("open") == []
    clock.now += 60
    async with unserved(Sandbox(ledger_path=path, clock=clock)):
        calls = await rig.sink.until("open", 2)
    assert sorted((call.body["task_id"], call.body["status"]) for call in calls) == [
        (open_id, "IN_PROGRESS"),
        (open_id, "SUCCESS"),
    ]
    assert len(rig.sink.of("taken")) == 1


async def test_a_sandbox_kept_to_one_address_takes_no_order_that_calls_elsewhere(clock: Clock) -> None:
    async with unserved(Sandbox(callbacks_to="http://receiver.example:8000", clock=clock)) as shop:
        for url in ("http://receiver.example:8000@elsewhere.example/cb", "http://receiver.example:80001/cb"):
            assert (await shop.buy("apixo", "A cat", url)).status_code == 400
        assert (await shop.buy("apixo", "A cat", "http://receiver.example:8000/cb/t1")).status_code == 200
        assert (await shop.buy("apixo", "A cat")).status_code == 200


async def test_an_order_with_a_callback_is_not_taken_before_the_sandbox_runs(clock: Clock) -> None:
    transport = httpx.ASGITransport(Sandbox(clock=clock).app)
    async with httpx.AsyncClient(transport=transport, base_url="http://sandbox.example") as client:
        with pytest.raises(RuntimeError, match="not running"):
            await Buyer(client).buy("apixo", "A cat", "http://receiver.example/cb")


@pytest.mark.parametrize(
    ("url", "forged"),
    [
        ("https://h.example/callbacks/revid/abcdefg", "https://h.example/callbacks/revid/abAAAfg"),
        ("https://h.example/cb/AAAAAAA?x=1", "https://h.example/cb/AABBBAA?x=1"),
        ("https://h.example/cb/t", "https://h.example/cb/A"),
        ("https://h.example", "https://h.example/A"),
    ],
)
def test_tampering_changes_the_middle_of_the_last_segment_only(url: str, forged: str) -> None:
    assert with_altered_token(url) == forged
