"""Interface, section 3: what a person resolves: `adopt`, and following a task bought elsewhere."""

import pytest

from tests.behaviour.families import APIXO, REVID
from tests.behaviour.provider import says, slams
from tests.behaviour.service import Service, Task

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/out.mp4"
FOUND = "found-at-the-provider"


async def _unconfirmed(service: Service) -> Task:
    service.provider.on_create(REVID, slams())
    task = await service.order(REVID.order())
    assert task["state"] == "unconfirmed"
    return task


async def _silently_expired(service: Service) -> Task:
    task = await _unconfirmed(service)
    await service.poll_after(7200)
    return await service.until_state(task["id"], "expired")


@pytest.mark.parametrize("make", [_unconfirmed, _silently_expired])
async def test_an_id_found_by_hand_is_asked_about_at_once(service: Service, make: type) -> None:
    task = await make(service)
    service.provider.on_check(REVID, says(REVID.done(FOUND, URL)))
    answer = await service.post(f"/api/tasks/{task['id']}/adopt", {"remote_id": FOUND})
    assert answer.status_code == 200
    assert answer.json()["remote_id"] == FOUND
    done = await service.until_state(task["id"], "succeeded")
    assert (done["settled_by"], done["error"], done["outputs"][0]["url"]) == ("check", None, URL)
    assert len(service.provider.bought(REVID)) == 1


async def test_an_adopted_task_has_its_own_deadline(service: Service) -> None:
    task = await _silently_expired(service)
    service.provider.on_check(REVID, says(REVID.working(FOUND)), says(REVID.working(FOUND)), says(REVID.working(FOUND)))
    await service.post(f"/api/tasks/{task['id']}/adopt", {"remote_id": FOUND})
    await service.until_checked(task["id"])
    await service.poll_after(7100)
    assert (await service.task(task["id"]))["state"] in ("submitted", "running")
    await service.poll_after(200)
    assert (await service.task(task["id"]))["state"] == "expired"


@pytest.mark.parametrize("make", [_unconfirmed, _silently_expired])
async def test_what_was_not_bought_fails_by_hand(service: Service, make: type) -> None:
    task = await make(service)
    answer = await service.post(f"/api/tasks/{task['id']}/adopt", {"not_bought": True})
    closed = answer.json()
    assert (closed["state"], closed["settled_by"], closed["error"]["code"]) == ("failed", "hand", "not_bought")


async def test_the_callback_of_a_task_that_was_not_bought_is_asked_about(service: Service) -> None:
    task = await _unconfirmed(service)
    await service.post(f"/api/tasks/{task['id']}/adopt", {"not_bought": True})
    service.provider.on_check(REVID, says(REVID.done(FOUND, URL)))
    assert await service.call_back(task["id"], REVID.done(FOUND, URL)) == "confirming"
    assert (await service.until_state(task["id"], "succeeded"))["settled_by"] == "callback"


async def test_an_id_that_another_task_holds_is_refused(service: Service) -> None:
    service.provider.on_create(REVID, says(REVID.accepted(FOUND)))
    await service.order(REVID.order())
    task = await _unconfirmed(service)
    answer = await service.post(f"/api/tasks/{task['id']}/adopt", {"remote_id": FOUND})
    assert answer.status_code == 409
    assert (await service.task(task["id"]))["state"] == "unconfirmed"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"remote_id": ""}, 422),
        ({"remote_id": "x", "not_bought": True}, 422),
        ({"not_bought": False}, 422),
        ({"remote": "x"}, 422),
    ],
)
async def test_an_adoption_says_exactly_one_thing(service: Service, body: dict[str, object], status: int) -> None:
    task = await _unconfirmed(service)
    answer = await service.post(f"/api/tasks/{task['id']}/adopt", body)
    assert answer.status_code == status
    assert (await service.task(task["id"]))["state"] == "unconfirmed"


async def test_only_an_unclear_task_is_resolved_by_hand(service: Service) -> None:
    service.provider.on_create(REVID, says(REVID.accepted(FOUND)))
    task = await service.order(REVID.order())
    for body in ({"remote_id": "other"}, {"not_bought": True}):
        assert (await service.post(f"/api/tasks/{task['id']}/adopt", body)).status_code == 409
    assert (await service.post("/api/tasks/tsk_none/adopt", {"not_bought": True})).status_code == 404


async def test_a_task_bought_elsewhere_is_followed_and_never_sent(service: Service) -> None:
    service.provider.on_check(APIXO, says(APIXO.done(FOUND, URL)))
    order = {"provider": "apixo", "model": "sora-2", "remote_id": FOUND, "metadata": {"by": "hand"}}
    answer = await service.post("/api/tasks", order, Idempotency_Key="k")
    assert answer.status_code == 201
    task = await service.until_state(answer.json()["id"], "succeeded")
    assert (task["attempts"], task["metadata"], task["outputs"][0]["url"]) == (0, {"by": "hand"}, URL)
    assert service.provider.bought() == []
    assert (await service.post("/api/tasks", order, Idempotency_Key="k")).status_code == 200
    assert (await service.post("/api/tasks", order)).status_code == 409


async def test_following_takes_no_input(service: Service) -> None:
    order = {"provider": "apixo", "model": "sora-2", "remote_id": FOUND, "input": {"prompt": "x"}}
    assert (await service.post("/api/tasks", order)).status_code == 422
