"""News that needs a second question, or comes after the end: it is not lost, and fills what is still empty."""

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from receiver.core.messages import Event, Order, Remote
from receiver.core.states import State
from receiver.providers.base import Flow, Provider
from tests.behaviour.families import GATEWAY, REVID, RIVYA, Family
from tests.behaviour.provider import Received, Script, after, says, shows
from tests.behaviour.service import Service, Stage, Task, milliseconds

pytestmark = pytest.mark.anyio

ID = "the-remote-id"
URL = "https://cdn.example.com/out.mp4"
both = pytest.mark.parametrize("family", [REVID, GATEWAY], ids=lambda family: family.name)


async def ordered(service: Service, family: Family) -> Task:
    service.provider.on_create(family, says(family.accepted(ID)))
    return await service.order(family.order())


def urls(task: Task) -> list[str]:
    return [output["url"] for output in task["outputs"]]


# --- the check that should confirm fails


@both
async def test_a_success_whose_confirming_check_fails_is_asked_about_again(family: Family, stage: Stage) -> None:
    async with stage.serve() as service:
        task = await ordered(service, family)
        await service.call_back(task["id"], family.failed(ID))
        stage.provider.on_check(family, shows("down", 502), shows("down", 502), says(family.done(ID, URL)))
        assert await service.call_back(task["id"], family.done(ID, URL)) == "confirming"
        task = await service.until_checked(task["id"])
        assert (task["state"], task["next_check_at"] is not None) == ("failed", True)
        await service.poll_when_due(task["id"])
        await service.poll_when_due(task["id"])
        task = await service.task(task["id"])
        assert (task["state"], urls(task), task["settled_by"]) == ("succeeded", [URL], "callback")
        assert (task["next_check_at"], task["checks"]) == (None, 3)


@both
async def test_what_nobody_could_confirm_is_told_when_its_time_is_over(family: Family, stage: Stage) -> None:
    async with stage.serve() as service:
        task = await ordered(service, family)
        await service.call_back(task["id"], family.failed(ID))
        stage.provider.on_check(family, shows("down", 502))
        await service.call_back(task["id"], family.done(ID, URL))
        await service.until_checked(task["id"])
        while (task := await service.task(task["id"]))["next_check_at"] is not None:
            await service.poll_when_due(task["id"])
        assert task["state"] == "failed"
        assert milliseconds(task["updated_at"]) - milliseconds(task["created_at"]) == 7_200_000
        assert any("no check decided before the deadline" in notice for notice in task["notices"])
        assert task["checks"] > 20
        [(pending,)] = service.database.rows("SELECT pending FROM task")
        assert URL in pending


@both
async def test_a_failure_that_the_provider_confirms_ends_the_question(family: Family, stage: Stage) -> None:
    async with stage.serve() as service:
        task = await ordered(service, family)
        await service.call_back(task["id"], family.failed(ID))
        stage.provider.on_check(family, says(family.failed(ID)))
        await service.call_back(task["id"], family.done(ID, URL))
        task = await service.until_checked(task["id"])
        assert (task["state"], task["next_check_at"]) == ("failed", None)
        assert service.database.rows("SELECT pending FROM task") == [(None,)]


async def test_an_end_that_awaits_its_confirmation_outlives_another_end(stage: Stage) -> None:
    async with stage.serve() as service:
        task = await ordered(service, GATEWAY)
        stage.provider.on_check(GATEWAY, shows("down", 502))
        unnamed = {name: value for name, value in GATEWAY.done(ID, URL).items() if name != "task_id"}
        assert await service.call_back(task["id"], unnamed) == "confirming"
        await service.until_checked(task["id"])
        await service.call_back(task["id"], GATEWAY.failed(ID))
        task = await service.task(task["id"])
        assert (task["state"], len(task["notices"])) == ("failed", 1)
        stage.provider.on_check(GATEWAY, says(GATEWAY.done(ID, URL)))
        await service.poll()
        task = await service.task(task["id"])
        assert (task["state"], urls(task)) == ("succeeded", [URL])


# --- a success without a result


async def until_believed_empty(service: Service, family: Family) -> Task:
    """A task that succeeded without a result, after five answers that brought none."""
    task = await ordered(service, family)
    service.provider.on_check(family, says(family.done(ID)))
    for _ in range(5):
        await service.poll_when_due(task["id"])
    task = await service.task(task["id"])
    assert (task["state"], task["outputs"], len(task["notices"])) == ("succeeded", [], 1)
    return task


async def _by_check(service: Service, family: Family, task: Task) -> None:
    service.provider.on_check(family, says(family.done(ID, URL)))
    answer = await service.post(f"/api/tasks/{task['id']}/check")
    assert answer.status_code == 200


async def _by_poll(service: Service, family: Family, task: Task) -> None:
    service.provider.on_check(family, says(family.done(ID, URL)))
    await service.poll_when_due(task["id"])


async def _by_callback(service: Service, family: Family, task: Task) -> None:
    service.provider.on_check(family, says(family.done(ID)))
    assert await service.call_back(task["id"], family.done(ID, URL)) == "applied"
    assert await service.call_back(task["id"], family.done(ID, URL)) == "repeated"


@both
@pytest.mark.parametrize("bring", [_by_check, _by_poll, _by_callback])
async def test_a_result_that_comes_after_five_empty_answers_fills_the_task(
    family: Family, bring: Callable[[Service, Family, Task], Awaitable[None]], stage: Stage
) -> None:
    async with stage.serve() as service:
        task = await until_believed_empty(service, family)
        await bring(service, family, task)
        task = await service.task(task["id"])
        assert (task["state"], urls(task), task["notices"], task["next_check_at"]) == ("succeeded", [URL], [], None)
        [note] = await service.history(task["id"], "note")
        assert "result" in note["text"]


async def test_a_result_of_weak_evidence_is_confirmed_before_it_fills_a_task(stage: Stage) -> None:
    async with stage.serve(CONFIRM="always") as service:
        task = await until_believed_empty(service, GATEWAY)
        stage.provider.on_check(GATEWAY, says(GATEWAY.done(ID, f"{URL}?true")))
        assert await service.call_back(task["id"], GATEWAY.done(ID, f"{URL}?forged")) == "confirming"
        task = await service.until(task["id"], lambda task: bool(task["outputs"]))
        assert urls(task) == [f"{URL}?true"]


async def test_a_success_without_a_result_is_asked_about_in_growing_gaps_until_its_deadline(stage: Stage) -> None:
    async with stage.serve(LATE_WATCH="0") as service:
        task = await until_believed_empty(service, RIVYA)
        asked = []
        while (task := await service.task(task["id"]))["next_check_at"] is not None:
            asked.append(milliseconds(task["next_check_at"]))
            await service.poll_when_due(task["id"])
        assert task["state"] == "succeeded"
        gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
        assert min(gaps[5:-1]) > 90_000, "the longest pause is two minutes, and 20 % less"
        assert asked[-1] == milliseconds(task["submitted_at"]) + 7_200_000


async def test_a_callback_that_awaits_its_confirmation_brings_the_result_that_checks_leave_out(stage: Stage) -> None:
    async with stage.serve(CONFIRM="always") as service:
        task = await ordered(service, GATEWAY)
        stage.provider.on_check(GATEWAY, says(GATEWAY.done(ID)))
        await service.call_back(task["id"], GATEWAY.done(ID, URL))
        await service.until_checked(task["id"])
        for _ in range(6):
            if (await service.task(task["id"]))["state"] != "succeeded":
                await service.poll_when_due(task["id"])
        task = await service.task(task["id"])
        assert (task["state"], urls(task), task["settled_by"]) == ("succeeded", [URL], "callback")
        assert task["evidence"]["confirmed_at"] is not None


async def test_other_urls_than_the_first_stay_out(stage: Stage) -> None:
    async with stage.serve() as service:
        task = await ordered(service, GATEWAY)
        await service.call_back(task["id"], GATEWAY.done(ID, URL))
        assert await service.call_back(task["id"], GATEWAY.done(ID, f"{URL}?other")) == "repeated"
        task = await service.task(task["id"])
        assert (urls(task), len(task["notices"])) == ([URL], 1)


# --- a callback while a check is under way


@both
@pytest.mark.parametrize("script", [says({"message": "oops"}, 500), None], ids=["the-check-fails", "still-working"])
async def test_a_callback_that_needs_a_check_is_not_forgotten_by_one_that_is_under_way(
    family: Family, script: Script | None, stage: Stage
) -> None:
    async with stage.serve(CONFIRM="always") as service:
        task = await ordered(service, family)
        stage.provider.on_check(family, says(family.working(ID)))
        for _ in range(6):
            await service.poll_when_due(task["id"])
        before = await service.task(task["id"])
        gap = milliseconds(before["next_check_at"]) - stage.clock.now
        assert gap > 60_000

        async def call_back(_: Received) -> None:
            stage.clock.advance(1)
            assert await service.call_back(task["id"], family.done(ID, URL)) == "confirming"

        answers = script or says(family.working(ID))
        stage.provider.on_check(family, after(call_back, answers), says(family.done(ID, URL)))
        await service.poll_when_due(task["id"])
        task = await service.task(task["id"])
        if task["state"] != "succeeded":
            assert milliseconds(task["next_check_at"]) <= stage.clock.now, "it is due at once"
            await service.poll()
        assert (await service.task(task["id"]))["state"] == "succeeded"


# --- adapters that fail


@dataclass
class Broken:
    """An adapter with a fault of its own where it is told to have one."""

    whole: Provider
    where: str

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    def status(self, task: Remote) -> Flow[Event]:
        response = yield from _one_request(self.whole.status(task))
        if self.where == "state":
            return Event(State.SUCCEEDED, result={1, 2})  # no JSON
        raise KeyError(response.status_code)

    def submit(self, order: Order, callback_url: str | None, key: str) -> Flow[Event]:
        if self.where == "request":
            raise ZeroDivisionError
        yield from _one_request(self.whole.submit(order, callback_url, key))
        if self.where == "state":
            return Event(State.SUBMITTED, remote_id=ID, reserved=float("nan"), notices=(object(),))  # type: ignore[arg-type]
        raise KeyError("taskId")


def _one_request(flow: Flow[Event]) -> Flow[httpx.Response]:
    return (yield next(flow))


def break_adapter(service: Service, family: Family, where: str) -> None:
    providers = service.app.state.services.providers
    providers[family.name] = Broken(providers[family.name], where)


@both
@pytest.mark.parametrize("where", ["answer", "state"])
async def test_an_adapter_that_fails_on_a_check_says_nothing_about_the_task(
    family: Family, where: str, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    async with stage.serve() as service:
        task = await ordered(service, family)
        stage.provider.on_check(family, says(family.working(ID)))
        break_adapter(service, family, where)
        report = await service.poll_when_due(task["id"])
        assert (report["checked"], report["failed"]) == (1, 1)
        task = await service.task(task["id"])
        assert (task["state"], task["checks"]) == ("submitted", 1)
        assert milliseconds(task["next_check_at"]) > stage.clock.now
        assert any("adapter failed" in notice for notice in task["notices"])
    assert "Traceback" in capsys.readouterr().out


@both
@pytest.mark.parametrize("where", ["answer", "state"])
async def test_an_adapter_that_fails_on_the_answer_to_an_order_leaves_it_unclear(
    family: Family, where: str, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    async with stage.serve() as service:
        break_adapter(service, family, where)
        task = await ordered(service, family)
        assert (task["state"], task["error"]["code"]) == ("unconfirmed", "broken_answer")
        assert "adapter failed" in task["error"]["message"]
        await service.poll_after(60)
    assert len(stage.provider.bought()) == 1
    assert "Traceback" in capsys.readouterr().out


async def test_an_adapter_that_cannot_write_a_request_buys_nothing(stage: Stage) -> None:
    async with stage.serve() as service:
        break_adapter(service, REVID, "request")
        task = await ordered(service, REVID)
        assert (task["state"], task["attempts"]) == ("queued", 0)
        assert any("adapter failed" in notice for notice in task["notices"])
        assert milliseconds(task["next_check_at"]) > stage.clock.now
    assert stage.provider.bought() == []


async def test_a_check_that_was_begun_before_is_no_answer_to_a_callback(stage: Stage) -> None:
    async with stage.serve(CONFIRM="always") as service:
        task = await ordered(service, GATEWAY)

        async def call_back(_: Received) -> None:
            assert await service.call_back(task["id"], GATEWAY.done(ID, URL)) == "confirming"

        truth = says(GATEWAY.done(ID, URL))
        stage.provider.on_check(GATEWAY, after(call_back, says(GATEWAY.failed(ID))), truth)
        await service.poll_when_due(task["id"])
        await service.poll()
        task = await service.task(task["id"])
        assert (task["state"], urls(task), task["settled_by"]) == ("succeeded", [URL], "callback")


async def test_an_unreadable_callback_is_followed_by_a_check_as_soon_as_the_id_is_known(stage: Stage) -> None:
    async with stage.serve() as service:

        async def call_back(received: Received) -> None:
            path = str(received.callback_url).removeprefix(str(service.public_url))
            assert (await service.deliver(path, b"?")).json() == {"outcome": "unreadable"}

        stage.provider.on_create(GATEWAY, after(call_back, says(GATEWAY.accepted(ID))))
        stage.provider.on_check(GATEWAY, says(GATEWAY.done(ID, URL)))
        task = await service.order(GATEWAY.order())
        assert milliseconds(task["next_check_at"]) == stage.clock.now
        await service.poll()
        assert (await service.task(task["id"]))["state"] == "succeeded"
