"""Interface, section 4: a callback that overtakes the answer to its own submission, or whose submission never got an
answer, still finds its task."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.behaviour.families import APIXO, CALLING_BACK, GATEWAY, REVID, Body, Family, gateway
from tests.behaviour.provider import Provider, Received, Script, after, cuts, hangs, says, shows, slams
from tests.behaviour.service import PUBLIC_URL, Service, Stage
from tests.measuring import move_on, until

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/out.mp4"
every_family = pytest.mark.parametrize("family", CALLING_BACK, ids=[family.name for family in CALLING_BACK])


@dataclass
class Overtaking:
    """Calls back while the create request still waits for its answer."""

    service: Service
    body: Body
    outcomes: list[str]

    async def __call__(self, request: Received) -> None:
        assert request.callback_url is not None
        answer = await self.service.deliver(request.callback_url.removeprefix(PUBLIC_URL), self.body)
        self.outcomes.append(answer.json()["outcome"])


def overtaken(service: Service, provider: Provider, family: Family, body: Body, then: Script) -> list[str]:
    """Let a callback with this body come before the create's answer; returns where its outcome will stand."""
    outcomes: list[str] = []
    provider.on_create(family, after(Overtaking(service, body, outcomes), then), says(family.accepted("second")))
    return outcomes


TOLD: dict[str, Callable[[Family], Body]] = {
    "running": lambda family: family.working("r-1"),
    "succeeded": lambda family: family.done("r-1", URL),
    "failed": lambda family: family.failed("r-1"),
}
ANSWERS: dict[str, Callable[[Family], Script]] = {
    "accepted": lambda family: says(family.accepted("r-1")),
    "lost": lambda _: slams(),
    "cut": lambda family: cuts(family.accepted("r-1")),
    "500": lambda _: shows("", 500),
    "without-an-id": lambda _: says({}),
    "refused": lambda _: says({"code": 400, "message": "no such thing"}, 400),
    "busy": lambda _: says({"message": "later"}, 429, Retry_After="5"),
}


CASES = [
    pytest.param(family, told, answer, id=f"{family.name}-{told}-{answer}")
    for family in CALLING_BACK
    for told in TOLD
    for answer in (ANSWERS if family is REVID else ("accepted", "lost"))
]


@pytest.mark.parametrize(("family", "told", "answer"), CASES)
async def test_what_the_callback_told_stands_whatever_the_answer_is(
    family: Family, told: str, answer: str, service: Service, provider: Provider
) -> None:
    outcomes = overtaken(service, provider, family, TOLD[told](family), ANSWERS[answer](family))
    task = await service.order(family.order())
    assert outcomes == ["applied"]
    assert (task["state"], task["remote_id"], task["deliveries"], task["attempts"]) == (told, "r-1", 1, 1)
    assert task["settled_by"] == (None if told == "running" else "callback")
    assert (task["error"] is None) == (told != "failed")
    await service.poll_after(1000)
    assert len(provider.bought()) == 1
    assert await service.moves(task["id"]) == ["submitting", told]


@pytest.mark.parametrize("told", TOLD)
async def test_a_silent_submission_is_settled_by_its_callback(told: str, stage: Stage) -> None:
    async with stage.serve() as service:
        outcomes = overtaken(service, stage.provider, REVID, TOLD[told](REVID), hangs())
        ordering = asyncio.create_task(service.order(REVID.order()))
        await until(lambda: outcomes == ["applied"])
        move_on(30)
        task = await ordering
        assert outcomes == ["applied"]
        assert task["state"] == told
    assert len(stage.provider.bought()) == 1


async def test_a_callback_that_says_waiting_is_news_too(service: Service, provider: Provider) -> None:
    outcomes = overtaken(service, provider, GATEWAY, GATEWAY.waiting("r-1"), slams())
    task = await service.order(GATEWAY.order())
    assert outcomes == ["applied"]
    assert (task["state"], task["remote_id"]) == ("submitted", "r-1")


@every_family
@pytest.mark.parametrize("told", TOLD)
async def test_of_two_ids_the_first_stays_with_a_notice(
    family: Family, told: str, service: Service, provider: Provider
) -> None:
    overtaken(service, provider, family, TOLD[told](family), says(family.accepted("r-2")))
    task = await service.order(family.order())
    assert (task["state"], task["remote_id"]) == (told, "r-1")
    assert any("r-2" in notice for notice in task["notices"])


async def test_the_answer_fills_in_the_id_that_the_callback_lacked(service: Service, provider: Provider) -> None:
    overtaken(service, provider, GATEWAY, gateway("", "IN_PROGRESS", progress="30%"), says(GATEWAY.accepted("r-1")))
    task = await service.order(GATEWAY.order())
    assert (task["state"], task["remote_id"], task["progress"]) == ("running", "r-1", 0.3)


async def test_a_weak_success_that_overtakes_is_confirmed_as_soon_as_the_id_is_known(
    service: Service, provider: Provider
) -> None:
    without_id = {"code": 200, "message": "success", "data": {**APIXO.done("", URL)["data"], "taskId": None}}
    outcomes = overtaken(service, provider, APIXO, without_id, says(APIXO.accepted("r-1")))
    provider.on_check(APIXO, says(APIXO.done("r-1", URL)))
    task = await service.order(APIXO.order())
    assert outcomes == ["confirming"]
    assert task["state"] == "submitted"
    assert task["next_check_at"] == task["created_at"], "due at once"
    await service.poll()
    task = await service.task(task["id"])
    assert (task["state"], task["settled_by"]) == ("succeeded", "callback")


@every_family
async def test_a_callback_for_an_unconfirmed_submission_settles_it(
    family: Family, service: Service, provider: Provider
) -> None:
    provider.on_create(family, slams())
    task = await service.order(family.order())
    assert task["state"] == "unconfirmed"
    assert await service.call_back(task["id"], family.done("r-1", URL)) == "applied"
    task = await service.task(task["id"])
    assert (task["state"], task["remote_id"], task["settled_by"], task["error"]) == (
        "succeeded",
        "r-1",
        "callback",
        None,
    )
    assert [output["url"] for output in task["outputs"]] == [URL]
