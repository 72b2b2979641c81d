"""Interface, section 7, "Polling that knows": checks follow what was measured of the model, and each says why."""

import json
from collections.abc import Awaitable, Callable

import pytest

from receiver.core.measured import ENOUGH_TASKS
from tests.behaviour.families import APIXO, GATEWAY, REVID, RIVYA, Family, revid_done
from tests.behaviour.provider import Exchange, Script, asked_about, says, shows, slams
from tests.behaviour.service import Service, Stage, Task, milliseconds
from tests.behaviour.test_replay import read_again

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/out.mp4"
USUAL = 40.0
HOUR = 3600.0
AROUND = (30.0, 60.0)
"""Seconds after departure within which a task is checked first whose model usually takes `USUAL`."""


async def called_back(service: Service, family: Family, seconds: float = USUAL, number: int = 1) -> None:
    """Let tasks end by their own callbacks after so many seconds."""
    for _ in range(number):
        task = await service.order(family.order())
        service.clock.advance(seconds)
        assert await service.call_back(task["id"], family.done(task["remote_id"], URL)) == "applied"


async def found_by_check(service: Service, family: Family, seconds: float = USUAL, number: int = 1) -> None:
    """Let tasks end without a callback; a person looks after so many seconds."""
    for _ in range(number):
        task = await service.order(family.order())
        service.clock.advance(seconds)
        service.provider.on_check(family, says(family.done(task["remote_id"], URL)))
        await service.post(f"/api/tasks/{task['id']}/check")
        assert (await service.task(task["id"]))["state"] == "succeeded"
    service.provider.scripts[family.name, "check"].clear()


def first_check(task: Task) -> float:
    """Seconds from the departure of a task to its next check."""
    return (milliseconds(task["next_check_at"]) - milliseconds(task["submitted_at"])) / 1000


async def measured(service: Service, family: Family) -> dict[str, object]:
    answer = await service.client.get("/api/providers")
    (found,) = (each for each in answer.json()["providers"] if each["name"] == family.name)
    (model,) = found["measured"]
    assert isinstance(model, dict)
    return model


# --- first checks


async def test_where_callbacks_usually_come_the_check_waits_a_little_longer_than_they_take(service: Service) -> None:
    await called_back(service, REVID, number=ENOUGH_TASKS - 1)
    task = await service.order(REVID.order())
    assert first_check(task) == 300, "too few to know"
    service.clock.advance(USUAL)
    await service.call_back(task["id"], REVID.done(task["remote_id"], URL))
    task = await service.order(REVID.order())
    assert 1.5 * USUAL < first_check(task) < 3 * USUAL
    assert task["next_check_because"].startswith("Callbacks of this model usually arrive after 4")
    assert task["next_check_because"].endswith("if none has come.")


@pytest.mark.row("B21")
async def test_callbacks_that_fail_to_arrive_are_not_waited_for(service: Service) -> None:
    await called_back(service, REVID, number=ENOUGH_TASKS)
    await found_by_check(service, REVID, number=4)
    task = await service.order(REVID.order())
    assert AROUND[0] <= first_check(task) <= AROUND[1]
    assert task["next_check_because"].startswith("Only ")
    service.clock.advance(first_check(task))
    service.provider.on_check(REVID, says(REVID.done(task["remote_id"], URL)))
    assert (await service.poll())["settled"] == 1


async def test_callbacks_that_come_again_are_waited_for_again(service: Service) -> None:
    await called_back(service, REVID, number=ENOUGH_TASKS)
    await found_by_check(service, REVID, number=10)
    await called_back(service, REVID, number=ENOUGH_TASKS)
    task = await service.order(REVID.order())
    assert task["next_check_because"].startswith("Callbacks of this model usually arrive")


async def test_what_is_measured_is_that_of_the_model(service: Service) -> None:
    await called_back(service, REVID, number=ENOUGH_TASKS)
    other = await service.order({**REVID.order(), "model": "another-model"})
    assert first_check(other) == 300
    assert first_check(await service.order(GATEWAY.order())) == 300


@pytest.mark.parametrize(("family", "before"), [(APIXO, 180), (REVID, 30)], ids=["advised", "nothing-known"])
async def test_polled_tasks_are_asked_about_around_the_time_that_they_take(
    family: Family, before: float, stage: Stage
) -> None:
    """The provider's clock tells nothing here: the time is found out by asking ever better."""
    async with stage.serve(PUBLIC_URL=None) as service:
        ends: dict[str, int] = {}

        async def answer(exchange: Exchange) -> None:
            remote_id = asked_about(exchange.request)
            is_done = service.clock() >= ends[remote_id]
            body = family.done(remote_id, URL) if is_done else family.working(remote_id)
            await says(body)(exchange)

        task = await service.order(family.order())
        assert first_check(task) == before
        service.provider.on_check(family, answer)
        asked: list[int] = []
        for _ in range(ENOUGH_TASKS + 30):
            task = await service.order(family.order())
            ends[task["remote_id"]] = service.clock() + round(USUAL * 1000)
            while task["state"] != "succeeded":
                await check_when_due(service, task)
                task = await service.task(task["id"])
            asked.append(task["checks"])
        task = await service.order(family.order())
    assert AROUND[0] <= first_check(task) <= AROUND[1]
    assert task["next_check_because"].startswith("Tasks of this model usually end after")
    assert sum(asked[-10:]) <= 30


async def check_when_due(service: Service, task: Task) -> None:
    """Look at a task when its next check is due; the others of a test are left alone."""
    due = (await service.task(task["id"]))["next_check_at"]
    service.clock.now = max(service.clock.now, milliseconds(due))
    await service.post(f"/api/tasks/{task['id']}/check")


# --- what is not measured


@pytest.mark.row("B21")
async def test_one_odd_task_puts_no_other_off(service: Service) -> None:
    await called_back(service, REVID, number=ENOUGH_TASKS)
    before = first_check(await service.order(REVID.order()))
    await called_back(service, REVID, seconds=2 * HOUR - 1)
    assert first_check(await service.order(REVID.order())) <= 1.1 * before


@pytest.mark.row("B21")
async def test_an_outage_of_the_provider_teaches_nothing_about_its_habits(service: Service) -> None:
    await called_back(service, REVID, number=ENOUGH_TASKS)
    before = await measured(service, REVID)
    tasks = [await service.order(REVID.order()) for _ in range(30)]
    service.provider.on_check(REVID, shows("down", 502))
    await service.poll_after(300)
    service.clock.advance(HOUR)

    async def answer(exchange: Exchange) -> None:
        await says(REVID.done(asked_about(exchange.request), URL))(exchange)

    service.provider.on_check(REVID, answer)
    assert (await service.poll())["settled"] == len(tasks)
    assert await measured(service, REVID) == before


async def test_what_a_person_took_up_and_what_was_bought_elsewhere_is_not_measured(service: Service) -> None:
    service.provider.on_create(REVID, slams())
    task = await service.order(REVID.order())
    service.clock.advance(HOUR)
    service.provider.on_check(REVID, says(REVID.done("r-1", URL)))
    await service.post(f"/api/tasks/{task['id']}/adopt", {"remote_id": "r-1"})
    await service.until_state(task["id"], "succeeded")
    service.provider.on_check(REVID, says(REVID.done("r-2", URL)))
    tracked = await service.order({"provider": "revid", "model": REVID.model, "remote_id": "r-2"})
    await service.until_state(tracked["id"], "succeeded")
    answer = await service.client.get("/api/providers")
    assert [each["measured"] for each in answer.json()["providers"] if each["name"] == "revid"] == [[]]


async def test_a_callback_that_is_read_again_later_counts_as_of_when_it_came(service: Service) -> None:
    await called_back(service, REVID, number=ENOUGH_TASKS - 1)
    task = await service.order(REVID.order())
    service.clock.advance(USUAL)
    service.provider.on_check(REVID, shows("down", 502))
    await service.call_back(task["id"], b"?")
    await service.until_checked(task["id"])
    service.clock.advance(HOUR)
    rewrite_last(service, json.dumps(REVID.done(task["remote_id"], URL)).encode())
    [unread] = await service.history(task["id"], "delivery")
    assert (await read_again(service, unread["delivery"])).outcome == "applied"
    found = await measured(service, REVID)
    assert found["tasks"] == ENOUGH_TASKS
    assert 35 <= found["slow_seconds"] <= 50  # type: ignore[operator]


def rewrite_last(service: Service, body: bytes) -> None:
    with service.database.connected() as connection:
        connection.execute("UPDATE delivery SET body = ? WHERE body = ?", (body, b"?"))


async def test_the_providers_own_time_of_the_end_counts_where_it_can_be(service: Service) -> None:
    for _ in range(ENOUGH_TASKS):
        task = await service.order(REVID.order())
        ended = service.clock() + 20_000
        service.clock.advance(290)
        service.provider.on_check(REVID, says(revid_done(task["remote_id"], URL, completeTime=ended)))
        await service.post(f"/api/tasks/{task['id']}/check")
    found = await measured(service, REVID)
    assert 18 <= found["usual_seconds"] <= 24  # type: ignore[operator]
    assert found["callbacks"] == {"awaited": 11, "arrived": 0}


# --- what is shown


async def test_what_is_used_and_why_is_told_by_the_api(service: Service) -> None:
    await called_back(service, REVID, number=ENOUGH_TASKS)
    found = await measured(service, REVID)
    assert found["model"] == REVID.model
    assert found["tasks"] == ENOUGH_TASKS
    assert found["callbacks"] == {"awaited": 11, "arrived": 11}
    assert 38 <= found["usual_seconds"] <= found["slow_seconds"] <= 46  # type: ignore[operator]
    task = await service.order(REVID.order())
    assert first_check(task) == pytest.approx(found["first_check_seconds"], abs=0.1)
    assert task["next_check_because"] == found["because"]


PLANS: dict[str, tuple[Family, Script | None, Callable[[Service, Task], Awaitable[object]] | None]] = {
    "queued": (REVID, says({"message": "slow down"}, 429), None),
    "repeated": (RIVYA, slams(), None),
    "unconfirmed": (REVID, slams(), None),
    "submitted": (REVID, None, None),
    "running": (REVID, None, lambda service, task: service.call_back(task["id"], REVID.working(task["remote_id"]))),
    "checked": (REVID, None, lambda service, task: service.post(f"/api/tasks/{task['id']}/check")),
    "expired": (REVID, None, lambda service, _: service.poll_after(7200)),
}


@pytest.mark.parametrize("name", PLANS)
async def test_every_plan_says_why_and_without_a_plan_there_is_no_reason(name: str, service: Service) -> None:
    family, create, then = PLANS[name]
    if create is not None:
        service.provider.on_create(family, create)
    task = await service.order(family.order())
    if then is not None:
        await then(service, task)
        task = await service.task(task["id"])
    assert task["next_check_at"] is not None
    assert task["next_check_because"].endswith(".")
    if name in ("submitted", "running", "checked"):
        await service.call_back(task["id"], family.done(task["remote_id"], URL))
        task = await service.task(task["id"])
        assert (task["next_check_at"], task["next_check_because"]) == (None, None)


async def test_a_check_that_news_caused_explains_what_follows(service: Service) -> None:
    task = await service.order(REVID.order())
    service.provider.on_check(REVID, shows("down", 502))
    await service.call_back(task["id"], b"?")
    await service.until_checked(task["id"])
    task = await service.task(task["id"])
    assert task["next_check_because"].startswith("The last check brought no usable answer; checked again after about ")
