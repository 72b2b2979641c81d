"""The clock jumps, forth and back, while tasks are in every state: nothing lost, nothing bought twice, no storm."""

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from receiver.store.writer import PATIENCE
from receiver.tasks.poller import AT_ONCE
from tests.behaviour.families import APIXO, CALLING_BACK, FAMILIES, GATEWAY, REVID, RIVYA
from tests.behaviour.provider import Exchange, Received, after, asked_about, family_of, hangs, says, slams
from tests.behaviour.service import NOW, TOKEN, Service, Stage, Task, milliseconds, staged
from tests.behaviour.test_account_callbacks import address, event
from tests.torture.harness import Torture

pytestmark = [pytest.mark.anyio, pytest.mark.row("G1")]

URL = "https://cdn.example.com/out.mp4"
HOUR, DAY = 3600, 86_400
STEP = 15
"""Seconds between two sweeps."""
SETTLING = 900
"""Seconds after which the longest pause is over: a `Retry-After` of 600 s, gaps of at most 144 s, a grace of 300 s."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def stage(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path, tmp_path_factory) as stage:
        yield stage


async def works(exchange: Exchange) -> None:
    """Answer a status request: it is being worked on."""
    request = exchange.request
    await says(family_of(request.account).working(asked_about(request)))(exchange)


async def is_done(exchange: Exchange) -> None:
    """Answer a status request: it is done."""
    request = exchange.request
    await says(family_of(request.account).done(asked_about(request), URL))(exchange)


@dataclass
class World:
    """A service in a world whose time passes evenly, whatever the service's clock shows."""

    service: Service
    time: int = 0
    asked: list[tuple[int, str]] = field(default_factory=list)
    """Of each status request, when it came, and its task's remote id."""
    orders: list["asyncio.Task[Task]"] = field(default_factory=list)

    async def populate(self, number: int) -> None:
        """Order so many tasks for each state that a task can be in while it is under way."""
        provider = self.service.provider
        for family in FAMILIES.values():
            provider.on_check(family, works)
        for n in range(number):
            for family in FAMILIES.values():
                await self.service.order(family.order(f"submitted {n}"))
            running = await self.service.order(GATEWAY.order(f"running {n}"))
            await self.service.call_back(running["id"], GATEWAY.working(running["remote_id"]))
            provider.on_create(APIXO, says({"message": "busy"}, 429, Retry_After="600"))
            await self.service.order(APIXO.order(f"queued {n}"))
            provider.on_create(APIXO)
            provider.on_create(REVID, slams())
            await self.service.order(REVID.order(f"unconfirmed {n}"))
            provider.on_create(REVID)
            provider.on_create(RIVYA, slams())
            await self.service.order(RIVYA.order(f"repeating {n}"))
            provider.on_create(RIVYA)
            provider.on_create(GATEWAY, hangs())
            self.orders.append(asyncio.create_task(self.service.order(GATEWAY.order(f"submitting {n}"))))
            sent = len(provider.bought()) + 1
            await provider.until(lambda sent=sent: len(provider.bought()) >= sent)  # type: ignore[misc]  # a loop's value
            provider.on_create(GATEWAY)

    async def live(self, seconds: int) -> None:
        """Let time pass and sweep again and again."""
        provider = self.service.provider
        for _ in range(0, seconds, STEP):
            self.time += STEP
            before = len(provider.asked())
            await self.service.poll_after(STEP)
            self.asked += [(self.time, asked_about(request)) for request in provider.asked()[before:]]

    async def tasks(self) -> list[Task]:
        answer = await self.service.client.get("/api/tasks", params={"limit": 200})
        found: list[Task] = answer.json()["tasks"]
        return found

    async def call_back_all(self, *, done: bool) -> Counter[str]:
        """Deliver a callback to each task that gave an address; returns how many were answered by which outcome."""
        outcomes: Counter[str] = Counter()
        for task in await self.tasks():
            family = FAMILIES[task["provider"]]
            if family in CALLING_BACK:
                remote_id = task["remote_id"] or f"late-{task['id']}"
                body = family.done(remote_id, URL) if done else family.working(remote_id)
                outcomes[await self.service.call_back(task["id"], body)] += 1  # which insists on a 200
        return outcomes

    def per_minute(self) -> int:
        """The most often that one task was asked about within one minute."""
        found = Counter((time // 60, remote_id) for time, remote_id in self.asked)
        return max(found.values(), default=0)

    async def end(self) -> None:
        self.service.provider.release()
        await asyncio.gather(*self.orders)


@contextlib.asynccontextmanager
async def world(stage: Stage, number: int) -> AsyncIterator[World]:
    """A service with tasks in every state, a minute old."""
    async with stage.serve() as service:
        it = World(service)
        await it.populate(number)
        await it.live(60)
        try:
            yield it
        finally:
            await it.end()


def bought_twice(bought: list[Received]) -> list[str]:
    """What was sent more than once without a key, although its first try was not turned away."""
    blind = Counter(f"{it.account} {_prompt(it)}" for it in bought if "idempotency-key" not in it.headers)
    return [order for order, times in blind.items() if times > (2 if " queued " in order else 1)]


def _prompt(request: Received) -> str:
    body = request.json
    prompt: str = body.get("prompt") or body["input"]["prompt"]
    return prompt


def keys_of(bought: list[Received]) -> dict[str, set[str | None]]:
    """Rivya's idempotency keys by prompt."""
    found: dict[str, set[str | None]] = {}
    for request in bought:
        found.setdefault(_prompt(request), set()).add(request.headers.get("idempotency-key"))
    return found


async def asked_undisturbed(stage: Stage, number: int) -> int:
    """Count the status requests of as long a time without a jump."""
    async with world(stage.beside("undisturbed"), number) as it:
        before = len(it.asked)
        await it.live(SETTLING)
        return len(it.asked) - before


JUMPS = {
    "an hour ahead": HOUR,
    "an hour back": -HOUR,
    "thirty days back": -30 * DAY,
    "to 1970": -NOW // 1000 + HOUR,
    "half an hour back": -HOUR // 2,
}


@pytest.mark.parametrize("jump", JUMPS)
async def test_a_jump_of_the_clock_loses_no_task_and_causes_no_storm(jump: str, stage: Stage, torture: Torture) -> None:
    number = torture.size(1, 10)
    normal = await asked_undisturbed(stage, number)
    stage.provider.received.clear()
    stage.clock.now = NOW
    async with world(stage, number) as it:
        before = len(it.asked)
        stage.clock.advance(JUMPS[jump])
        outcomes = await it.call_back_all(done=False)
        assert not outcomes["unmatched"], outcomes
        await it.live(SETTLING)
        asked = len(it.asked) - before
        assert normal / 4 <= asked <= 2 * normal
        assert it.per_minute() <= 60 / 8 + 1, "the shortest gap is 8 s"
        states = Counter(task["state"] for task in await it.tasks())
        assert set(states) <= {"submitted", "running", "unconfirmed"}, states
        for family in FAMILIES.values():
            stage.provider.on_check(family, is_done)
        await it.live(300)
        open_still = [task for task in await it.tasks() if task["state"] not in ("succeeded", "unconfirmed")]
        assert not open_still
        await it.call_back_all(done=True)
        tasks = await it.tasks()
        assert {task["state"] for task in tasks if task["provider"] != "rivya"} == {"succeeded"}
        assert len(tasks) == 9 * number
    bought = stage.provider.bought()
    assert bought_twice(bought) == []
    assert all(len(keys) == 1 for keys in keys_of(stage.provider.bought(RIVYA)).values())
    torture.figures(**{f"asked after {jump}": asked, "asked without": normal, "tasks": len(tasks)})


LONG = {"three hours ahead": 3 * HOUR, "thirty days ahead": 30 * DAY, "past 2038": 12 * 365 * DAY}


@pytest.mark.parametrize("jump", LONG)
async def test_a_jump_past_the_deadline_asks_once_more_and_late_truth_still_settles(jump: str, stage: Stage) -> None:
    async with world(stage, 1) as it:
        with_id = {task["remote_id"] for task in await it.tasks() if task["remote_id"]}
        before = len(it.asked)
        stage.clock.advance(LONG[jump])
        await it.live(2 * STEP)
        asked = Counter(remote_id for _, remote_id in it.asked[before:])
        assert asked == Counter(with_id), "each once, before it is given up"
        assert {task["state"] for task in await it.tasks()} <= {"expired", "unconfirmed"}
        stage.clock.advance(-LONG[jump])
        await it.live(300)
        assert {task["state"] for task in await it.tasks()} <= {"expired", "unconfirmed"}
        await it.call_back_all(done=True)
        for family in FAMILIES.values():
            stage.provider.on_check(family, is_done)
        for task in await it.tasks():
            if task["remote_id"]:
                await it.service.post(f"/api/tasks/{task['id']}/check")
        left = {(task["provider"], task["state"]) for task in await it.tasks() if task["state"] != "succeeded"}
        assert left <= {("rivya", "unconfirmed"), ("rivya", "expired")}, "which nobody ever named"
    assert bought_twice(stage.provider.bought()) == []


async def test_an_hour_ahead_for_a_moment_expires_nothing(stage: Stage) -> None:
    async with world(stage, 1) as it:
        for _ in range(3):
            stage.clock.advance(HOUR)
            await it.live(STEP)
            stage.clock.advance(-HOUR)
            await it.live(60)
        assert "expired" not in {task["state"] for task in await it.tasks()}
        for family in FAMILIES.values():
            stage.provider.on_check(family, is_done)
        await it.live(SETTLING)
        assert {task["state"] for task in await it.tasks()} <= {"succeeded", "unconfirmed"}


async def test_a_clock_that_is_set_back_during_a_sweep_does_not_make_it_ask_again_and_again(stage: Stage) -> None:
    async with stage.serve() as service:
        for n in range(AT_ONCE + 1):  # more than are begun in one go
            await service.order(REVID.order(f"{n}"))

        async def set_back(_: Received) -> None:
            stage.clock.now = min(stage.clock.now, NOW - HOUR * 1000)

        stage.provider.on_check(REVID, after(set_back, works))
        report = await service.poll_after(300)
        assert report["checked"] == len(stage.provider.asked())
        asked = Counter(asked_about(request) for request in stage.provider.asked())
        assert set(asked.values()) == {1}


async def test_a_clock_that_is_set_back_during_a_submission_does_not_put_its_check_off(stage: Stage) -> None:
    async with stage.serve() as service:

        async def set_back(_: Received) -> None:
            stage.clock.advance(-HOUR)

        stage.provider.on_create(REVID, after(set_back, says(REVID.accepted("r-1"))))
        task = await service.order(REVID.order())
        assert milliseconds(task["next_check_at"]) == stage.clock.now + 300_000


async def test_a_progress_callback_does_not_hide_a_plan_of_tomorrow(stage: Stage) -> None:
    async with stage.serve() as service:
        task = await service.order(REVID.order())
        await service.call_back(task["id"], REVID.working(task["remote_id"]))
        stage.clock.advance(-HOUR)
        await service.call_back(task["id"], REVID.working(task["remote_id"]))
        assert milliseconds((await service.task(task["id"]))["next_check_at"]) == stage.clock.now + 300_000


async def test_a_pause_that_a_provider_asked_for_is_kept_whole(stage: Stage) -> None:
    async with stage.serve() as service:
        stage.provider.on_create(REVID, says({"message": "busy"}, 429, Retry_After="600"), says(REVID.accepted("r-1")))
        task = await service.order(REVID.order())
        stage.clock.advance(-30 * DAY)
        await service.poll()
        assert milliseconds((await service.task(task["id"]))["next_check_at"]) == stage.clock.now + 600_000
        await service.poll_after(599)
        assert len(stage.provider.bought()) == 1
        await service.poll_after(1)
        assert (await service.task(task["id"]))["state"] == "submitted"


async def test_the_poller_sees_by_itself_that_the_clock_was_set_back(stage: Stage) -> None:
    async with stage.serve(POLLER="on", CALLBACK_GRACE="30") as service:
        task = await service.order(REVID.order())
        stage.provider.on_check(REVID, is_done)
        stage.clock.advance(-HOUR)
        await service.until(task["id"], lambda it: milliseconds(it["next_check_at"]) == stage.clock.now + 30_000)
        stage.clock.advance(30)
        await service.until_state(task["id"], "succeeded")


async def test_a_paid_answer_is_insisted_on_although_the_clock_jumps_past_its_lease(stage: Stage) -> None:
    """The database is locked for longer than one write waits: what is not written down then was bought for nothing."""
    async with stage.serve() as service:
        unlocked: list[asyncio.Task[None]] = []

        async def lock(_: Received) -> None:
            locked = asyncio.Event()
            unlocked.append(asyncio.create_task(hold(locked)))
            await locked.wait()

        async def hold(locked: asyncio.Event) -> None:
            with service.database.locked():
                locked.set()
                await asyncio.sleep(1)
                stage.clock.advance(HOUR)
                await asyncio.sleep(PATIENCE)

        stage.provider.on_create(REVID, after(lock, says(REVID.accepted("r-1"))))
        task = await service.order(REVID.order())
        assert (task["state"], task["remote_id"]) == ("submitted", "r-1")
        await asyncio.gather(*unlocked)


@pytest.mark.parametrize("back", [HOUR, 30 * DAY])
async def test_a_repeat_is_given_up_when_nobody_knows_how_long_ago_the_first_try_was(back: int, stage: Stage) -> None:
    """The provider forgets keys, and then a repeat would buy again."""
    async with stage.serve() as service:
        stage.provider.on_create(RIVYA, slams())
        task = await service.order(RIVYA.order())
        assert task["state"] == "submitting"
        stage.clock.advance(-back)
        sent = len(stage.provider.bought())
        for _ in range(30):
            await service.poll_after(60)
        assert (await service.task(task["id"]))["state"] == "unconfirmed"
        assert len(stage.provider.bought()) == sent


@pytest.mark.parametrize("jump", [HOUR, -HOUR, -30 * DAY])
async def test_a_callback_that_waits_for_its_task_finds_it_after_a_jump(jump: int, stage: Stage) -> None:
    async with stage.serve() as service:
        held = await service.deliver(address(), event(RIVYA.done("r-1", URL)))
        assert held.json() == {"outcome": "held"}
        stage.clock.advance(jump)
        stage.provider.on_create(RIVYA, says(RIVYA.accepted("r-1")))
        stage.provider.on_check(RIVYA, is_done)
        task = await service.order(RIVYA.order())
        assert task["deliveries"] == 1
        await service.poll()
        assert (await service.task(task["id"]))["state"] == "succeeded"


@pytest.mark.parametrize("jump", [HOUR, -HOUR, -30 * DAY])
async def test_tasks_that_wait_for_others_to_end_go_when_they_do(jump: int, stage: Stage) -> None:
    async with stage.serve(REVID_MAX_RUNNING="1") as service:
        first, second = await service.order(REVID.order("first")), await service.order(REVID.order("second"))
        assert (first["state"], second["state"]) == ("submitted", "queued")
        stage.clock.advance(jump)
        await service.poll()
        assert len(stage.provider.bought()) == 1
        await service.call_back(first["id"], REVID.done(first["remote_id"], URL))
        await service.poll_after(150)
        assert (await service.task(second["id"]))["state"] == "submitted"


async def test_credits_that_were_spent_tomorrow_do_not_count_today(stage: Stage) -> None:
    """The clock was a day ahead for a while: what left then must not keep others waiting for good."""
    async with stage.serve(RIVYA_MAX_CREDITS_PER_DAY="10") as service:
        stage.clock.advance(30 * DAY)
        first = await service.order(RIVYA.order())
        assert (await service.order(RIVYA.order()))["state"] == "queued"
        stage.clock.advance(-30 * DAY)
        assert (first["state"], (await service.order(RIVYA.order()))["state"]) == ("submitted", "submitted")


@pytest.mark.parametrize("jump", [HOUR, -HOUR, -30 * DAY, 30 * DAY])
async def test_pages_lists_and_figures_are_told_whatever_the_clock_does(jump: int, stage: Stage) -> None:
    async with world(stage, 1) as it:
        stage.provider.on_check(REVID, is_done)
        stage.clock.advance(jump)
        await it.call_back_all(done=True)
        await it.service.client.post("/login", data={"password": TOKEN})
        pages = [
            "/",
            "/providers",
            "/metrics",
            "/api/stats",
            "/readyz",
            *(f"/tasks/{t['id']}" for t in await it.tasks()),
        ]
        for page in pages:
            answer = await it.service.client.get(page)
            assert answer.status_code == 200, page
            assert not re.search(r"(?<![\w.-])-\d+(?:\.\d+)? ?(?:s|ms|min|h|d)\b", answer.text), page
        stats = (await it.service.client.get("/api/stats")).json()
        assert all(seconds is None or seconds >= 0 for seconds in stats["time_to_settle"].values())
