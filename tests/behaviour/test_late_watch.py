"""Interface, section 2: after `expired`, a task with a remote id is still asked for `RECEIVER_LATE_WATCH` seconds."""

import pytest

from tests.behaviour.families import FAMILIES, GATEWAY, REVID, Family
from tests.behaviour.provider import Provider, says, shows, slams
from tests.behaviour.service import Service, Stage, Task, milliseconds
from tests.behaviour.test_deadlines import DEADLINE, ID, URL, expired, ordered

pytestmark = pytest.mark.anyio

DAY = 86_400
every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))


def urls(task: Task) -> list[str]:
    return [output["url"] for output in task["outputs"]]


async def watch(service: Service, task_id: str) -> list[float]:
    """Sweep whenever the task is due, until it never is again; returns the seconds between two checks."""
    pauses = []
    while (due := (await service.task(task_id))["next_check_at"]) is not None:
        pauses.append((milliseconds(due) - service.clock.now) / 1000)
        await service.poll_when_due(task_id)
        assert len(pauses) < 100, "nothing ends it"
    return pauses


@pytest.mark.row("B20")
async def test_an_expired_task_is_asked_in_growing_pauses_for_a_day_and_then_no_more(service: Service) -> None:
    task = await expired(service, REVID)
    ended = service.clock.now
    assert task["next_check_because"].endswith("it is checked in growing pauses for 1 d.")
    pauses = await watch(service, task["id"])
    assert service.clock.now == ended + DAY * 1000
    assert 96 <= pauses[0] <= 144
    assert max(pauses) <= 1.2 * 3600
    assert 25 <= len(pauses) <= 60
    assert sum(pauses[:5]) < sum(pauses[10:15]) < sum(pauses[20:25])
    asked = len(service.provider.asked())
    await service.poll_after(10 * DAY)
    assert len(service.provider.asked()) == asked
    task = await service.task(task["id"])
    assert (task["state"], task["next_check_because"]) == ("expired", None)


@every_family
async def test_a_result_that_comes_late_is_found_without_a_callback(
    family: Family, service: Service, provider: Provider
) -> None:
    task = await expired(service, family)
    provider.on_check(family, says(family.working(ID)), shows("down", 502), says(family.done(ID, URL)))
    for _ in range(3):
        await service.poll_when_due(task["id"])
    task = await service.task(task["id"])
    assert (task["state"], task["settled_by"], urls(task), task["error"]) == ("succeeded", "check", [URL], None)
    assert task["next_check_at"] is None


async def test_a_failure_that_is_told_late_is_one(service: Service, provider: Provider) -> None:
    task = await expired(service, REVID)
    provider.on_check(REVID, says(REVID.failed(ID, "CODE", "words")))
    await service.poll_when_due(task["id"])
    task = await service.task(task["id"])
    assert (task["state"], task["error"]["code"], task["next_check_at"]) == ("failed", "CODE", None)


async def test_the_watch_is_as_long_as_it_is_set(stage: Stage) -> None:
    async with stage.serve(LATE_WATCH="600") as service:
        task = await expired(service, REVID)
        ended = service.clock.now
        await watch(service, task["id"])
        assert service.clock.now == ended + 600_000


async def test_a_provider_that_asks_to_wait_is_obeyed_in_the_watch(service: Service, provider: Provider) -> None:
    task = await expired(service, REVID)
    provider.on_check(REVID, says({"message": "slow down"}, 429, Retry_After="2000"))
    await service.poll_when_due(task["id"])
    task = await service.task(task["id"])
    assert milliseconds(task["next_check_at"]) - service.clock.now == 2_000_000


async def test_without_a_remote_id_there_is_nobody_to_ask(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, slams())
    task = await service.order(REVID.order())
    await service.poll_after(DEADLINE)
    task = await service.task(task["id"])
    assert (task["state"], task["next_check_at"]) == ("expired", None)
    await service.poll_after(DAY)
    assert provider.asked() == []


async def test_an_adopted_task_has_its_own_time_and_its_own_watch(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, slams())
    task = await service.order(REVID.order())
    await service.poll_after(DEADLINE)
    service.clock.advance(10 * DAY)
    assert (await service.post(f"/api/tasks/{task['id']}/adopt", {"remote_id": ID})).status_code == 200
    await service.until_checked(task["id"])
    await service.poll_after(DEADLINE)
    again = await service.task(task["id"])
    assert again["state"] == "expired"
    assert again["next_check_at"] is not None
    ended = service.clock.now
    await watch(service, task["id"])
    assert service.clock.now == ended + DAY * 1000


async def test_a_task_that_was_closed_as_not_bought_is_not_watched(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, slams())
    task = await service.order(REVID.order())
    await service.poll_after(DEADLINE)
    await service.post(f"/api/tasks/{task['id']}/adopt", {"not_bought": True})
    assert (await service.task(task["id"]))["next_check_at"] is None


# --- a success without a result


@pytest.mark.parametrize("family", [REVID, GATEWAY], ids=lambda family: family.name)
async def test_a_success_without_a_result_is_asked_about_in_the_watch_too(
    family: Family, service: Service, provider: Provider
) -> None:
    task = await ordered(service, family)
    provider.on_check(family, says(family.done(ID)))
    for _ in range(5):
        await service.poll_when_due(task["id"])
    assert (await service.task(task["id"]))["state"] == "succeeded"
    await service.poll_after(DEADLINE)
    task = await service.task(task["id"])
    assert task["next_check_at"] is not None
    provider.on_check(family, says(family.done(ID, URL)))
    await service.poll_when_due(task["id"])
    task = await service.task(task["id"])
    assert (task["state"], urls(task), task["next_check_at"]) == ("succeeded", [URL], None)


async def test_a_success_without_a_result_is_asked_about_for_a_day_after_its_deadline(
    service: Service, provider: Provider
) -> None:
    task = await ordered(service, REVID)
    due = service.clock.now + DEADLINE * 1000
    provider.on_check(REVID, says(REVID.done(ID)))
    for _ in range(5):
        await service.poll_when_due(task["id"])
    service.clock.now = due
    pauses = await watch(service, task["id"])
    assert service.clock.now == due + DAY * 1000
    assert max(pauses) <= 1.2 * 3600


async def test_a_success_that_is_told_late_without_its_result_is_one_and_is_asked_about(
    service: Service, provider: Provider
) -> None:
    task = await expired(service, REVID)
    provider.on_check(REVID, says(REVID.done(ID)), says(REVID.done(ID, URL)))
    await service.poll_when_due(task["id"])
    task = await service.task(task["id"])
    assert (task["state"], urls(task)) == ("succeeded", [])
    assert task["notices"] == ["The provider reported success without a result."]
    await service.poll_when_due(task["id"])
    task = await service.task(task["id"])
    assert (urls(task), task["notices"], task["next_check_at"]) == ([URL], [], None)
