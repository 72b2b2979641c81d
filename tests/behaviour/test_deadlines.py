"""Interface, section 1, "Deadline": from the last try's departure (queued: from creation), whatever was heard since;
with a remote id one last check; and late truth is still truth."""

import json
from typing import Any

import pytest

from tests.behaviour.families import CALLING_BACK, FAMILIES, GATEWAY, REVID, RIVYA, Family, gateway_at, revid_done
from tests.behaviour.provider import Provider, Script, after, says, shows, slams
from tests.behaviour.service import NOW, Service, Stage, Task, milliseconds

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/out.mp4"
ID = "the-remote-id"
DEADLINE = 7200
every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
each_that_calls_back = pytest.mark.parametrize("family", CALLING_BACK, ids=[family.name for family in CALLING_BACK])


async def ordered(service: Service, family: Family) -> Task:
    service.provider.on_create(family, says(family.accepted(ID)))
    return await service.order(family.order())


async def expired(service: Service, family: Family) -> Task:
    task = await ordered(service, family)
    await service.poll_after(DEADLINE)
    task = await service.task(task["id"])
    assert task["state"] == "expired"
    return task


# --- with a remote id


@every_family
async def test_at_the_deadline_one_last_check_and_then_expired(family: Family, stage: Stage) -> None:
    async with stage.serve(LATE_WATCH="0") as service:
        await expires_after_one_last_check(service, family, stage.provider)


async def expires_after_one_last_check(service: Service, family: Family, provider: Provider) -> None:
    task = await ordered(service, family)
    await service.poll_after(DEADLINE - 0.001)
    assert (await service.task(task["id"]))["state"] == "submitted"
    asked = len(provider.asked())
    report = await service.poll_after(0.001)
    assert report == {"submitted": 0, "checked": 1, "settled": 0, "expired": 1, "failed": 0}
    assert len(provider.asked()) == asked + 1
    task = await service.task(task["id"])
    assert (task["state"], task["error"]["code"], task["settled_by"]) == ("expired", "deadline", None)
    assert task["error"]["message"]
    assert milliseconds(task["finished_at"]) == NOW + DEADLINE * 1000
    assert task["next_check_at"] is None
    await service.poll_after(DEADLINE)
    assert len(provider.asked()) == asked + 1, "nobody asks any more"


LAST: list[Any] = [
    pytest.param(says(REVID.done(ID, URL)), "succeeded", id="done"),
    pytest.param(says(REVID.failed(ID)), "failed", id="failed"),
    pytest.param(says(REVID.working(ID)), "expired", id="still-running"),
    pytest.param(shows("down", 502), "expired", id="down"),
    pytest.param(says({"msg": "busy"}, 429, Retry_After="60"), "expired", id="busy"),
    pytest.param(slams(), "expired", id="no-answer"),
]


@pytest.mark.parametrize(("script", "end"), LAST)
async def test_the_last_check_may_still_bring_the_end(
    script: Script, end: str, service: Service, provider: Provider
) -> None:
    task = await ordered(service, REVID)
    provider.on_check(REVID, script)
    await service.poll_after(DEADLINE)
    assert (await service.task(task["id"]))["state"] == end


async def test_whatever_was_heard_since_does_not_move_the_deadline(service: Service) -> None:
    task = await ordered(service, GATEWAY)
    for minute in range(1, 120):
        service.clock.now = NOW + minute * 60_000
        await service.call_back(task["id"], gateway_at(f"{minute * 0.8:.1f}%")(ID))
    await service.poll_after(59.999)
    assert (await service.task(task["id"]))["state"] == "running"
    await service.poll_after(0.001)
    assert (await service.task(task["id"]))["state"] == "expired"


async def test_the_deadline_counts_from_the_last_tries_departure(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, says({"msg": "busy"}, 429, Retry_After="600"), says(REVID.accepted(ID)))
    task = await service.order(REVID.order())
    await service.poll_after(600)
    assert milliseconds((await service.task(task["id"]))["submitted_at"]) == NOW + 600_000
    await service.poll_after(DEADLINE - 1)
    assert (await service.task(task["id"]))["state"] == "submitted"
    await service.poll_after(1)
    assert (await service.task(task["id"]))["state"] == "expired"


async def test_a_deadline_may_be_short_and_fractional(stage: Stage) -> None:
    async with stage.serve(DEADLINE="2.5") as service:
        task = await ordered(service, REVID)
        await service.poll_after(2.499)
        assert (await service.task(task["id"]))["state"] == "submitted"
        await service.poll_after(0.001)
        assert (await service.task(task["id"]))["state"] == "expired"


@pytest.mark.row("G1")
async def test_a_clock_that_jumps_a_day_ahead_still_asks_before_it_gives_up(
    service: Service, provider: Provider
) -> None:
    tasks = []
    for number in range(5):
        provider.on_create(REVID, says(REVID.accepted(f"r-{number}")))
        tasks.append(await service.order(REVID.order()))
    provider.on_check(REVID, says(REVID.done("r-0", URL)))
    report = await service.poll_after(86_400)
    assert (report["checked"], report["settled"], report["expired"]) == (5, 1, 4)


# --- without a remote id


@each_that_calls_back
async def test_an_unconfirmed_task_expires_without_any_request(
    family: Family, service: Service, provider: Provider
) -> None:
    provider.on_create(family, slams(), says(family.accepted("2nd")))
    task = await service.order(family.order())
    await service.poll_after(DEADLINE - 0.001)
    assert (await service.task(task["id"]))["state"] == "unconfirmed"
    report = await service.poll_after(0.001)
    assert report == {"submitted": 0, "checked": 0, "settled": 0, "expired": 1, "failed": 0}
    task = await service.task(task["id"])
    assert (task["state"], task["error"]["code"]) == ("expired", "deadline")
    assert len(provider.received) == 1


async def test_an_unconfirmed_repeat_expires_too(service: Service, provider: Provider) -> None:
    provider.on_create(RIVYA, slams())
    task = await service.order(RIVYA.order())
    await service.poll_after(900)
    assert (await service.task(task["id"]))["state"] == "unconfirmed"
    await service.poll_after(DEADLINE - 900)
    assert (await service.task(task["id"]))["state"] == "expired"


@every_family
async def test_a_queued_task_expires_by_its_creation_and_is_never_sent_then(
    family: Family, service: Service, provider: Provider
) -> None:
    provider.on_create(family, says({"message": "busy"}, 429, Retry_After="3500"))
    task = await service.order(family.order())
    for _ in range(3):
        await service.poll_after(3500)
    sent = len(provider.bought())
    task = await service.task(task["id"])
    assert (task["state"], task["error"]["code"]) == ("expired", "deadline")
    assert sent == 3, "at 0, 3500 and 7000 s"
    provider.on_create(family, says(family.accepted(ID)))
    await service.poll_after(DEADLINE)
    assert len(provider.bought()) == sent


async def test_a_queued_tasks_last_pause_ends_at_its_deadline(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, says({"message": "busy"}, 429, Retry_After="3600"))
    task = await service.order(REVID.order())
    await service.poll_after(3600)
    assert milliseconds((await service.task(task["id"]))["next_check_at"]) == NOW + 7_200_000
    await service.poll_after(3600)
    assert (await service.task(task["id"]))["state"] == "expired"
    assert len(provider.bought()) == 2


# --- late truth


@each_that_calls_back
@pytest.mark.parametrize("end", ["succeeded", "failed"])
async def test_late_truth_is_still_truth(family: Family, end: str, service: Service) -> None:
    task = await expired(service, family)
    service.clock.advance(86_400)
    body = family.done(ID, URL) if end == "succeeded" else family.failed(ID)
    assert await service.call_back(task["id"], body) == "applied"
    after = await service.task(task["id"])
    assert (after["state"], after["settled_by"]) == (end, "callback")
    assert milliseconds(after["finished_at"]) == service.clock.now
    assert (after["error"] is None) == (end == "succeeded")


@every_family
async def test_a_person_may_still_ask_about_an_expired_task(
    family: Family, service: Service, provider: Provider
) -> None:
    task = await expired(service, family)
    assert (await service.post(f"/api/tasks/{task['id']}/check")).json()["state"] == "expired"
    provider.on_check(family, says(family.done(ID, URL)))
    answer = await service.post(f"/api/tasks/{task['id']}/check")
    assert (answer.json()["state"], answer.json()["settled_by"], answer.json()["error"]) == ("succeeded", "check", None)


async def test_an_expired_task_that_was_never_heard_of_hears_its_callback(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, slams())
    task = await service.order(REVID.order())
    await service.poll_after(DEADLINE)
    assert await service.call_back(task["id"], REVID.done(ID, URL)) == "applied"
    task = await service.task(task["id"])
    assert (task["state"], task["remote_id"], task["settled_by"]) == ("succeeded", ID, "callback")


def nameless(**data: Any) -> dict[str, Any]:
    """A success that names no task."""
    body: dict[str, Any] = json.loads(json.dumps(revid_done("", URL, **data)))
    del body["data"]["taskId"]
    return body


async def test_a_weak_late_success_with_nothing_to_ask_about_is_applied(service: Service, provider: Provider) -> None:
    """The deadline is over, and a final callback that awaits confirmation is applied then: nothing else can come."""
    provider.on_create(REVID, slams())
    task = await service.order(REVID.order())
    await service.poll_after(DEADLINE)
    await service.call_back(task["id"], nameless())
    await service.poll_after(1)
    task = await service.task(task["id"])
    assert (task["state"], len(task["outputs"]), task["settled_by"]) == ("succeeded", 1, "callback")


async def test_a_weak_success_with_nothing_to_ask_about_is_applied_at_the_deadline(
    service: Service, provider: Provider
) -> None:
    provider.on_create(REVID, slams())
    task = await service.order(REVID.order())
    assert await service.call_back(task["id"], nameless()) == "confirming"
    await service.poll_after(DEADLINE - 1)
    assert (await service.task(task["id"]))["state"] == "submitted"
    await service.poll_after(1)
    task = await service.task(task["id"])
    assert (task["state"], task["settled_by"]) == ("succeeded", "callback")
    assert provider.asked() == []


async def test_a_weak_late_success_is_asked_about_and_believed_if_nobody_answers(
    service: Service, provider: Provider
) -> None:
    task = await expired(service, REVID)
    provider.on_check(REVID, shows("down", 502))
    assert await service.call_back(task["id"], nameless()) == "confirming"
    task = await service.until_state(task["id"], "succeeded")
    assert task["settled_by"] == "callback"


# --- a provider whose key was taken away


async def test_open_tasks_of_a_provider_without_key_wait_and_expire(stage: Stage) -> None:
    async with stage.serve() as service:
        task = await ordered(service, REVID)
        stage.provider.on_create(GATEWAY, says({"message": "busy"}, 429))
        queued = await service.order(GATEWAY.order())
    requests = len(stage.provider.received)
    async with stage.serve(REVID_API_KEY=None, GATEWAY_API_KEY=None, GATEWAY_BASE_URL=None) as service:
        report = await service.poll_after(300)
        assert (report["submitted"], report["settled"], report["expired"]) == (0, 0, 0)
        assert (await service.task(task["id"]))["state"] == "submitted"
        assert (await service.task(queued["id"]))["state"] == "queued"
        assert any("API key" in notice for notice in (await service.task(queued["id"]))["notices"])
        report = await service.poll_after(DEADLINE)
        assert report["expired"] == 2
        assert (await service.post(f"/api/tasks/{task['id']}/check")).status_code == 200
        assert (await service.task(task["id"]))["state"] == "expired"
    assert len(stage.provider.received) == requests


async def test_with_its_key_back_a_provider_is_asked_and_sent_to_again(stage: Stage) -> None:
    async with stage.serve() as service:
        task = await ordered(service, REVID)
        stage.provider.on_create(GATEWAY, says({"message": "busy"}, 429), says(GATEWAY.accepted("g-1")))
        queued = await service.order(GATEWAY.order())
    async with stage.serve(REVID_API_KEY=None, GATEWAY_API_KEY=None, GATEWAY_BASE_URL=None) as service:
        await service.poll_after(300)
    async with stage.serve() as service:
        stage.provider.on_check(REVID, says(REVID.done(ID, URL)))
        await service.poll_after(300)
        assert (await service.task(task["id"]))["state"] == "succeeded"
        assert (await service.task(queued["id"]))["state"] == "submitted"


async def test_callbacks_to_a_provider_without_key_are_not_taken(stage: Stage) -> None:
    async with stage.serve() as service:
        task = await ordered(service, REVID)
        path = service.link(task["id"])
    async with stage.serve(REVID_API_KEY=None) as service:
        assert (await service.deliver(path, REVID.done(ID, URL))).status_code == 404


async def test_expiring_while_the_last_check_is_under_way_believes_what_arrives_meanwhile(
    service: Service, provider: Provider
) -> None:
    task = await ordered(service, REVID)

    async def call_back(_: object) -> None:
        assert await service.call_back(task["id"], REVID.done(ID, URL)) == "applied"

    provider.on_check(REVID, after(call_back, says(REVID.working(ID))))
    await service.poll_after(DEADLINE)
    task = await service.task(task["id"])
    assert (task["state"], task["settled_by"]) == ("succeeded", "callback")
