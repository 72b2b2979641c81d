"""Leases and crashes: any number of sweeps ask once, and a submission that nobody finished is never sent again."""

import asyncio

import pytest

from tests.behaviour.families import FAMILIES, REVID, RIVYA, Family
from tests.behaviour.provider import Provider, Received, after, says, slams
from tests.behaviour.service import Database, Service, Stage, Task

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/out.mp4"
ID = "the-remote-id"
LONGEST_REQUEST = 30
"""Seconds for which a lease surely lasts."""
LEASE_OVER = 60
"""Seconds after which it has surely run out."""
every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))


async def ordered(service: Service, family: Family, number: int = 1) -> list[Task]:
    tasks = []
    for n in range(number):
        service.provider.on_create(family, says(family.accepted(f"{ID}-{n}")))
        tasks.append(await service.order(family.order()))
    return tasks


# --- any number of sweeps


async def test_two_sweeps_at_once_ask_once(service: Service, provider: Provider) -> None:
    await ordered(service, REVID, 12)
    service.clock.advance(300)
    reports = await asyncio.gather(*(service.poll() for _ in range(4)))
    assert sum(report["checked"] for report in reports) == len(provider.asked()) == 12


@pytest.mark.row("B4")
async def test_sweeps_of_two_services_ask_once(stage: Stage) -> None:
    async with stage.serve() as one, stage.serve() as other:
        await ordered(one, REVID, 12)
        stage.clock.advance(300)
        reports = await asyncio.gather(*(service.poll() for service in (one, other, one, other)))
        assert sum(report["checked"] for report in reports) == len(stage.provider.asked()) == 12


@pytest.mark.row("B4")
async def test_sweeps_of_two_services_send_a_queued_task_once(stage: Stage) -> None:
    busy = says({"message": "busy"}, 429, Retry_After="5")
    async with stage.serve() as one, stage.serve() as other:
        for family in FAMILIES.values():
            stage.provider.on_create(family, busy)
            await one.order(family.order())
            stage.provider.on_create(family, says(family.accepted(ID)))
        stage.clock.advance(5)
        reports = await asyncio.gather(*(service.poll() for service in (one, other, one, other)))
        assert sum(report["submitted"] for report in reports) == 4
    assert {name: len(stage.provider.bought(family)) for name, family in FAMILIES.items()} == dict.fromkeys(FAMILIES, 2)


@pytest.mark.row("B4")
async def test_a_check_by_hand_during_a_sweep_does_not_ask_a_second_time(service: Service, provider: Provider) -> None:
    [task] = await ordered(service, REVID)

    async def check_too(_: Received) -> None:
        answer = await service.post(f"/api/tasks/{task['id']}/check")
        assert answer.status_code == 200

    provider.on_check(REVID, after(check_too, says(REVID.done(f"{ID}-0", URL))))
    await service.poll_after(300)
    assert len(provider.asked()) == 1
    assert (await service.task(task["id"]))["checks"] == 1


async def test_a_task_that_is_being_sent_is_not_sent_by_a_sweep(service: Service, provider: Provider) -> None:
    async def sweep(_: Received) -> None:
        assert (await service.poll_after(29))["submitted"] == 0

    provider.on_create(REVID, after(sweep, says(REVID.accepted(ID))))
    await service.order(REVID.order())
    assert len(provider.bought()) == 1


# --- a crash while the request is on the wire


async def crash(stage: Stage, family: Family) -> Stage:
    """Let a service die with a create under way; returns the stage on which what it left stands."""
    remains = stage.beside("remains")

    async def look(_: Received) -> None:
        service.database.image(remains.directory / "receiver.db")

    stage.provider.on_create(family, after(look, slams()), says(family.accepted("2nd")))
    async with stage.serve() as service:
        await service.order(family.order())
    return remains


@pytest.mark.row("A2")
@every_family
async def test_a_crashed_submission_is_unconfirmed_before_the_service_is_ready_and_never_sent_again(
    family: Family, stage: Stage
) -> None:
    remains = await crash(stage, family)
    stage.clock.advance(LEASE_OVER)
    async with remains.serve() as service:
        assert (await service.stranger.get("/readyz")).status_code == 200
        [task] = (await service.client.get("/api/tasks")).json()["tasks"]
        assert (task["state"], task["error"]["code"]) == ("unconfirmed", "crashed")
        assert task["error"]["message"]
        await service.poll_after(600)
        assert (await service.task(task["id"]))["state"] == "unconfirmed"
    assert len(stage.provider.bought()) == 1


@every_family
async def test_a_crashed_submission_whose_lease_still_runs_is_resolved_when_it_ends(
    family: Family, stage: Stage
) -> None:
    """Another process may still be at it."""
    remains = await crash(stage, family)
    stage.clock.advance(LONGEST_REQUEST)
    async with remains.serve() as service:
        [task] = (await service.client.get("/api/tasks")).json()["tasks"]
        assert task["state"] == "submitting"
        report = await service.poll_after(LEASE_OVER - LONGEST_REQUEST)
        task = await service.task(task["id"])
        assert (task["state"], task["error"]["code"]) == ("unconfirmed", "crashed")
        assert report["submitted"] == 0
        await service.poll_after(600)
    assert len(stage.provider.bought()) == 1


@every_family
async def test_a_crashed_submission_is_unconfirmed_although_its_providers_key_is_gone(
    family: Family, stage: Stage
) -> None:
    remains = await crash(stage, family)
    stage.clock.advance(LEASE_OVER)
    name = family.name.upper()
    async with remains.serve(**{f"{name}_API_KEY": None, f"{name}_BASE_URL": None}) as service:
        [task] = (await service.client.get("/api/tasks")).json()["tasks"]
        assert (task["state"], task["error"]["code"]) == ("unconfirmed", "crashed")


@pytest.mark.row("A2")
async def test_a_crashed_submission_hears_its_callback(stage: Stage) -> None:
    remains = await crash(stage, REVID)
    stage.clock.advance(LEASE_OVER)
    async with remains.serve() as service:
        [task] = (await service.client.get("/api/tasks")).json()["tasks"]
        assert await service.call_back(task["id"], REVID.done(ID, URL)) == "applied"
        assert (await service.task(task["id"]))["state"] == "succeeded"


@pytest.mark.row("G1")
async def test_a_crashed_submission_left_by_a_clock_that_was_ahead_is_resolved_too(stage: Stage) -> None:
    remains = await crash(stage, REVID)
    stage.clock.advance(-86_400)
    async with remains.serve() as service:
        [task] = (await service.client.get("/api/tasks")).json()["tasks"]
        assert (task["state"], task["error"]["code"]) == ("unconfirmed", "crashed")


@pytest.mark.row("A2")
async def test_a_crashed_repeat_is_not_repeated_again(stage: Stage) -> None:
    """A repeat that nobody finished is a submission with an expired lease like any other."""
    remains = stage.beside("remains")

    async def look(_: Received) -> None:
        service.database.image(remains.directory / "receiver.db")

    stage.provider.on_create(RIVYA, slams(), after(look, slams()), says(RIVYA.accepted(ID)))
    async with stage.serve() as service:
        task = await service.order(RIVYA.order())
        await service.poll_when_due(task["id"])
    stage.clock.advance(LEASE_OVER)
    async with remains.serve() as service:
        task = await service.task(task["id"])
        assert (task["state"], task["error"]["code"], task["attempts"]) == ("unconfirmed", "crashed", 2)
        await service.poll_after(600)
    assert len(stage.provider.bought()) == 2


@pytest.mark.row("A2")
async def test_a_crashed_check_is_made_again_when_its_lease_ends(stage: Stage) -> None:
    remains = stage.beside("remains")

    async def look(_: Received) -> None:
        service.database.image(remains.directory / "receiver.db")

    async with stage.serve() as service:
        [task] = await ordered(service, REVID)
        stage.provider.on_check(REVID, after(look, slams()), says(REVID.done(f"{ID}-0", URL)))
        await service.poll_after(300)
    async with remains.serve() as service:
        assert (await service.poll_after(LONGEST_REQUEST))["checked"] == 0
        assert (await service.poll_after(LEASE_OVER - LONGEST_REQUEST))["settled"] == 1
        assert (await service.task(task["id"]))["state"] == "succeeded"


# --- a claimant that was overtaken


@pytest.mark.row("B6")
@every_family
async def test_the_answer_to_an_overtaken_submission_still_counts(family: Family, stage: Stage) -> None:
    async with stage.serve() as other, stage.serve() as service:

        async def overtake(_: Received) -> None:
            stage.clock.advance(LEASE_OVER)
            await other.poll()
            [(state,)] = other.database.rows("SELECT state FROM task")
            assert state == "unconfirmed"

        stage.provider.on_create(family, after(overtake, says(family.accepted(ID))))
        task = await service.order(family.order())
        assert (task["state"], task["remote_id"], task["error"]) == ("submitted", ID, None)
        assert task["credits"]["reserved"] == (6 if family is RIVYA else None)
        assert await service.moves(task["id"]) == ["submitting", "unconfirmed", "submitted"]
        await service.poll()
    assert len(stage.provider.bought()) == 1


@pytest.mark.row("B6")
@every_family
@pytest.mark.parametrize(("status", "words"), [(400, ""), (429, "nothing was bought")])
async def test_an_overtaken_submission_that_bought_nothing_ends_its_task(
    family: Family, status: int, words: str, stage: Stage
) -> None:
    async with stage.serve() as other, stage.serve() as service:

        async def overtake(_: Received) -> None:
            stage.clock.advance(LEASE_OVER)
            await other.poll()

        stage.provider.on_create(family, after(overtake, says({"code": status, "message": "no"}, status)))
        task = await service.order(family.order())
        assert (task["state"], task["error"]["code"]) == ("failed", str(status))
        assert words in task["error"]["message"]
        assert await service.moves(task["id"]) == ["submitting", "unconfirmed", "failed"]
        assert service.database.rows("SELECT may_have_cost FROM task") == [(0,)]
        await service.poll_after(7300)
    assert len(stage.provider.bought()) == 1, "somebody may have ordered the same again: it is not sent by itself"


@pytest.mark.row("B6")
@every_family
async def test_an_overtaken_submission_without_an_answer_says_why_it_is_unclear(family: Family, stage: Stage) -> None:
    async with stage.serve() as other, stage.serve() as service:

        async def overtake(_: Received) -> None:
            stage.clock.advance(LEASE_OVER)
            await other.poll()

        stage.provider.on_create(family, after(overtake, says({"message": "oops"}, 500)))
        task = await service.order(family.order())
        assert (task["state"], task["error"]["code"]) == ("unconfirmed", "server_error")
        await service.poll_after(60)
        assert (await service.task(task["id"]))["state"] == "unconfirmed"
    assert len(stage.provider.bought()) == 1


@pytest.mark.row("B6")
async def test_the_answer_to_an_overtaken_check_changes_nothing(stage: Stage) -> None:
    async with stage.serve() as other, stage.serve() as service:
        [task] = await ordered(service, REVID)

        async def overtake(_: Received) -> None:
            stage.clock.advance(LEASE_OVER)
            assert (await other.poll())["checked"] == 1

        working = says(REVID.working(f"{ID}-0"))
        stage.provider.on_check(REVID, after(overtake, says(REVID.failed(f"{ID}-0"))), working)
        await service.poll_after(300)
        before = await other.task(task["id"])
        assert (before["state"], before["error"], before["checks"]) == ("running", None, 2)
        assert before["next_check_at"] is not None


async def test_a_database_that_stood_still_in_a_crash_is_whole(stage: Stage) -> None:
    remains = await crash(stage, REVID)
    database = Database(remains.directory / "receiver.db")
    assert database.rows("PRAGMA integrity_check") == [("ok",)]
    assert database.rows("PRAGMA foreign_key_check") == []
