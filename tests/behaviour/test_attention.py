"""The attention list: a task is on it exactly as long as a person should look at it."""

import re
from typing import Any

import pytest

from receiver.core.attention import Reason, advise
from tests.behaviour.families import APIXO, REVID, RIVYA
from tests.behaviour.provider import Provider, says, slams
from tests.behaviour.service import Service, Stage, Task

pytestmark = [pytest.mark.anyio, pytest.mark.row("B17")]

URL = "https://cdn.example.com/a.mp4"
DAY = 86_400


async def items(service: Service, **query: Any) -> list[dict[str, Any]]:
    answer = await service.client.get("/api/attention", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def reasons(service: Service, task: Task) -> list[str]:
    return [item["reason"] for item in await items(service) if item["task"]["id"] == task["id"]]


async def unclear(service: Service) -> Task:
    service.provider.on_create(REVID, slams())
    task = await service.order(REVID.order())
    assert task["state"] == "unconfirmed"
    return task


async def expired(service: Service) -> Task:
    task = await service.order(REVID.order())
    service.provider.on_check(REVID, says({"message": "gone"}, 404))
    await service.poll_after(DAY)
    return await service.until_state(task["id"], "expired")


async def test_an_unclear_order_is_listed_until_its_callback_settles_it(service: Service) -> None:
    task = await unclear(service)
    (item,) = await items(service)
    assert (item["reason"], item["task"]) == ("unconfirmed", await service.task(task["id"]))
    assert "adopt" in item["advice"]
    assert item["since"] == item["task"]["updated_at"]
    await service.call_back(task["id"], REVID.done("r-1", URL))
    assert await items(service) == []


async def test_an_unclear_order_that_expires_is_listed_as_expired_only(service: Service) -> None:
    task = await unclear(service)
    await service.poll_after(DAY)
    assert await reasons(service, task) == ["expired"]
    answer = await service.post(f"/api/tasks/{task['id']}/adopt", {"not_bought": True})
    assert answer.json()["state"] == "failed"
    assert await items(service) == []


async def test_an_expired_task_is_listed_until_its_result_comes(service: Service) -> None:
    task = await expired(service)
    assert await reasons(service, task) == ["expired"]
    await service.call_back(task["id"], REVID.done(task["remote_id"], URL))
    assert (await service.task(task["id"]))["state"] == "succeeded"
    assert await items(service) == []


async def test_an_order_that_was_never_sent_comes_last_and_says_so(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, says({"message": "busy"}, 429, Retry_After="60"))
    never = await service.order(REVID.order())
    await service.poll_after(DAY)
    provider.on_create(REVID, slams())
    unpriced = await service.order({**REVID.order(), "model": "nobody-knows-what-it-costs"})
    found = await items(service)
    assert [item["task"]["id"] for item in found] == [unpriced["id"], never["id"]]
    assert "nothing was bought" in found[1]["advice"]
    assert "nothing was bought" not in found[0]["advice"]


async def test_a_success_without_a_result_is_listed_until_it_comes(service: Service, provider: Provider) -> None:
    task = await service.order(REVID.order())
    provider.on_check(REVID, says(REVID.done(task["remote_id"])))
    for _ in range(5):
        assert await items(service) == []
        await service.poll_when_due(task["id"])
    assert (await service.task(task["id"]))["state"] == "succeeded"
    assert await reasons(service, task) == ["paid_without_result"]
    await service.call_back(task["id"], REVID.done(task["remote_id"], URL))
    assert await items(service) == []


@pytest.mark.parametrize(
    "words",
    [
        "failed, then succeeded; the provider says succeeded",
        "failed, then succeeded; the provider says failed",
        "failed, then succeeded; the provider says running: listed",
        "succeeded, then failed; the provider says failed: listed",
        "succeeded, then failed; the provider says succeeded",
    ],
)
async def test_a_contradiction_is_listed_until_the_provider_itself_decides_it(
    service: Service, provider: Provider, words: str
) -> None:
    ends, then, truth = re.findall("failed|succeeded|running", words)
    task = await service.order(APIXO.order())
    told = {
        "failed": APIXO.failed(task["remote_id"]),
        "succeeded": APIXO.done(task["remote_id"], URL),
        "running": APIXO.working(task["remote_id"]),
    }
    await service.call_back(task["id"], told[ends])
    assert await items(service) == []
    provider.on_check(APIXO, says(told[truth]))
    assert await service.call_back(task["id"], told[then]) == "confirming"
    await service.until_checked(task["id"])
    assert await reasons(service, task) == (["contradiction"] if words.endswith("listed") else [])


async def test_a_contradiction_that_no_check_decides_is_listed_again_at_the_deadline(
    service: Service, provider: Provider
) -> None:
    task = await service.order(APIXO.order())
    await service.call_back(task["id"], APIXO.failed(task["remote_id"]))
    provider.on_check(APIXO, says({"message": "gone"}, 404))
    await service.call_back(task["id"], APIXO.done(task["remote_id"], URL))
    await service.until_checked(task["id"])
    assert await reasons(service, task) == ["contradiction"]
    await service.post(f"/api/tasks/{task['id']}/acknowledge")
    await service.poll_after(DAY)
    await service.poll_after(DAY)
    assert await reasons(service, task) == ["contradiction"]


async def test_a_failure_that_was_charged_is_listed_until_it_turns_out_a_success(
    service: Service, provider: Provider
) -> None:
    task = await service.order(RIVYA.order())
    provider.on_check(RIVYA, says({**RIVYA.failed(task["remote_id"]), "final_credits": 5}))
    await service.poll_when_due(task["id"])
    assert (await service.task(task["id"]))["state"] == "failed"
    assert await reasons(service, task) == ["charged_but_failed"]
    free = await service.order(RIVYA.order())
    provider.on_check(RIVYA, says(RIVYA.failed(free["remote_id"])))
    await service.poll_when_due(free["id"])
    assert await reasons(service, free) == []
    provider.on_check(RIVYA, says(RIVYA.done(task["remote_id"], URL)))
    await service.post(f"/api/tasks/{task['id']}/check")
    assert (await service.task(task["id"]))["state"] == "succeeded"
    assert await items(service) == []


async def test_the_most_costly_comes_first_and_the_counts_are_of_all(service: Service, provider: Provider) -> None:
    for family in (REVID, RIVYA):
        provider.on_create(family, slams())
    cheap = await service.order(RIVYA.order())
    dear = await service.order(REVID.order())
    await service.poll_after(15 * 60)  # until then a clear key lets the cheap one be repeated
    answer = (await service.client.get("/api/attention", params={"limit": 1})).json()
    assert [item["task"]["id"] for item in answer["items"]] == [dear["id"]]
    assert answer["counts"] == {"unconfirmed": 2}
    assert dear["credits"]["estimated"] > cheap["credits"]["estimated"] > 0
    assert [item["task"]["id"] for item in await items(service)] == [dear["id"], cheap["id"]]
    for wrong in ("0", "201", "x"):
        assert (await service.client.get(f"/api/attention?limit={wrong}")).status_code == 422


async def test_an_acknowledged_task_is_gone_until_something_new_happens_to_it(service: Service) -> None:
    task = await unclear(service)
    answer = await service.post(f"/api/tasks/{task['id']}/acknowledge")
    assert (answer.status_code, answer.json()["id"]) == (200, task["id"])
    assert await items(service) == []
    assert "unconfirmed" in (await service.history(task["id"], "note"))[-1]["text"]
    assert (await service.post(f"/api/tasks/{task['id']}/acknowledge")).status_code == 200
    assert len(await service.history(task["id"], "note")) == 1
    await service.poll_after(DAY)
    assert await reasons(service, task) == ["expired"]
    assert (await service.post("/api/tasks/tsk_00000000000000000000000000/acknowledge")).status_code == 404


async def test_what_usually_happens_pays_nothing_for_the_list(stage: Stage) -> None:
    async with stage.serve() as service:
        statements: list[str] = []

        def watch(tx: Any) -> None:
            tx._cursor.connection.set_trace_callback(statements.append)

        await service.app.state.services.store.write(watch)
        task = await service.order(REVID.order())
        await service.call_back(task["id"], REVID.working(task["remote_id"]))
        await service.call_back(task["id"], REVID.done(task["remote_id"], URL))
        failed = await service.order(REVID.order())
        await service.call_back(failed["id"], REVID.failed(failed["remote_id"]))
    assert any("INSERT INTO delivery" in each for each in statements)
    assert not any("attention" in each for each in statements)


def test_every_reason_has_its_own_advice() -> None:
    sentences = {advise(reason, may_have_cost=True) for reason in Reason} | {advise("x", may_have_cost=True)}
    assert len(sentences) == len(Reason) + 1
    assert all(each.endswith(".") and len(each) < 300 for each in sentences)
