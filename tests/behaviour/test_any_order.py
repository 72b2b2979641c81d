"""Whatever comes in whatever order, a task keeps to the interface's table of states and is bought once."""

from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.behaviour.families import CALLING_BACK, Family
from tests.behaviour.provider import Script, says, shows, slams
from tests.behaviour.service import Service, Task

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/out.mp4"
MAY_BECOME = {
    "queued": {"submitting", "cancelled", "expired", "submitted", "running", "succeeded", "failed"},
    "submitting": {"queued", "unconfirmed", "submitted", "running", "succeeded", "failed"},
    "unconfirmed": {"submitted", "running", "succeeded", "failed", "expired"},
    "submitted": {"running", "succeeded", "failed", "expired"},
    "running": {"succeeded", "failed", "expired"},
    "succeeded": set(),
    "failed": {"succeeded"},
    "cancelled": set(),
    "expired": {"succeeded", "failed"},
}
"""The table of the interface, section 1, without what only an adoption by hand may do."""

News = Literal["waiting", "working", "done", "other", "empty", "failed", "stateless", "unreadable"]
NEWS: list[News] = ["waiting", "working", "done", "other", "empty", "failed", "stateless", "unreadable"]


@dataclass(frozen=True)
class Call:
    """A callback: what it says, and whether it names the task's id, none, or another's."""

    news: News
    named: Literal["right", "none", "wrong"]


@dataclass(frozen=True)
class Sweep:
    """Some time passes, and a sweep finds the provider saying this (None: it fails)."""

    seconds: int
    answer: News | None


@dataclass(frozen=True)
class Hand:
    """A person cancels or checks."""

    action: Literal["cancel", "check"]


Step = Call | Sweep | Hand
STEPS = st.lists(
    st.one_of(
        st.builds(Call, st.sampled_from(NEWS), st.sampled_from(["right", "right", "right", "none", "wrong"])),
        st.builds(Sweep, st.sampled_from([0, 1, 60, 400, 3000, 7200]), st.sampled_from([*NEWS, None])),
        st.builds(Hand, st.sampled_from(["cancel", "check"])),
    ),
    max_size=8,
)
BEGINNINGS = ["accepted", "busy", "lost", "refused"]


def body(family: Family, news: News, remote_id: str) -> Any:
    """The bytes or the object that say this about the work with this id."""
    return {
        "waiting": family.waiting(remote_id),
        "working": family.working(remote_id),
        "done": family.done(remote_id, URL),
        "other": family.done(remote_id, f"{URL}?other"),
        "empty": family.done(remote_id),
        "failed": family.failed(remote_id),
        "stateless": {"code": 200, "task_id": remote_id, "data": {"taskId": remote_id}},
        "unreadable": b"?",
    }[news]


def script(family: Family, news: News | None, remote_id: str) -> Script:
    if news is None:
        return slams()
    said = body(family, news, remote_id)
    return shows("?") if isinstance(said, bytes) else says(said)


def beginning(family: Family, how: str, remote_id: str) -> list[Script]:
    accepted = says(family.accepted(remote_id))
    return {
        "accepted": [accepted],
        "busy": [says({"message": "busy"}, 429, Retry_After="60"), accepted],
        "lost": [slams(), accepted],
        "refused": [says({"code": 400, "message": "no"}, 400), accepted],
    }[how]


async def take(service: Service, family: Family, task: Task, remote_id: str, step: Step) -> None:
    """Let one thing happen."""
    if isinstance(step, Call):
        named = {"right": remote_id, "none": "", "wrong": f"not-{remote_id}"}[step.named]
        await service.call_back(task["id"], body(family, step.news, named))
    elif isinstance(step, Sweep):
        service.provider.on_check(family, script(family, step.answer, remote_id))
        await service.poll_after(step.seconds)
    else:
        await service.post(f"/api/tasks/{task['id']}/{step.action}")


def check_life(events: list[dict[str, Any]], calls: int) -> None:
    """Hold a task's history to the table."""
    state = "queued"
    for move in (event for event in events if event["kind"] == "move"):
        assert move["from"] == state
        assert move["to"] in MAY_BECOME[state], move
        if (state, move["to"]) == ("failed", "succeeded"):
            assert move["via"] == "check"
        if state == "queued" and move["to"] in ("submitted", "running", "succeeded", "failed"):
            assert move["via"] == "callback"
        state = move["to"]
    assert sum(event["kind"] == "delivery" for event in events) == calls
    sent = [event["number"] for event in events if event["kind"] == "attempt"]
    assert sent == list(range(1, len(sent) + 1))


REMOTE_IDS = (f"remote-{number}" for number in count())


@pytest.mark.parametrize("family", CALLING_BACK, ids=[family.name for family in CALLING_BACK])
@settings(
    max_examples=40,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(how=st.sampled_from(BEGINNINGS), steps=STEPS)
async def test_a_task_keeps_to_the_table_of_states_and_is_bought_once(
    family: Family, service: Service, how: str, steps: list[Step]
) -> None:
    """The service is the same for all examples; each has a task of its own."""
    await live(service, family, next(REMOTE_IDS), how, steps)


def times_sent(service: Service, task: Task) -> int:
    return sum(f"/{task['id']}." in (it.callback_url or "") for it in service.provider.bought())


async def live(service: Service, family: Family, remote_id: str, how: str, steps: list[Step]) -> None:
    """Let one task live through these steps."""
    provider = service.provider
    provider.on_create(family, *beginning(family, how, remote_id))
    provider.on_check(family, script(family, "waiting", remote_id))
    task = await service.order(family.order())
    outputs: list[Any] = []
    for step in steps:
        heard = (await service.task(task["id"]))["state"] not in ("queued", "submitting")
        sent = times_sent(service, task)
        await take(service, family, task, remote_id, step)
        now = await service.task(task["id"])
        assert times_sent(service, task) == sent or not heard, "sent again although it was heard of"
        if outputs:
            assert now["outputs"] == outputs, "a result never changes"
        outputs = now["outputs"]
        assert bool(outputs) <= (now["state"] == "succeeded")
        assert (now["error"] is not None) == (now["state"] in ("failed", "unconfirmed", "expired"))
        assert (now["finished_at"] is not None) == (now["state"] in ("succeeded", "failed", "cancelled", "expired"))
    assert times_sent(service, task) <= (2 if how == "busy" else 1)
    check_life(await service.history(task["id"]), sum(isinstance(step, Call) for step in steps))
    await service.poll_after(20_000)  # an end for what is still open, so that the next task is alone
