"""Interface, section 3: what a person may do to a task: cancel it, order it again. (Checks stand in test_checks.)"""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.behaviour.families import FAMILIES, REVID, RIVYA, Family
from tests.behaviour.provider import Provider, Received, after, hangs, says, slams
from tests.behaviour.service import NOW, Service, Stage, Task, milliseconds

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/out.mp4"
ID = "the-remote-id"
every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
BUSY = says({"message": "busy"}, 429, Retry_After="60")

Made = Callable[[Service], Awaitable[Task]]


async def _queued(service: Service) -> Task:
    service.provider.on_create(REVID, BUSY, says(REVID.accepted("2nd")))
    return await service.order(REVID.order())


async def _submitting(service: Service) -> Task:
    service.provider.on_create(RIVYA, slams(), says(RIVYA.accepted("2nd")))
    return await service.order(RIVYA.order())


async def _unconfirmed(service: Service) -> Task:
    service.provider.on_create(REVID, slams(), says(REVID.accepted("2nd")))
    return await service.order(REVID.order())


async def _submitted(service: Service) -> Task:
    service.provider.on_create(REVID, says(REVID.accepted(ID)), says(REVID.accepted("2nd")))
    return await service.order(REVID.order())


async def _running(service: Service) -> Task:
    task = await _submitted(service)
    await service.call_back(task["id"], REVID.working(ID))
    return task


async def _succeeded(service: Service) -> Task:
    task = await _submitted(service)
    await service.call_back(task["id"], REVID.done(ID, URL))
    return task


async def _failed(service: Service) -> Task:
    task = await _submitted(service)
    await service.call_back(task["id"], REVID.failed(ID))
    return task


async def _cancelled(service: Service) -> Task:
    task = await _queued(service)
    await service.post(f"/api/tasks/{task['id']}/cancel")
    return task


async def _expired(service: Service) -> Task:
    task = await _submitted(service)
    await service.poll_after(7200)
    return task


MADE: dict[str, Made] = {
    "queued": _queued,
    "submitting": _submitting,
    "unconfirmed": _unconfirmed,
    "submitted": _submitted,
    "running": _running,
    "succeeded": _succeeded,
    "failed": _failed,
    "cancelled": _cancelled,
    "expired": _expired,
}


# --- cancel


@pytest.mark.parametrize("state", MADE)
async def test_only_a_queued_task_can_be_cancelled(state: str, service: Service) -> None:
    task = await MADE[state](service)
    assert (await service.task(task["id"]))["state"] == state
    answer = await service.post(f"/api/tasks/{task['id']}/cancel")
    if state == "queued":
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    else:
        assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
        assert (await service.task(task["id"]))["state"] == state


@every_family
async def test_a_cancelled_task_is_never_sent(family: Family, service: Service, provider: Provider) -> None:
    provider.on_create(family, BUSY, says(family.accepted("2nd")))
    task = await service.order(family.order())
    answer = await service.post(f"/api/tasks/{task['id']}/cancel")
    assert (answer.json()["next_check_at"], milliseconds(answer.json()["finished_at"])) == (None, NOW)
    assert answer.json()["error"] is None
    assert await service.poll_after(3600) == dict.fromkeys(("submitted", "checked", "settled", "expired", "failed"), 0)
    assert len(provider.bought()) == 1


@pytest.mark.row("B8")
async def test_a_cancel_races_with_the_sweep_that_sends_and_one_of_them_wins(
    service: Service, provider: Provider
) -> None:
    for number in range(6):
        provider.on_create(REVID, BUSY)
        task = await service.order(REVID.order())
        provider.on_create(REVID, says(REVID.accepted(f"r-{number}")))
        service.clock.advance(60)
        before = len(provider.bought())
        cancelling, _ = await asyncio.gather(service.post(f"/api/tasks/{task['id']}/cancel"), service.poll())
        sent = len(provider.bought()) - before
        state = (await service.task(task["id"]))["state"]
        assert (cancelling.status_code, state, sent) in ((200, "cancelled", 0), (409, "submitted", 1))


@pytest.mark.row("B8")
async def test_what_is_being_sent_cannot_be_cancelled(service: Service, provider: Provider) -> None:
    codes: list[int] = []

    async def cancel(_: Received) -> None:
        [task] = (await service.client.get("/api/tasks")).json()["tasks"]
        codes.append((await service.post(f"/api/tasks/{task['id']}/cancel")).status_code)

    provider.on_create(REVID, after(cancel, says(REVID.accepted(ID))))
    assert (await service.order(REVID.order()))["state"] == "submitted"
    assert codes == [409]


# --- retry


@pytest.mark.parametrize("state", MADE)
async def test_only_a_final_expired_or_unconfirmed_task_can_be_ordered_again(state: str, service: Service) -> None:
    task = await MADE[state](service)
    before = await service.task(task["id"])
    answer = await service.post(f"/api/tasks/{task['id']}/retry")
    if state in ("succeeded", "failed", "cancelled", "expired", "unconfirmed"):
        assert answer.status_code == 201
        new = answer.json()
        assert answer.headers["location"] == f"/api/tasks/{new['id']}"
        assert new["id"] != task["id"]
        assert (new["retry_of"], new["state"], new["remote_id"]) == (task["id"], "submitted", "2nd")
        assert (new["provider"], new["model"], new["input"]) == (before["provider"], before["model"], before["input"])
    else:
        assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
        assert len((await service.client.get("/api/tasks")).json()["tasks"]) == 1
    assert await service.task(task["id"]) == before, "the first stays as it was"


@every_family
@pytest.mark.parametrize("validate", [True, False])
async def test_a_retry_orders_the_same(family: Family, validate: bool, service: Service, provider: Provider) -> None:  # noqa: FBT001
    given = family.order(metadata={"order": 7}, validate=validate)
    provider.on_create(family, says({"code": 402, "message": "no credits"}, 402), says(family.accepted(ID)))
    task = await service.order(given)
    new = (await service.post(f"/api/tasks/{task['id']}/retry")).json()
    assert (new["metadata"], new["validated"], new["input"]) == ({"order": 7}, validate, given["input"])
    assert new["retry_of"] == task["id"]
    ignored = {family.hook, "client_request_id"}
    one, other = ({k: v for k, v in it.json.items() if k not in ignored} for it in provider.bought())
    assert one == other
    keys = {it.headers.get("idempotency-key") for it in provider.bought()}
    assert len(keys) == (2 if family is RIVYA else 1), "a new order has a new key"


async def test_a_retry_of_a_provider_without_key_is_refused(stage: Stage) -> None:
    async with stage.serve() as service:
        task = await _failed(service)
    async with stage.serve(REVID_API_KEY=None) as service:
        assert (await service.post(f"/api/tasks/{task['id']}/retry")).status_code == 422


async def test_a_retry_answers_when_its_first_try_has_ended(stage: Stage) -> None:
    async with stage.serve() as service:
        task = await _failed(service)
        stage.provider.on_create(REVID, hangs())
        retrying = service.post(f"/api/tasks/{task['id']}/retry")
        answer = await service.when_time_is_over(retrying, lambda: len(stage.provider.bought()) == 2)
        assert answer.status_code == 201
        assert (await service.until_state(answer.json()["id"], "unconfirmed"))["retry_of"] == task["id"]


# --- what is not there


@pytest.mark.parametrize("action", ["check", "retry", "cancel"])
@pytest.mark.parametrize("task_id", ["tsk_00000000000000000000000000", "nonsense", "%00", "%F0%9F%90%88", "'--"])
async def test_what_is_not_there_is_not_found(action: str, task_id: str, service: Service) -> None:
    answer = await service.post(f"/api/tasks/{task_id}/{action}")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


@pytest.mark.parametrize("action", ["check", "retry", "cancel"])
async def test_an_action_takes_no_body_fields_and_no_query(action: str, service: Service) -> None:
    task = await _failed(service)
    path = f"/api/tasks/{task['id']}/{action}"
    for answer in (await service.post(path, {"really": True}), await service.post(f"{path}?really=1")):
        assert answer.status_code == 422
        assert "really" in answer.json()["errors"][0]["loc"]
    assert (await service.post(path, {})).status_code != 422, "an empty object says nothing wrong"
