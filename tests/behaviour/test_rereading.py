"""A whole history is read again with a mended adapter: what would change is shown before, and goes the one way in."""

import json
from typing import Any

import pytest

from receiver.tasks.rereading import Change, carry_out, preview
from tests.behaviour.families import GATEWAY, REVID, RIVYA, Body
from tests.behaviour.provider import Provider, says
from tests.behaviour.service import Service, Stage

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/out.mp4"


async def would_change(service: Service, since: int = 0) -> list[Change]:
    return await preview(service.app.state.services, since)


async def do(service: Service, changes: list[Change]) -> list[Change]:
    return await carry_out(service.app.state.services, changes)


def told(change: Change) -> tuple[Any, ...]:
    assert change.after is not None
    was = change.before.state.value if change.before else None
    return change.heard.kind, was, change.after.state.value, change.after.remote_id, change.after.outputs


def mend(service: Service, table: str, column: str, body: Body) -> None:
    """Stand in for a mended adapter: what could not be read before can be read now."""
    with service.database.connected() as connection:
        connection.execute(f"UPDATE {table} SET {column} = ?", (json.dumps(body).encode(),))  # noqa: S608


def everything(service: Service) -> list[Any]:
    """All that is stored of tasks, to see that a look changes none of it."""
    tables = ("task", "output", "history", "attempt", "delivery", "status_check")
    return [service.database.rows(f"SELECT * FROM {table}") for table in tables]  # noqa: S608


async def test_the_answer_to_a_check_is_read_again_and_settles_its_task(service: Service, provider: Provider) -> None:
    provider.on_create(GATEWAY, says(GATEWAY.accepted("g1")))
    provider.on_check(GATEWAY, says({"task_id": "g1", "status": "FROBNICATED"}))
    task = await service.order(GATEWAY.order())
    await service.poll_when_due(task["id"])
    assert (await service.until_checked(task["id"]))["state"] == "running"
    assert await would_change(service) == []

    mend(service, "status_check", "answer", GATEWAY.done("g1", URL))
    before = everything(service)
    [change] = await would_change(service)
    assert told(change) == ("check", "running", "succeeded", "g1", (URL,))
    assert everything(service) == before, "a look changes nothing"
    asked = len(provider.asked())
    assert [told(made) for made in await do(service, [change])] == [told(change)]
    done = await service.task(task["id"])
    assert (done["state"], done["settled_by"], done["outputs"][0]["url"]) == ("succeeded", "check", URL)
    [note] = await service.history(task["id"], "note")
    assert (note["check"], note["outcome"]) == (change.heard.id, "applied")
    assert "was read again: applied." in note["text"]
    assert len(provider.asked()) == asked, "nothing was asked for it"
    assert await would_change(service) == [], "and then there is nothing left"
    assert await do(service, [change]) == []


async def test_a_callback_is_read_again_by_the_way_that_it_came(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, says(REVID.accepted("r1")))
    task = await service.order(REVID.order())
    assert await service.call_back(task["id"], b"?") == "unreadable"
    mend(service, "delivery", "body", REVID.done("r1", URL))
    [change] = await would_change(service)
    assert told(change) == ("delivery", "submitted", "succeeded", "r1", (URL,))
    [made] = await do(service, [change])
    assert told(made) == told(change)
    done = await service.task(task["id"])
    assert (done["state"], done["settled_by"], done["deliveries"]) == ("succeeded", "callback", 1)


async def test_an_order_whose_answer_was_not_understood_is_followed_and_never_sent_again(
    service: Service, provider: Provider
) -> None:
    provider.on_create(GATEWAY, says({"code": 200, "odd": {"place": "g1"}}))
    task = await service.order(GATEWAY.order())
    assert task["state"] == "unconfirmed"
    mend(service, "attempt", "answer", {"code": 200, "data": [{"task_id": "g1"}]})
    [change] = await would_change(service)
    assert told(change) == ("attempt", "unconfirmed", "submitted", "g1", ())
    await do(service, [change])
    taken = await service.task(task["id"])
    assert (taken["state"], taken["remote_id"]) == ("submitted", "g1")
    assert len(provider.bought()) == 1


async def test_an_order_that_was_refused_in_words_not_known_then_is_failed(
    service: Service, provider: Provider
) -> None:
    provider.on_create(GATEWAY, says({"error": {"message": "?"}}, status=503))
    task = await service.order(GATEWAY.order())
    assert task["state"] == "unconfirmed"
    mend(service, "attempt", "answer", {"error": {"code": "model_not_found", "message": "none"}})
    [change] = await would_change(service)
    await do(service, [change])
    failed = await service.task(task["id"])
    assert (failed["state"], failed["error"]["code"]) == ("failed", "model_not_found")
    assert service.database.rows("SELECT may_have_bought, outcome FROM attempt") == [(0, "refused")]
    assert service.database.rows("SELECT may_have_cost FROM task") == [(0,)]


async def test_a_refusal_of_a_repeat_does_not_undo_what_the_first_try_may_have_bought(
    service: Service, provider: Provider
) -> None:
    provider.on_create(RIVYA, says({}, status=500), says({}, status=500))
    task = await service.order(RIVYA.order())
    await service.poll_when_due(task["id"])
    await service.poll_after(3600)
    assert (await service.until_state(task["id"], "unconfirmed"))["attempts"] == 2
    mend(service, "attempt", "answer", {"error": {"code": "insufficient_credits", "message": "none"}})
    assert await would_change(service) == []


async def test_of_a_task_the_latest_end_counts_and_one_that_lacks_nothing_is_left_alone(
    service: Service, provider: Provider
) -> None:
    provider.on_create(REVID, says(REVID.accepted("r1")), says(REVID.accepted("r2")))
    done, working = [await service.order(REVID.order()) for _ in range(2)]
    await service.call_back(done["id"], REVID.done("r1", URL))
    await service.call_back(working["id"], REVID.working("r2"))
    before = everything(service)
    assert await would_change(service) == []
    mend(service, "delivery", "body", REVID.failed("r1"))
    assert await would_change(service) == [], "one has its result, and the other is not named"
    assert everything(service)[:4] == before[:4]


async def test_only_what_came_since_the_time_is_read(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, says(REVID.accepted("r1")))
    task = await service.order(REVID.order())
    await service.call_back(task["id"], b"?")
    mend(service, "delivery", "body", REVID.done("r1", URL))
    assert await would_change(service, service.clock() + 1) == []
    assert len(await would_change(service, service.clock())) == 1


async def test_what_was_cut_or_belongs_to_an_account_that_is_gone_changes_nothing(stage: Stage) -> None:
    stage.provider.on_create(GATEWAY, says(GATEWAY.accepted("g1")))
    stage.provider.on_check(GATEWAY, says({"task_id": "g1", "status": "FROBNICATED"}))
    async with stage.serve() as service:
        task = await service.order(GATEWAY.order())
        await service.poll_when_due(task["id"])
        await service.until_checked(task["id"])
        mend(service, "status_check", "answer", {**GATEWAY.done("g1", URL), "more": "x" * 70_000})
        assert await would_change(service) == []
        mend(service, "status_check", "answer", GATEWAY.done("g1", URL))
    async with stage.serve(GATEWAY_API_KEY=None, GATEWAY_BASE_URL=None) as service:
        assert await would_change(service) == []


async def test_a_callback_that_needs_its_confirmation_is_confirmed(stage: Stage) -> None:
    stage.provider.on_create(GATEWAY, says(GATEWAY.accepted("g1")))
    stage.provider.on_check(GATEWAY, says(GATEWAY.working("g1")))
    async with stage.serve(CONFIRM="always") as service:
        task = await service.order(GATEWAY.order())
        await service.call_back(task["id"], b"?")
        await service.until_checked(task["id"])
        mend(service, "delivery", "body", GATEWAY.done("g1", URL))
        [change] = await would_change(service)
        assert change.asks
        stage.provider.on_check(GATEWAY, says(GATEWAY.done("g1", URL)))
        await do(service, [change])
        assert (await service.until_state(task["id"], "succeeded"))["settled_by"] == "callback"
