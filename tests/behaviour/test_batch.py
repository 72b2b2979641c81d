"""`POST /api/tasks/batch`: each task succeeds or fails alone, and nothing is bought twice."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.behaviour.families import APIXO, REVID
from tests.behaviour.provider import Provider, says, slams
from tests.behaviour.service import Service, Task

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/a.mp4"
NOBODY = "tsk_00000000000000000000000000"


async def batch(service: Service, status: int = 200, key: str | None = None, **body: Any) -> Any:
    headers = {} if key is None else {"Idempotency_Key": key}
    answer = await service.post("/api/tasks/batch", body, **headers)
    assert answer.status_code == status, answer.text
    return answer.json() if status != 200 else answer.json()["results"]


async def failed(service: Service, number: int = 1, **more: Any) -> list[str]:
    tasks = [await service.order(REVID.order(**more)) for _ in range(number)]
    for task in tasks:
        await service.call_back(task["id"], REVID.failed(task["remote_id"]))
    return [task["id"] for task in tasks]


async def queued(service: Service, number: int = 1) -> list[str]:
    service.provider.on_create(REVID, says({"message": "busy"}, 429, Retry_After="60"))
    return [(await service.order(REVID.order()))["id"] for _ in range(number)]


async def test_each_task_has_its_own_result_in_the_order_that_was_given(service: Service) -> None:
    first, second = await queued(service, 2)
    done = (await service.order(APIXO.order()))["id"]
    results = await batch(service, action="cancel", ids=[second, NOBODY, first, done])
    assert [(result["id"], result["ok"]) for result in results] == [
        (second, True),
        (NOBODY, False),
        (first, True),
        (done, False),
    ]
    assert results[0]["task"] == await service.task(second)
    assert results[0]["task"]["state"] == "cancelled"
    assert (results[1]["problem"]["status"], "task" in results[1]) == (404, False)
    (again,) = await batch(service, action="cancel", ids=[first])
    assert again["problem"]["status"] == 409


async def test_every_action_does_what_the_single_one_does(service: Service, provider: Provider) -> None:
    running = await service.order(REVID.order())
    provider.on_check(REVID, says(REVID.done(running["remote_id"], URL)))
    (checked,) = await batch(service, action="check", ids=[running["id"]])
    assert checked["task"]["state"] == "succeeded"
    provider.on_create(REVID, slams())
    unclear = (await service.order(REVID.order()))["id"]
    (acknowledged,) = await batch(service, action="acknowledge", ids=[unclear])
    assert acknowledged["task"]["state"] == "unconfirmed"
    assert (await service.client.get("/api/attention")).json()["items"] == []
    (closed,) = await batch(service, action="not_bought", ids=[unclear])
    assert closed["task"]["error"]["code"] == "not_bought"


async def test_a_filter_has_the_parameters_of_the_list_and_tells_what_it_left_out(service: Service) -> None:
    marked = await failed(service, 3, metadata={"job": "7"})
    await failed(service)
    found: list[str] = []
    cursor = None
    while True:
        wanted = {"state": "failed", "metadata.job": "7", "limit": 2} | ({"cursor": cursor} if cursor else {})
        answer = (await service.post("/api/tasks/batch", {"action": "acknowledge", "filter": wanted})).json()
        found += [result["id"] for result in answer["results"]]
        cursor = answer["next"]
        if cursor is None:
            break
    assert found == marked[::-1]
    assert await batch(service, action="retry", filter={"state": ["queued"], "provider": "apixo"}) == []


@pytest.mark.row("B18")
async def test_a_repeat_after_a_lost_answer_buys_nothing_twice(service: Service, provider: Provider) -> None:
    tasks = await failed(service, 3)
    before = len(provider.bought())
    order: dict[str, Any] = {"action": "retry", "filter": {"state": ["failed"]}}
    first = await batch(service, key="batch-1", **order)
    assert len(provider.bought()) == before + 3
    news = [result["task"]["id"] for result in first]
    assert [result["task"]["retry_of"] for result in first] == [result["id"] for result in first] == tasks[::-1]
    for task in news:  # now the filter matches these, too
        await service.call_back(task, REVID.failed((await service.task(task))["remote_id"]))
    again = await batch(service, key="batch-1", **order)
    assert [(result["id"], result["task"]["id"]) for result in again] == [*zip(tasks[::-1], news, strict=True)]
    assert len(provider.bought()) == before + 3
    other = await batch(service, 409, key="batch-1", action="retry", ids=tasks)
    assert "another batch" in other["detail"]


@pytest.mark.row("B18")
async def test_equal_batches_that_race_order_each_task_once(service: Service, provider: Provider) -> None:
    tasks = await failed(service, 3)
    before = len(provider.bought())
    order: dict[str, Any] = {"action": "retry", "ids": tasks}
    answers = await asyncio.gather(*(batch(service, key="race", **order) for _ in range(5)))
    assert len({json.dumps([result["task"]["id"] for result in answer]) for answer in answers}) == 1
    assert len(provider.bought()) == before + 3


async def test_a_repeated_cancellation_under_a_key_is_no_conflict(service: Service) -> None:
    ids = await queued(service, 2)
    for _ in range(2):
        results = await batch(service, key="stop", action="cancel", ids=ids)
        assert [result["task"]["state"] for result in results] == ["cancelled"] * 2


# --- the limit


@pytest.mark.row("B18")
async def test_nothing_is_ordered_above_the_limit(service: Service, provider: Provider) -> None:
    tasks = await failed(service, 3)
    price = (await service.task(tasks[0]))["credits"]["estimated"]
    before = len(provider.bought())
    refused = await batch(service, 409, key="dear", action="retry", ids=tasks, max_credits=3 * price - 0.5)
    assert str(3 * price) in refused["detail"]
    assert len(provider.bought()) == before
    results = await batch(service, key="dear", action="retry", ids=tasks, max_credits=3 * price)
    assert all(result["ok"] for result in results), "what was refused has not used the key"
    assert len(provider.bought()) == before + 3


async def test_only_what_would_be_ordered_counts(service: Service, provider: Provider) -> None:
    (task,) = await failed(service)
    running = await service.order(REVID.order())
    price = running["credits"]["estimated"]
    before = len(provider.bought())
    results = await batch(service, action="retry", ids=[task, running["id"], NOBODY], max_credits=price)
    assert [result["ok"] for result in results] == [True, False, False]
    assert len(provider.bought()) == before + 1


async def test_an_unknown_price_is_refused_where_there_is_a_limit(service: Service, provider: Provider) -> None:
    unknown = await service.order({**REVID.order(), "model": "nobody-knows"})
    await service.call_back(unknown["id"], REVID.failed(unknown["remote_id"]))
    known = await failed(service)
    before = len(provider.bought())
    refused = await batch(service, 409, action="retry", ids=[*known, unknown["id"]], max_credits=10**6)
    assert unknown["id"] in refused["detail"]
    assert len(provider.bought()) == before
    assert all(result["ok"] for result in await batch(service, action="retry", ids=[*known, unknown["id"]]))


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"action": "cancel"}, "ids"),
        ({"action": "cancel", "ids": ["a"], "filter": {}}, "ids"),
        ({"action": "cancel", "ids": ["a", "a"]}, "ids"),
        ({"action": "cancel", "ids": []}, "ids"),
        ({"action": "cancel", "ids": ["a"] * 501}, "ids"),
        ({"action": "cancel", "ids": [7]}, "ids"),
        ({"action": "cancel", "ids": "a"}, "ids"),
        ({"action": "explode", "ids": ["a"]}, "action"),
        ({"ids": ["a"]}, "action"),
        ({"action": "cancel", "ids": ["a"], "max_credits": 1}, "max_credits"),
        ({"action": "retry", "ids": ["a"], "max_credits": -1}, "max_credits"),
        ({"action": "retry", "ids": ["a"], "max_credits": "7"}, "max_credits"),
        ({"action": "cancel", "filter": {"stat": "queued"}}, "stat"),
        ({"action": "cancel", "filter": {"state": "gone"}}, "state"),
        ({"action": "cancel", "filter": {"limit": 501}}, "limit"),
        ({"action": "cancel", "filter": {"metadata.a": 7}}, "metadata.a"),
        ({"action": "cancel", "filter": []}, "filter"),
        ({"action": "cancel", "ids": ["a"], "more": 1}, "more"),
    ],
    ids=str,
)
async def test_what_is_wrong_is_refused_by_name(service: Service, body: dict[str, Any], named: str) -> None:
    answer: httpx.Response = await service.post("/api/tasks/batch", body)
    assert answer.status_code == 422, answer.text
    assert named in json.dumps(answer.json()["errors"])
    assert (await service.post("/api/tasks/batch?x=1", {"action": "cancel", "ids": ["a"]})).status_code == 422
    assert (await service.post("/api/tasks/batch", [])).status_code == 400


# --- deliveries


async def test_all_deliveries_are_listed_newest_first(service: Service) -> None:
    tasks: list[Task] = [await service.order(family.order()) for family in (REVID, APIXO)]
    for task, family in zip(tasks, (REVID, APIXO), strict=True):
        await service.call_back(task["id"], family.working(task["remote_id"]))
        await service.call_back(task["id"], b"no JSON")
    first = (await service.client.get("/api/deliveries", params={"limit": 3})).json()
    rest = (await service.client.get("/api/deliveries", params={"limit": 3, "cursor": first["next"]})).json()
    found = first["deliveries"] + rest["deliveries"]
    assert [(each["task"], each["outcome"]) for each in found] == [
        (tasks[1]["id"], "unreadable"),
        (tasks[1]["id"], "applied"),
        (tasks[0]["id"], "unreadable"),
        (tasks[0]["id"], "applied"),
    ]
    assert (len(first["deliveries"]), rest["next"]) == (3, None)

    async def listed(**query: Any) -> list[Any]:
        answer = await service.client.get("/api/deliveries", params=query)
        assert answer.status_code == 200, answer.text
        return [each["id"] for each in answer.json()["deliveries"]]

    ids = [each["id"] for each in found]
    assert await listed(provider="revid") == ids[2:]
    assert await listed(outcome="unreadable") == ids[::2]
    assert await listed(since=found[0]["received_at"]) == ids
    assert await listed(until=found[0]["received_at"]) == []
    for wrong in ("outcome=x", "since=7", "cursor=0", "cursor=x", "x=1", f"cursor={2**64}"):
        assert (await service.client.get(f"/api/deliveries?{wrong}")).status_code == 422, wrong


async def test_a_delivery_is_read_again(service: Service) -> None:
    task = await service.order(REVID.order())
    await service.call_back(task["id"], b"no JSON")
    (stored,) = (await service.client.get("/api/deliveries")).json()["deliveries"]
    answer = await service.post(f"/api/deliveries/{stored['id']}/replay")
    assert answer.json() == {
        "delivery": stored["id"],
        "was": "unreadable",
        "outcome": "unreadable",
        "task": task["id"],
        "state": "submitted",
    }
    for nothing in ("0", "999", "x", "-1", "9" * 40, "٣"):
        assert (await service.post(f"/api/deliveries/{nothing}/replay")).status_code == 404
    assert (await service.post(f"/api/deliveries/{stored['id']}/replay", {"a": 1})).status_code == 422
