"""If the provider holds an end and tells it when it is asked often enough, the task comes to that end in time.

Callbacks get lost, tell the opposite of what is true by then, or come while a check is under way; checks fail, find an
older state or no result, or meet a fault in the adapter. Whatever happened, from then on each check that is answered
tells the truth, and the task must come to it: at once where news awaits its confirmation, else at its next check.
"""

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.behaviour.families import GATEWAY, REVID, Family
from tests.behaviour.provider import Received, Script, after, says, shows, slams
from tests.behaviour.service import Service, Stage, Task, milliseconds, staged
from tests.behaviour.test_late_news import break_adapter
from tests.torture.harness import Torture

pytestmark = [pytest.mark.anyio, pytest.mark.row("B15")]

URL = "https://cdn.example.com/out.mp4"
FIRST_CHECK = 300_000
"""Milliseconds from an order to its first check, where nothing was heard."""
MAX_RETRY_AFTER = 144_000
"""Milliseconds between two checks at most: two minutes, and a fifth more by chance."""
AT_ONCE = 1_000
MOST_CHECKS = 20
"""True answers after which nobody can say that it was not asked often enough."""

TOLD = ("told", "told wrong")
CHECKS = ("working", "empty", "down", "cut", "adapter fault")
OVERLAPS = tuple(f"{news} during a check: {answer}" for news in TOLD for answer in ("working", "down", "empty"))
JUMPS = ("an hour back", "ten minutes on")
EVENTS = (*TOLD, *CHECKS, *OVERLAPS)
DECISIVE = ("told", "told wrong", "empty", "down", "told during a check: working")
"""Events that are tried in all longer rows, too."""


@dataclass
class Life:
    """One task whose provider holds a success, and what the service was told of it."""

    service: Service
    family: Family
    task: Task
    remote_id: str
    knows: bool = False
    """The truth was told, and acknowledged, after the last thing that was not true."""
    asked: int = 0
    """The checks that had been begun when the last end was told."""
    misled: bool = False
    """The last end that was told is not the true one."""
    seen: Counter[str] = field(default_factory=Counter)

    def answer(self, what: str) -> Script:
        family, remote_id = self.family, self.remote_id
        return {
            "working": says(family.working(remote_id)),
            "empty": says(family.done(remote_id)),
            "down": shows("down", 502),
            "cut": slams(),
            "true": says(family.done(remote_id, URL)),
        }[what]

    async def happen(self, what: str) -> None:
        """Let one thing happen."""
        if what in TOLD:
            await self.hear(what)
        elif what in JUMPS:
            self.service.clock.advance(-3600 if what == JUMPS[0] else 600)
        elif what == "adapter fault":
            await self.check("working", partial(break_adapter, self.service, self.family, "answer"))
        elif what in CHECKS:
            await self.check(what)
        else:
            news, _, answer = what.partition(" during a check: ")

            async def overlap(_: Received) -> None:
                self.service.clock.advance(0.001)
                await self.hear(news)

            self.service.provider.on_check(self.family, after(overlap, self.answer(answer)), self.answer(answer))
            await self.look()

    async def hear(self, news: str) -> None:
        """Let a callback come, and all that follows from it."""
        told = self.family.done(self.remote_id, URL) if news == "told" else self.family.failed(self.remote_id)
        asked = len(self.service.provider.asked())
        outcome = await self.service.call_back(self.task["id"], told)
        self.seen[outcome] += 1
        self.knows, self.misled, self.asked = news == "told", news != "told", asked

    async def check(self, what: str, first: Callable[[], Any] = lambda: None) -> None:
        """Let the service ask when it wants to, and be answered so."""
        providers = self.service.app.state.services.providers
        whole = providers[self.family.name]
        self.service.provider.on_check(self.family, self.answer(what))
        first()
        await self.look()
        providers[self.family.name] = whole

    async def look(self) -> None:
        """Let the time of the next check come, where there is one, and sweep."""
        await self.service.app.state.services.background.drain(60)
        due = await self.due()
        if due is not None:
            self.service.clock.now = max(self.service.clock.now, due)
        await self.service.poll()
        await self.service.app.state.services.background.drain(60)

    async def due(self) -> int | None:
        at = (await self.service.task(self.task["id"]))["next_check_at"]
        return None if at is None else milliseconds(at)

    async def come_to_the_end(self, failures: int, *, timed: bool) -> None:
        """Let so many checks fail, and answer all later ones; the task must come to its end."""
        await self.service.app.state.services.background.drain(60)
        clock, began = self.service.clock, self.service.clock.now
        asked_since = len(self.service.provider.asked()) > self.asked
        awaits = FIRST_CHECK if not self.knows else MAX_RETRY_AFTER if asked_since else AT_ONCE
        for _ in range(failures):
            await self.check("down")
        for _ in range(MOST_CHECKS):
            if await self.has_ended():
                return
            due = await self.due()
            assert due is not None, "nobody asks any more"
            took = max(due, clock.now) - began
            assert not timed or took <= awaits + failures * MAX_RETRY_AFTER + AT_ONCE, f"asked again after {took} ms"
            await self.check("true")
        raise AssertionError(f"{MOST_CHECKS} true answers changed nothing")

    async def has_ended(self) -> bool:
        task = await self.service.task(self.task["id"])
        return task["state"] == "succeeded" and [output["url"] for output in task["outputs"]] == [URL]


@pytest.fixture
async def stage(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path, tmp_path_factory) as stage:
        yield stage


@asynccontextmanager
async def quiet() -> AsyncIterator[None]:
    with capture_logs():
        yield


async def live(stage: Stage, family: Family, confirm: str, lives: list[tuple[tuple[str, ...], int]]) -> Counter[str]:
    """Live through each row of events on one service, then ask for the end."""
    seen: Counter[str] = Counter()
    # Written out for people, the tracebacks of the adapters' faults would take longer than everything else.
    async with stage.serve(CONFIRM=confirm) as service, quiet():
        for number, (events, failures) in enumerate(lives):
            remote_id = f"remote-{number}"
            stage.provider.on_create(family, says(family.accepted(remote_id)))
            task = await service.order(family.order())
            stage.provider.on_check(family, shows("down", 502))
            life = Life(service, family, task, remote_id, seen=seen)
            try:
                for event in events:
                    await life.happen(event)
                state = (await service.task(task["id"]))["state"]
                if life.misled and state == "failed":
                    seen["misled for good"] += 1  # everybody says so, and nobody says otherwise
                else:
                    await life.come_to_the_end(failures, timed=not set(events) & set(JUMPS))
                    seen["came to its end"] += 1
            except AssertionError as error:
                raise AssertionError(f"{', '.join(events)}, then {failures} checks that fail: {error}") from error
            stage.clock.advance(10_000)  # whatever it still waits for is over
            stage.provider.on_check(family, shows("down", 502))
            await service.poll()
    return seen


def in_the_suite(family: Family, torture: Torture) -> None:
    """Skip what the suite leaves to the bench: another family that differs in its messages alone."""
    if not torture.full and family is not REVID:
        pytest.skip("only at full size: the other family goes the same way")


@pytest.mark.parametrize("confirm", ["auto", "always"])
@pytest.mark.parametrize("family", [REVID, GATEWAY], ids=lambda family: family.name)
async def test_every_short_life_comes_to_the_end_that_its_provider_holds(
    family: Family, confirm: str, torture: Torture, stage: Stage
) -> None:
    in_the_suite(family, torture)
    each, longest = torture.size(1, 2), torture.size(2, 3)
    rows = [row for length in range(each + 1) for row in itertools.product(EVENTS, repeat=length)]
    rows += itertools.product(DECISIVE, repeat=longest)
    seen = await live(stage, family, confirm, [(row, failures) for row in rows for failures in (0, 1)])
    torture.figures(lives=2 * len(rows), **seen)
    assert seen["came to its end"] > len(rows) / 2


@pytest.mark.parametrize("confirm", ["auto", "always"])
@pytest.mark.parametrize("family", [REVID, GATEWAY], ids=lambda family: family.name)
async def test_any_long_life_comes_to_the_end_that_its_provider_holds(
    family: Family, confirm: str, torture: Torture, stage: Stage
) -> None:
    in_the_suite(family, torture)
    chance, number = torture.random, torture.size(6, 1000)
    everything = (*EVENTS, *JUMPS)
    rows = [tuple(chance.choices(everything, k=chance.randint(3, 9))) for _ in range(number)]
    seen = await live(stage, family, confirm, [(row, chance.randint(0, 3)) for row in rows])
    torture.figures(lives=number, **seen)
    assert seen["came to its end"] > 0
