"""Buttons pressed twenty times at once have one effect, also while news is coming in."""

import asyncio
from typing import Any

import pytest

from tests.behaviour.families import REVID
from tests.behaviour.provider import Provider, says, slams
from tests.behaviour.service import Service, Stage
from tests.torture.harness import Torture

pytestmark = [pytest.mark.anyio, pytest.mark.row("B8")]

TIMES = 20
BUSY = says({"message": "busy"}, 429, Retry_After="60")
URL = "https://cdn.example.com/out.mp4"


async def press(services: tuple[Service, ...], path: str, body: Any = None) -> list[int]:
    """Post the same many times at once, to all services in turn; returns the sorted status codes."""
    answers = await asyncio.gather(*(services[n % len(services)].post(path, body) for n in range(TIMES)))
    return sorted(answer.status_code for answer in answers)


async def test_a_task_that_is_cancelled_twenty_times_at_once_is_cancelled_once(stage: Stage) -> None:
    async with stage.serve() as one, stage.serve() as other:
        stage.provider.on_create(REVID, BUSY, says(REVID.accepted("r")))
        task = await one.order(REVID.order())
        assert await press((one, other), f"/api/tasks/{task['id']}/cancel") == [200] + [409] * (TIMES - 1)
        assert await one.moves(task["id"]) == ["submitting", "queued", "cancelled"]
        await one.poll_after(3600)
    assert len(stage.provider.bought()) == 1


RESOLUTIONS = {"adopted": ({"remote_id": "found"}, "submitted"), "not_bought": ({"not_bought": True}, "failed")}


@pytest.mark.parametrize("how", RESOLUTIONS)
async def test_a_task_that_is_resolved_twenty_times_at_once_is_resolved_once(how: str, stage: Stage) -> None:
    body, state = RESOLUTIONS[how]
    async with stage.serve() as one, stage.serve() as other:
        stage.provider.on_create(REVID, slams())
        task = await one.order(REVID.order())
        assert await press((one, other), f"/api/tasks/{task['id']}/adopt", body) == [200] + [409] * (TIMES - 1)
        assert await one.moves(task["id"]) == ["submitting", "unconfirmed", state]
        if how == "adopted":
            await one.until_checked(task["id"])
            assert len(stage.provider.asked()) == 1
    assert len(stage.provider.bought()) == 1


async def test_a_task_that_is_asked_about_twenty_times_at_once_is_bought_and_settled_once(stage: Stage) -> None:
    async with stage.serve() as one, stage.serve() as other:
        stage.provider.on_create(REVID, says(REVID.accepted("r")))
        stage.provider.on_check(REVID, says(REVID.done("r", URL)))
        task = await one.order(REVID.order())
        assert await press((one, other), f"/api/tasks/{task['id']}/check") == [200] * TIMES
        assert await one.moves(task["id"]) == ["submitting", "submitted", "succeeded"]
    assert len(stage.provider.bought()) == 1


async def test_of_a_cancel_and_a_success_that_meet_one_wins_and_both_hear_it(
    torture: Torture, service: Service, provider: Provider
) -> None:
    won = {"cancelled": 0, "succeeded": 0}
    for number in range(torture.size(10, 200)):
        provider.on_create(REVID, BUSY)
        task = await service.order(REVID.order())
        link, said = service.link(task["id"]), REVID.done(f"r-{number}", URL)
        pressed = [service.post(f"/api/tasks/{task['id']}/cancel") for _ in range(3)]
        ways: list[Any] = (
            [*pressed, service.deliver(link, said)] if number % 2 else [service.deliver(link, said), *pressed]
        )
        answers = await asyncio.gather(*ways)
        delivered = answers[-1 if number % 2 else 0]
        codes = sorted(answer.status_code for answer in answers if answer is not delivered)
        now = await service.task(task["id"])
        won[now["state"]] += 1
        outcome = delivered.json()["outcome"]
        if now["state"] == "succeeded":
            assert (codes, outcome, len(now["outputs"])) == ([409] * 3, "applied", 1)
        else:
            assert codes == [200, 409, 409]
            assert outcome in ("confirming", "late"), "kept and told, since money may have been spent"
            assert any("cancelled" in sentence for sentence in now["notices"])
        assert (await service.moves(task["id"]))[2:] == [now["state"]]
    torture.figures(**won)
    assert min(won.values()) > 0, "only one of both orders was tried"
