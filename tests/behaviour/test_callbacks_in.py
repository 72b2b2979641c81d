"""Interface, sections 1 and 4: what a callback does to a task in each of its states, and to no other task."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.behaviour.families import APIXO, CALLING_BACK, GATEWAY, REVID, Body, Family, gateway, gateway_at, revid_done
from tests.behaviour.provider import Provider, says, slams
from tests.behaviour.service import Service, Stage, Task

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/out.mp4"
ID = "the-remote-id"
every_family = pytest.mark.parametrize("family", CALLING_BACK, ids=[family.name for family in CALLING_BACK])


# --- how a task comes into each state


async def _queued(service: Service, family: Family) -> Task:
    service.provider.on_create(family, says({"message": "busy"}, 429, Retry_After="60"), says(family.accepted("2nd")))
    return await service.order(family.order())


async def _cancelled(service: Service, family: Family) -> Task:
    task = await _queued(service, family)
    assert (await service.post(f"/api/tasks/{task['id']}/cancel")).status_code == 200
    return task


async def _unconfirmed(service: Service, family: Family) -> Task:
    service.provider.on_create(family, slams(), says(family.accepted("2nd")))
    return await service.order(family.order())


async def _submitted(service: Service, family: Family) -> Task:
    service.provider.on_create(family, says(family.accepted(ID)))
    return await service.order(family.order())


def _told(body: Callable[[Family], Body]) -> Callable[[Service, Family], Awaitable[Task]]:
    async def make(service: Service, family: Family) -> Task:
        task = await _submitted(service, family)
        assert await service.call_back(task["id"], body(family)) == "applied"
        return task

    return make


async def _expired(service: Service, family: Family) -> Task:
    task = await _submitted(service, family)
    await service.poll_after(7200)
    return task


async def _expired_unheard(service: Service, family: Family) -> Task:
    task = await _unconfirmed(service, family)
    await service.poll_after(7200)
    return task


NEWS: dict[str, Callable[[Family], Body]] = {
    "submitted": lambda family: family.waiting(ID),
    "running": lambda family: family.working(ID),
    "succeeded": lambda family: family.done(ID, URL),
    "failed": lambda family: family.failed(ID),
}
MADE: dict[str, Callable[[Service, Family], Awaitable[Task]]] = {
    "queued": _queued,
    "unconfirmed": _unconfirmed,
    "submitted": _submitted,
    "running": _told(NEWS["running"]),
    "succeeded": _told(NEWS["succeeded"]),
    "failed": _told(NEWS["failed"]),
    "cancelled": _cancelled,
    "expired": _expired,
    "expired-unheard": _expired_unheard,
}


# --- the table: (state, news) -> outcome, state

A, R, L, C = "applied", "repeated", "late", "confirming"
TABLE = {
    "queued": {"submitted": A, "running": A, "succeeded": A, "failed": A},
    "unconfirmed": {"submitted": A, "running": A, "succeeded": A, "failed": A},
    "submitted": {"submitted": A, "running": A, "succeeded": A, "failed": A},
    "running": {"submitted": L, "running": R, "succeeded": A, "failed": A},
    "succeeded": {"submitted": L, "running": L, "succeeded": R, "failed": C},
    "failed": {"submitted": L, "running": L, "succeeded": C, "failed": R},
    "cancelled": {"submitted": L, "running": L, "succeeded": C, "failed": C},
    "expired": {"submitted": L, "running": L, "succeeded": A, "failed": A},
    "expired-unheard": {"submitted": L, "running": L, "succeeded": A, "failed": A},
}
CASES = [
    pytest.param(state, news, outcome, id=f"{state}-hears-{news}")
    for state, row in TABLE.items()
    for news, outcome in row.items()
]


@pytest.mark.parametrize(("state", "news", "outcome"), CASES)
async def test_a_callback_moves_a_task_as_the_table_of_states_says(
    state: str, news: str, outcome: str, service: Service, provider: Provider
) -> None:
    family = GATEWAY
    task = await MADE[state](service, family)
    before, checks = await service.task(task["id"]), len(provider.asked())
    assert before["state"] == state.removesuffix("-unheard")
    service.clock.advance(1)

    assert await service.call_back(task["id"], NEWS[news](family)) == outcome

    if outcome == C:
        await provider.until(lambda: len(provider.asked()) > checks)
        await service.until_checked(task["id"], before["checks"] + 1)
    after = await service.task(task["id"])
    assert after["state"] == (news if outcome == A else before["state"])
    assert after["remote_id"] == ID, "even late news fills in what is not known yet"
    assert after["deliveries"] == before["deliveries"] + 1
    added = set(after["notices"]) - set(before["notices"])
    assert bool(added) == (outcome == C), "a contradiction is kept as a notice"
    if outcome == A and news in ("succeeded", "failed"):
        assert (after["settled_by"], after["evidence"]["token"], after["next_check_at"]) == ("callback", True, None)
        assert after["finished_at"] > before["created_at"]
        assert len(after["outputs"]) == (news == "succeeded")
        assert (after["error"] is None) == (news == "succeeded")
    else:
        assert (after["settled_by"], after["outputs"], after["finished_at"]) == (
            before["settled_by"],
            before["outputs"],
            before["finished_at"],
        )
    await service.poll_after(3600)
    assert len(provider.bought()) == 1, "what a callback was heard of is never sent again"


# --- duplicates and order


@every_family
async def test_duplicates_are_repeated_and_change_nothing(family: Family, service: Service) -> None:
    task = await _submitted(service, family)
    outcomes = [await service.call_back(task["id"], family.done(ID, URL)) for _ in range(3)]
    assert outcomes == ["applied", "repeated", "repeated"]
    task = await service.task(task["id"])
    assert (len(task["outputs"]), task["notices"], task["deliveries"]) == (1, [], 3)
    assert await service.moves(task["id"]) == ["submitting", "submitted", "succeeded"]


@every_family
async def test_a_second_success_with_other_urls_leaves_the_first_with_a_notice(
    family: Family, service: Service
) -> None:
    task = await _submitted(service, family)
    await service.call_back(task["id"], family.done(ID, URL))
    assert await service.call_back(task["id"], family.done(ID, f"{URL}?v=2", URL)) == "repeated"
    task = await service.task(task["id"])
    assert [output["url"] for output in task["outputs"]] == [URL]
    assert len(task["notices"]) == 1


@every_family
async def test_the_files_of_a_result_stand_in_its_order(family: Family, service: Service) -> None:
    task = await _submitted(service, family)
    urls = [URL, "https://cdn.example.com/a.png?w=1", "https://cdn.example.com/b.mp3", "https://cdn.example.com/c"]
    await service.call_back(task["id"], family.done(ID, *urls, URL))
    outputs = (await service.task(task["id"]))["outputs"]
    assert [output["url"] for output in outputs] == urls
    assert [output["kind"] for output in outputs][:3] == ["video", "image", "audio"]


async def test_progress_goes_forwards_only(service: Service) -> None:
    task = await _submitted(service, GATEWAY)
    told = [("0%", A, 0), ("10%", A, 0.1), ("10%", R, 0.1), ("60%", A, 0.6), ("30%", L, 0.6), ("93%", A, 0.93)]
    for progress, outcome, shown in told:
        assert await service.call_back(task["id"], gateway_at(progress)(ID)) == outcome, progress
        assert (await service.task(task["id"]))["progress"] == shown
    assert await service.call_back(task["id"], GATEWAY.waiting(ID)) == L
    assert await service.call_back(task["id"], GATEWAY.failed(ID)) == A, "failure is possible after 90 %"
    assert (await service.task(task["id"]))["state"] == "failed"


async def test_a_failure_does_not_take_progress_back(service: Service) -> None:
    task = await _submitted(service, GATEWAY)
    await service.call_back(task["id"], gateway_at("60%")(ID))
    assert await service.call_back(task["id"], gateway(ID, "FAILURE", progress="5%")) == A
    assert (await service.task(task["id"]))["progress"] == 0.6


async def test_progress_is_null_if_never_told_and_one_when_done(service: Service) -> None:
    task = await _submitted(service, APIXO)
    await service.call_back(task["id"], APIXO.working(ID))
    assert (await service.task(task["id"]))["progress"] is None
    await service.call_back(task["id"], APIXO.done(ID, URL))
    assert (await service.task(task["id"]))["progress"] == 1


async def test_late_progress_does_not_undo_success(service: Service) -> None:
    task = await _submitted(service, GATEWAY)
    await service.call_back(task["id"], GATEWAY.done(ID, URL))
    assert await service.call_back(task["id"], gateway_at("99%")(ID)) == "late"
    task = await service.task(task["id"])
    assert (task["state"], task["progress"], task["remote_state"]) == ("succeeded", 1, "SUCCESS")


async def test_an_unknown_word_counts_as_running_and_leaves_a_notice(service: Service) -> None:
    task = await _submitted(service, GATEWAY)
    assert await service.call_back(task["id"], gateway(ID, "UPSCALING")) == "applied"
    task = await service.task(task["id"])
    assert (task["state"], task["remote_state"]) == ("running", "UPSCALING")
    assert any("UPSCALING" in notice for notice in task["notices"])


@pytest.mark.parametrize("word", ["cancelled", "canceled", "expired"])
@pytest.mark.parametrize("family", [APIXO, REVID], ids=["apixo", "revid"])
async def test_a_providers_cancelled_or_expired_is_our_failed(family: Family, word: str, service: Service) -> None:
    task = await _submitted(service, family)
    assert await service.call_back(task["id"], {"code": 200, "data": {"taskId": ID, "state": word}}) == "applied"
    task = await service.task(task["id"])
    assert (task["state"], task["error"]["code"]) == ("failed", word)
    assert task["error"]["message"]


# --- contradictions between final states: the provider is asked, and only a status answer may turn failed around


@dataclass(frozen=True)
class Turned:
    """A task's final state, a callback that contradicts it, what the provider then says, and the end of it."""

    state: str
    news: str
    truth: str
    end: str


TURNED = [
    pytest.param(Turned("failed", "succeeded", "succeeded", "succeeded"), id="done-there-failed-here"),
    pytest.param(Turned("failed", "succeeded", "failed", "failed"), id="failed-there-too"),
    pytest.param(Turned("failed", "succeeded", "running", "failed"), id="failed-here-running-there"),
    pytest.param(Turned("succeeded", "failed", "failed", "succeeded"), id="succeeded-here-failed-there"),
    pytest.param(Turned("succeeded", "failed", "succeeded", "succeeded"), id="succeeded-there-too"),
    pytest.param(Turned("cancelled", "succeeded", "succeeded", "cancelled"), id="cancelled-here-done-there"),
]


@pytest.mark.parametrize("turned", TURNED)
async def test_a_contradiction_is_settled_by_the_providers_own_status(
    turned: Turned, service: Service, provider: Provider
) -> None:
    family = APIXO
    task = await MADE[turned.state](service, family)
    provider.on_check(family, says(NEWS[turned.truth](family)))
    assert await service.call_back(task["id"], NEWS[turned.news](family)) == "confirming"
    task = await service.until_checked(task["id"])
    assert task["state"] == turned.end
    assert task["notices"]
    if turned.end != turned.state:
        assert (task["error"], len(task["outputs"])) == (None, 1)
        assert task["settled_by"] == "callback", "it brought the news, and a check confirmed it"
        assert task["evidence"] == {"token": True, "signature": None, "confirmed_at": task["finished_at"]}
        assert (await service.moves(task["id"]))[-2:] == ["failed", "succeeded"]


@every_family
async def test_late_failure_does_not_undo_success(family: Family, service: Service, provider: Provider) -> None:
    task = await MADE["succeeded"](service, family)
    provider.on_check(family, says({"message": "gone"}, 404))
    await service.call_back(task["id"], family.failed(ID))
    task = await service.until_checked(task["id"])
    assert (task["state"], task["error"], len(task["outputs"])) == ("succeeded", None, 1)


async def test_a_success_for_a_refused_submission_is_asked_about(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, says({"code": 400, "msg": "no"}, 400))
    task = await service.order(REVID.order())
    provider.on_check(REVID, says(REVID.done("r-1", URL)))
    assert await service.call_back(task["id"], REVID.done("r-1", URL)) == "confirming"
    task = await service.until_state(task["id"], "succeeded")
    assert (task["remote_id"], task["error"]) == ("r-1", None)


async def test_a_success_for_a_refused_submission_that_names_no_task_is_kept_as_a_notice(
    service: Service, provider: Provider
) -> None:
    """There is nothing to ask about, and a callback alone does not turn a failed task around."""
    provider.on_create(REVID, says({"code": 400, "msg": "no"}, 400))
    task = await service.order(REVID.order())
    assert await service.call_back(task["id"], _nameless(REVID, "succeeded")) == "late"
    task = await service.task(task["id"])
    assert (task["state"], len(task["notices"]), task["deliveries"]) == ("failed", 1, 1)


# --- bodies that name another task


@pytest.mark.row("C2")
@every_family
@pytest.mark.parametrize("news", NEWS)
async def test_a_body_that_names_another_id_is_never_applied(family: Family, news: str, service: Service) -> None:
    task = await _submitted(service, family)
    body = json.loads(json.dumps(NEWS[news](family)).replace(ID, "of-somebody-else"))
    assert await service.call_back(task["id"], body) == "unmatched"
    after = await service.task(task["id"])
    assert (after["state"], after["remote_id"], after["outputs"]) == ("submitted", ID, [])
    assert after["deliveries"] == 1


@pytest.mark.row("C2")
@every_family
@pytest.mark.parametrize("state", ["unconfirmed", "queued"])
async def test_a_body_that_names_the_id_of_another_of_our_tasks_touches_neither(
    family: Family, state: str, service: Service
) -> None:
    other = await _submitted(service, family)
    task = await MADE[state](service, family)
    assert await service.call_back(task["id"], family.done(ID, URL)) == "unmatched"
    assert (await service.task(other["id"]))["state"] == "submitted"
    after = await service.task(task["id"])
    assert (after["state"], after["remote_id"], after["outputs"]) == (state, None, [])
    assert (await service.task(other["id"]))["deliveries"] == 0


@pytest.mark.row("C2")
@every_family
async def test_a_task_only_hears_what_comes_to_its_own_url(family: Family, service: Service) -> None:
    one = await _submitted(service, family)
    service.provider.on_create(family, says(family.accepted("other-id")))
    other = await service.order(family.order())
    assert await service.call_back(other["id"], family.done(ID, URL)) == "unmatched"
    assert (await service.task(one["id"]))["state"] == "submitted"
    assert await service.call_back(one["id"], family.done(ID, URL)) == "applied"
    assert (await service.task(other["id"]))["state"] == "submitted"


# --- bodies that say too little


def _nameless(family: Family, state: str) -> Body:
    """The same news without any id in it."""
    body: Any = json.loads(json.dumps(NEWS[state](family)))
    for record in (body, body.get("data") or {}):
        record.pop("taskId", None)
        record.pop("task_id", None)
    named: Body = body
    return named


@every_family
@pytest.mark.parametrize("news", ["succeeded", "failed"])
async def test_a_final_state_that_names_no_task_counts_once_the_provider_confirms_it(
    family: Family, news: str, service: Service, provider: Provider
) -> None:
    task = await _submitted(service, family)
    provider.on_check(family, says(NEWS[news](family)))
    assert await service.call_back(task["id"], _nameless(family, news)) == "confirming"
    task = await service.until_state(task["id"], news)
    assert (task["settled_by"], task["evidence"]["token"], task["checks"]) == ("callback", True, 1)
    assert task["evidence"]["confirmed_at"] == task["finished_at"]


@every_family
async def test_a_final_state_that_names_no_task_does_not_count_if_the_provider_denies_it(
    family: Family, service: Service, provider: Provider
) -> None:
    task = await _submitted(service, family)
    provider.on_check(family, says(family.working(ID)))
    assert await service.call_back(task["id"], _nameless(family, "succeeded")) == "confirming"
    task = await service.until_checked(task["id"])
    assert (task["state"], task["outputs"], task["settled_by"]) == ("running", [], None)


STATELESS: list[Body] = [
    {"code": 200, "message": "success", "data": {"taskId": ID, "task_id": ID}},
    {"task_id": ID, "code": 200, "data": {"taskId": ID, "state": None}},
    {"task_id": ID, "taskId": ID, "state": "", "status": ""},
]


@every_family
@pytest.mark.parametrize("body", STATELESS, ids=["no-state", "null", "empty"])
async def test_a_body_without_a_state_makes_us_ask_at_once(
    family: Family, body: Body, service: Service, provider: Provider
) -> None:
    task = await _submitted(service, family)
    provider.on_check(family, says(family.done(ID, URL)))
    assert await service.call_back(task["id"], body) == "confirming"
    task = await service.until_state(task["id"], "succeeded")
    assert task["checks"] == 1


async def test_a_body_with_nothing_but_an_id_proves_that_the_order_was_taken(service: Service) -> None:
    task = await _unconfirmed(service, REVID)
    assert await service.call_back(task["id"], {"code": 200, "data": {"taskId": "r-1"}}) == "confirming"
    task = await service.until_checked(task["id"])
    assert (task["state"], task["remote_id"]) == ("submitted", "r-1")


UNREADABLE = [
    pytest.param(b"", id="empty"),
    pytest.param(b"not json", id="text"),
    pytest.param(b"[]", id="list"),
    pytest.param(b"null", id="null"),
    pytest.param(b'{"task_id": "the-remote-id", ', id="cut"),
    pytest.param(b"\xff\xfe{\x00}\x00", id="utf-16"),
    pytest.param(b'{"a":' * 100_000, id="deep"),
    pytest.param(b'{"n": ' + b"9" * 100_000 + b"}", id="long-number"),
    pytest.param(b'{"n": NaN}', id="nan"),
    pytest.param(b"\x1f\x8b\x08\x00", id="gzip-bytes"),
    pytest.param(b"task_id=1&status=SUCCESS", id="form"),
]


@pytest.mark.parametrize("body", UNREADABLE)
async def test_an_unreadable_body_is_stored_and_the_provider_is_asked_at_once(
    body: bytes, service: Service, provider: Provider
) -> None:
    task = await _submitted(service, GATEWAY)
    provider.on_check(GATEWAY, says(GATEWAY.done(ID, URL)))
    assert await service.call_back(task["id"], body) == "unreadable"
    task = await service.until_state(task["id"], "succeeded")
    assert (task["settled_by"], task["evidence"]["token"]) == ("check", False)
    assert service.database.rows("SELECT body FROM delivery") == [(body,)]


@pytest.mark.parametrize("state", ["unconfirmed", "queued", "cancelled", "succeeded", "failed"])
async def test_an_unreadable_body_changes_no_state(state: str, service: Service) -> None:
    task = await MADE[state](service, REVID)
    assert await service.call_back(task["id"], b"?") == "unreadable"
    assert (await service.task(task["id"]))["state"] == state


# --- JSON inside JSON

RESULTS: dict[str, tuple[Any, list[str]]] = {
    "text": (json.dumps({"resultUrls": [URL]}), [URL]),
    "object": ({"resultUrls": [URL]}, [URL]),
    "twice-encoded": (json.dumps(json.dumps({"resultUrls": [URL]})), [URL]),
    "a-lone-url": (json.dumps({"resultUrls": URL}), [URL]),
}
PARAMS: dict[str, Any] = {
    "text": '{"model":"x"}',
    "object": {"model": "x"},
    "empty": "",
    "null": None,
    "broken": '{"model":',
    "number": 5,
    "twice-encoded": json.dumps(json.dumps({"a": 1})),
}


@pytest.mark.parametrize("result", RESULTS)
async def test_nested_json_of_any_kind_is_survived_and_param_spoils_nothing(result: str, service: Service) -> None:
    given, urls = RESULTS[result]
    for name, param in PARAMS.items():
        service.provider.on_create(REVID, says(REVID.accepted(name)))
        task = await service.order(REVID.order())
        assert await service.call_back(task["id"], revid_done(name, param=param, resultJson=given)) == "applied", name
        assert [output["url"] for output in (await service.task(task["id"]))["outputs"]] == urls, name


async def test_a_result_that_is_not_files_is_kept_as_the_result(service: Service) -> None:
    task = await _submitted(service, REVID)
    body = revid_done(ID, resultJson='{"resultObject":{"text":"hello"}}')
    assert await service.call_back(task["id"], body) == "applied"
    task = await service.task(task["id"])
    assert (task["state"], task["result"], task["outputs"]) == ("succeeded", {"text": "hello"}, [])


async def test_waiting_with_a_filled_result_is_waiting(service: Service) -> None:
    task = await _submitted(service, REVID)
    body = {"code": 200, "data": {"taskId": ID, "state": "waiting", "resultJson": json.dumps({"resultUrls": [URL]})}}
    assert await service.call_back(task["id"], body) == "applied"
    task = await service.task(task["id"])
    assert (task["state"], task["remote_state"], task["outputs"]) == ("submitted", "waiting", [])
    assert await service.call_back(task["id"], body) == "repeated"


# --- many


async def test_stored_deliveries_are_bounded_and_what_later_ones_say_still_counts(service: Service) -> None:
    task = await _submitted(service, GATEWAY)
    bodies = [gateway_at(f"{n / 2:g}%")(ID) for n in range(150)]
    for body in bodies:
        await service.call_back(task["id"], body)
    [(stored,)] = service.database.rows("SELECT count(*) FROM delivery")
    task = await service.task(task["id"])
    assert task["deliveries"] == stored < 150
    assert stored >= 50, "an ordinary task's callbacks are all kept"
    assert [counted for (counted,) in service.database.rows("SELECT unstored FROM task")] == [150 - stored]
    assert task["notices"]
    assert task["progress"] == 0.745
    assert await service.call_back(task["id"], GATEWAY.done(ID, URL)) == "applied"
    assert (await service.task(task["id"]))["state"] == "succeeded"


async def test_callbacks_of_one_task_at_once_settle_it_once(stage: Stage) -> None:
    async with stage.serve() as one, stage.serve() as other:
        task = await _submitted(one, REVID)
        bodies = [REVID.done(ID, URL), REVID.working(ID), REVID.waiting(ID)] * 10
        outcomes = await asyncio.gather(
            *(service.call_back(task["id"], body) for body in bodies for service in (one, other))
        )
        moves = await one.moves(task["id"])
        assert moves[-1] == "succeeded"
        assert moves.count("succeeded") == 1
        assert outcomes.count("applied") == len(moves) - 2
        assert len((await one.task(task["id"]))["outputs"]) == 1
