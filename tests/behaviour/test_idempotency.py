"""Interface, section 3: `Idempotency-Key` on `POST /api/tasks` and on a retry."""

import asyncio
import json
from typing import Any

import pytest

from tests.behaviour.families import FAMILIES, REVID, RIVYA, Family
from tests.behaviour.provider import Provider, Received, after, says, slams
from tests.behaviour.service import Service, Stage

pytestmark = pytest.mark.anyio

every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))


async def test_the_same_key_with_an_equal_body_is_the_same_task(service: Service, provider: Provider) -> None:
    first = await service.post("/api/tasks", REVID.order(), Idempotency_Key="k")
    again = await service.post("/api/tasks", REVID.order(), Idempotency_Key="k")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"] == f"/api/tasks/{first.json()['id']}"
    assert len(provider.bought()) == 1


EQUAL = [
    pytest.param('{"a": 1, "b": {"c": [1, 2], "d": null}}', '{"b":{"d":null,"c":[1,2]},"a":1}', id="order-and-blanks"),
    pytest.param('{"t": "\\u00e9\\/"}', '{"t": "é/"}', id="escapes"),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
async def test_equal_json_written_in_another_way_is_an_equal_body(one: str, other: str, service: Service) -> None:
    def written(metadata: str) -> str:
        order = json.dumps(REVID.order())
        return f'{order[:-1]}, "metadata": {metadata}}}'

    headers = {"Idempotency-Key": "k"}
    first = await service.client.post("/api/tasks", content=written(one).encode(), headers=headers)
    again = await service.client.post("/api/tasks", content=written(other).encode(), headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"]


OTHER: list[dict[str, Any]] = [
    {"input": {"prompt": "another"}},
    {"metadata": {"a": 1}},
    {"validate": False},
    {"model": "sora-2-pro-text-to-video", "input": {"prompt": "a lively classroom", "size": "high"}},
]


@pytest.mark.row("B7")
@pytest.mark.parametrize("change", OTHER, ids=["input", "metadata", "validate", "model"])
async def test_the_same_key_with_another_body_is_a_conflict(
    change: dict[str, Any], service: Service, provider: Provider
) -> None:
    await service.order(REVID.order(), Idempotency_Key="k")
    answer = await service.post("/api/tasks", REVID.order() | change, Idempotency_Key="k")
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(provider.bought()) == 1


async def test_lists_in_another_order_are_another_body(service: Service) -> None:
    await service.order(REVID.order(metadata={"l": [1, 2]}), Idempotency_Key="k")
    answer = await service.post("/api/tasks", REVID.order(metadata={"l": [2, 1]}), Idempotency_Key="k")
    assert answer.status_code == 409


async def test_another_key_is_another_task(service: Service, provider: Provider) -> None:
    one = await service.order(REVID.order(), Idempotency_Key="k")
    other = await service.order(REVID.order(), Idempotency_Key="K")
    assert one["id"] != other["id"]
    assert len(provider.bought()) == 2


@pytest.mark.row("B7")
@every_family
async def test_fifty_at_once_under_one_key_buy_once(family: Family, service: Service, provider: Provider) -> None:
    async def slowly(_: Received) -> None:
        await provider.until(lambda: len(provider.bought()) == 1)
        await asyncio.sleep(0)

    provider.on_create(family, after(slowly, says(family.accepted("r-1"))))
    answers = await asyncio.gather(
        *(service.post("/api/tasks", family.order(), Idempotency_Key="race") for _ in range(50))
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 49 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert {answer.json()["state"] for answer in answers} == {"submitted"}, "each answers when the first try has ended"
    assert len(provider.bought()) == 1


@pytest.mark.row("B7")
async def test_two_services_on_one_database_buy_once(stage: Stage) -> None:
    async with stage.serve() as one, stage.serve() as other:
        answers = await asyncio.gather(
            *(it.post("/api/tasks", REVID.order(), Idempotency_Key="race") for it in (one, other) * 5)
        )
        assert sorted(answer.status_code for answer in answers) == [200] * 9 + [201]
        assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(stage.provider.bought()) == 1


@pytest.mark.row("B7")
async def test_racing_with_other_bodies_one_wins_and_the_others_conflict(service: Service, provider: Provider) -> None:
    answers = await asyncio.gather(
        *(service.post("/api/tasks", REVID.order(f"prompt {n}"), Idempotency_Key="race") for n in range(10))
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
    assert len(provider.bought()) == 1


@pytest.mark.row("B7")
async def test_a_key_survives_a_restart(stage: Stage) -> None:
    async with stage.serve() as service:
        task = await service.order(REVID.order(), Idempotency_Key="k")
    async with stage.serve() as service:
        answer = await service.post("/api/tasks", REVID.order(), Idempotency_Key="k")
        assert (answer.status_code, answer.json()["id"]) == (200, task["id"])
    assert len(stage.provider.bought()) == 1


async def test_a_key_still_finds_its_task_after_its_provider_was_taken_away(stage: Stage) -> None:
    async with stage.serve() as service:
        task = await service.order(REVID.order(), Idempotency_Key="k")
    async with stage.serve(REVID_API_KEY=None) as service:
        answer = await service.post("/api/tasks", REVID.order(), Idempotency_Key="k")
        assert (answer.status_code, answer.json()["id"]) == (200, task["id"])


INVALID: list[dict[str, Any]] = [
    {"provider": "nobody", "model": "m", "input": {}},
    {**REVID.order(), "input": {"prompt": "", "n_frames": 10}},
    {**REVID.order(), "input": {"prompt": "x", "callBackUrl": "https://me.example"}},
    {**REVID.order(), "unknown": 1},
]


@pytest.mark.parametrize("wrong", INVALID, ids=["provider", "input", "owned", "field"])
async def test_a_422_uses_no_key(wrong: dict[str, Any], service: Service, provider: Provider) -> None:
    assert (await service.post("/api/tasks", wrong, Idempotency_Key="k")).status_code == 422
    assert (await service.client.get("/api/tasks")).json()["tasks"] == []
    assert (await service.post("/api/tasks", REVID.order(), Idempotency_Key="k")).status_code == 201
    assert len(provider.bought()) == 1


@pytest.mark.parametrize("key", ["k" * 255, "!", "a b ~ \" ' \\ {}"], ids=["longest", "one", "odd"])
async def test_a_key_of_printable_ascii_is_taken(key: str, service: Service) -> None:
    assert (await service.post("/api/tasks", REVID.order(), Idempotency_Key=key)).status_code == 201
    assert (await service.post("/api/tasks", REVID.order(), Idempotency_Key=key)).status_code == 200


@pytest.mark.parametrize(
    "key",
    [b"k" * 256, "schlüssel".encode(), "schlüssel".encode("latin-1"), b"a\tb", b"", b"\x7f"],
    ids=["256", "utf-8", "latin-1", "tab", "empty", "del"],
)
async def test_any_other_key_is_refused(key: bytes, service: Service, provider: Provider) -> None:
    content = json.dumps(REVID.order()).encode()
    answer = await service.client.post("/api/tasks", content=content, headers=[(b"Idempotency-Key", key)])
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["header", "Idempotency-Key"]
    assert provider.bought() == []


# --- retries


async def test_a_retry_under_the_same_key_is_the_same_new_task(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, says({"code": 402, "msg": "balance"}, 402), says(REVID.accepted("r-2")))
    task = await service.order(REVID.order())
    first = await service.post(f"/api/tasks/{task['id']}/retry", Idempotency_Key="again")
    second = await service.post(f"/api/tasks/{task['id']}/retry", Idempotency_Key="again")
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"] != task["id"]
    assert len(provider.bought()) == 2


@pytest.mark.row("B8")
async def test_twenty_retries_at_once_under_one_key_buy_once(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, says({"code": 402, "msg": "balance"}, 402), says(REVID.accepted("r-2")))
    task = await service.order(REVID.order())
    path = f"/api/tasks/{task['id']}/retry"
    answers = await asyncio.gather(*(service.post(path, Idempotency_Key="again") for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert len(provider.bought()) == 2


async def test_a_retrys_key_still_finds_its_task_when_the_first_one_went_on(
    service: Service, provider: Provider
) -> None:
    provider.on_create(REVID, slams(), says(REVID.accepted("r-2")))
    task = await service.order(REVID.order())
    path = f"/api/tasks/{task['id']}/retry"
    retried = (await service.post(path, Idempotency_Key="again")).json()
    await service.call_back(task["id"], REVID.working("r-1"))
    answer = await service.post(path, Idempotency_Key="again")
    assert (answer.status_code, answer.json()["id"]) == (200, retried["id"])
    assert (await service.post(path, Idempotency_Key="other")).status_code == 409
    assert len(provider.bought()) == 2


async def test_a_key_of_an_order_is_not_a_key_of_a_retry(service: Service, provider: Provider) -> None:
    provider.on_create(RIVYA, says({"error": {"code": "validation_failed", "message": "no"}}, 400))
    task = await service.order(RIVYA.order(), Idempotency_Key="k")
    assert (await service.post(f"/api/tasks/{task['id']}/retry", Idempotency_Key="k")).status_code == 409
    assert len(provider.bought()) == 1


async def test_two_different_keys_of_one_order_are_refused(service: Service, provider: Provider) -> None:
    headers = [("Idempotency-Key", "one"), ("Idempotency-Key", "two")]
    answer = await service.client.post("/api/tasks", content=json.dumps(REVID.order()), headers=headers)
    assert (answer.status_code, provider.bought()) == (422, [])
    assert "different keys" in answer.text
