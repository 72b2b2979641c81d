"""Lives of tasks as a state machine: whatever providers, callbacks, clocks, crashes and people do, in any order."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from receiver.core.links import Links
from receiver.core.messages import Outcome
from tests.behaviour.families import FAMILIES, GATEWAY, REVID, RIVYA, Family
from tests.behaviour.provider import Exchange, Script, cuts, says, shows, slams
from tests.behaviour.service import NOW, PUBLIC_URL, Service, Stage, staged
from tests.behaviour.test_any_order import MAY_BECOME, NEWS, News, body
from tests.behaviour.test_any_order import script as told
from tests.measuring import HANG

T = TypeVar("T")

SETTLED = ("succeeded", "failed", "cancelled", "expired")
MAY_BECOME_BY_HAND = MAY_BECOME | {"expired": MAY_BECOME["expired"] | {"submitted"}}
OUTCOMES = {outcome.value for outcome in Outcome}
TAKEN = {"accepted", "lost", "cut", "page", "broken"}
"""Answers to a create after which the work was taken, and paid for."""
TROUBLES = st.sampled_from(["accepted", "accepted", "busy", "refused", "lost", "cut", "page", "broken"])
STEPS = st.sampled_from([0, 1, 60, 400, 3000, 7300, -3600])
"""Seconds by which the clock moves, also back."""


def answer(family: Family, how: str, remote_id: str) -> Script:
    """What a provider does with a create request."""
    accepted = family.accepted(remote_id)
    return {
        "accepted": says(accepted),
        "busy": says({"message": "busy"}, 429, Retry_After="60"),
        "refused": says({"code": 400, "message": "no"}, 400),
        "lost": slams(),
        "cut": cuts(accepted),
        "page": shows("a page", 200),
        "broken": says({"message": "oops"}, 500),
    }[how]


class Lives(RuleBasedStateMachine):
    """Tasks and what happens to them; after every step the database is held against what was seen before it.

    A crash is played by what was committed at that moment: another service goes on with a copy of it, and whatever the
    old one still does is lost.
    """

    directory: ClassVar[Path]
    factory: ClassVar[pytest.TempPathFactory]
    seen: ClassVar[Counter[str]]
    _numbers: ClassVar[Any] = count(1)

    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.ids = count(1)
        self.charged: Counter[str] = Counter()
        self.charged_keys: set[str] = set()
        self.acknowledged: Counter[str] = Counter()
        self.moves: dict[str, list[str]] = {}
        self.outputs: dict[str, list[str]] = {}
        self.keys = ["the-signing-key"]
        self.swept = False
        self.everything, self.running = AsyncExitStack(), AsyncExitStack()

    # --- the stage

    @initialize(target=tasks, family=st.sampled_from([REVID, GATEWAY, RIVYA]))
    def begin(self, family: Family) -> Any:
        place = self.directory / str(next(self._numbers))
        place.mkdir()
        self.stage: Stage = self.run(self.everything.enter_async_context(staged(place, self.factory)))
        self.run(self.start(self.stage))
        return self.ordered(family, "accepted", "accepted")

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Let one thing happen, and all that follows from it: what comes next must not depend on who was faster."""

        async def until_quiet() -> T:
            result = await work
            if hasattr(self, "service"):
                await self.service.app.state.services.background.drain(HANG)
            return result

        return self.runner.run(until_quiet())

    async def start(self, stage: Stage) -> None:
        self.here = stage
        self.service: Service = await self.running.enter_async_context(
            stage.serve(SECRET_KEYS=",".join(self.keys), TIMEOUT="5")
        )

    async def go_on_with(self, remains: Stage) -> None:
        """Let the service die: nothing that it did since the copy was taken is known to anybody."""
        await self.running.aclose()
        await self.start(remains)

    def remains(self) -> Stage:
        """Copy what is committed now."""
        remains = self.here.beside(f"life-{next(self.ids)}")
        self.service.database.image(remains.directory / "receiver.db")
        return remains

    def teardown(self) -> None:
        try:
            if hasattr(self, "service"):
                self.run(self.end())
        finally:
            self.run(self.running.aclose())
            self.run(self.everything.aclose())
            self.runner.close()

    async def end(self) -> None:
        """In the end every task settles."""
        for family in FAMILIES.values():
            self.stage.provider.on_check(family, slams())
            self.stage.provider.on_create(family, slams())
        self.stage.clock.now = max(self.stage.clock.now, NOW) + 7_300_000
        for _ in range(2):  # what was sent once more has a deadline of its own
            await self.service.poll()
            self.stage.clock.advance(7300)
        await self.service.poll()
        rows = self.service.database.rows("SELECT id, state FROM task")
        assert [row for row in rows if row[1] not in SETTLED] == []

    # --- the provider's side

    def taking(self, family: Family, how: str, first: Callable[[Exchange], Coroutine[Any, Any, None]] | None) -> Script:
        """Answer creates so, and keep the ledger of what was bought by whom; `first` happens before the answer."""

        async def script(exchange: Exchange) -> None:
            request = exchange.request
            remote_id = f"{family.name}-r{next(self.ids)}"
            key = request.headers.get("idempotency-key")
            if how in TAKEN and not (family is RIVYA and key in self.charged_keys):
                owner = _named_in(request.callback_url) if family.calls_back else str(key).rpartition("-")[0]
                self.charged[owner] += 1
                self.charged_keys.add(str(key))
            if first is not None:
                await first(exchange)
            await answer(family, how, remote_id)(exchange)

        return script

    def link(self, task: tuple[str, Family]) -> str:
        url = Links(self.keys, PUBLIC_URL).callback_url(task[1].name, task[0])
        assert url is not None
        return url.removeprefix(PUBLIC_URL)

    async def deliver(self, task: tuple[str, Family], said: Any) -> None:
        answered = await self.service.deliver(self.link(task), said)
        assert answered.status_code == 200, answered.text
        self.seen[f"{answered.json()['outcome']}"] += 1
        self.acknowledged[task[0]] += 1

    def remote_of(self, task: tuple[str, Family]) -> str:
        [(known,)] = self.service.database.rows("SELECT remote_id FROM task WHERE id = ?", task[0])
        return known or f"unknown-{task[0]}"

    # --- what can happen

    @rule(target=tasks, family=st.sampled_from([REVID, GATEWAY, RIVYA]), how=TROUBLES, then=TROUBLES)
    def submit(self, family: Family, how: str, then: str) -> Any:
        return self.ordered(family, how, then)

    def ordered(self, family: Family, how: str, then: str) -> tuple[str, Family]:
        scripts = (self.taking(family, how, None), self.taking(family, then, None))
        self.stage.provider.on_create(family, *scripts)
        task = self.run(self.service.order(family.order()))
        return task["id"], family

    @rule(target=tasks, family=st.sampled_from([REVID, GATEWAY]), news=st.sampled_from(NEWS), how=TROUBLES)
    def submit_overtaken(self, family: Family, news: News, how: str) -> Any:
        """A callback comes before the answer to the submission."""

        async def overtake(exchange: Exchange) -> None:
            owner = _named_in(exchange.request.callback_url)
            await self.deliver((owner, family), body(family, news, f"early-{owner}"))

        self.stage.provider.on_create(family, self.taking(family, how, overtake), self.taking(family, "accepted", None))
        return self.run(self.service.order(family.order()))["id"], family

    @rule(target=tasks, family=st.sampled_from([REVID, GATEWAY, RIVYA]), how=TROUBLES, away=st.sampled_from([0, 60]))
    def submit_and_crash(self, family: Family, how: str, away: int) -> Any:
        """The service dies with the request on its way, and is away for a while."""
        remains: list[Stage] = []

        async def die(_: Exchange) -> None:
            remains.append(self.remains())

        self.stage.provider.on_create(family, self.taking(family, how, die), self.taking(family, "accepted", None))

        async def go() -> Any:
            task = await self.service.order(family.order())
            self.stage.clock.advance(away)
            await self.go_on_with(remains[0])
            await self.service.poll()
            return task["id"], family

        self.seen["crash"] += 1
        return self.run(go())

    @rule(task=tasks, news=st.sampled_from(NEWS), named=st.sampled_from(["right", "right", "none", "wrong"]))
    def call_back(self, task: Any, news: News, named: str) -> None:
        remote_id = {"right": self.remote_of(task), "none": "", "wrong": "somebody-else"}[named]
        self.run(self.deliver(task, body(task[1], news, remote_id)))

    @rule(task=tasks, news=st.sampled_from(NEWS))
    def call_back_many_times_at_once(self, task: Any, news: News) -> None:
        said = body(task[1], news, self.remote_of(task))

        async def go() -> None:
            await asyncio.gather(*(self.deliver(task, said) for _ in range(4)))

        self.run(go())

    @rule(task=tasks, news=st.sampled_from(NEWS))
    def call_back_while_the_database_is_locked(self, task: Any, news: News) -> None:
        said = body(task[1], news, self.remote_of(task))

        async def go() -> None:
            with self.service.database.locked():
                waiting = asyncio.create_task(self.deliver(task, said))
                await asyncio.wait({waiting}, timeout=0.02)
                assert not waiting.done(), "answered before it was stored"
            await waiting

        self.run(go())

    @rule(task=tasks, news=st.sampled_from(NEWS))
    def forge(self, task: Any, news: News) -> None:
        url = Links(["a-stolen-guess"], PUBLIC_URL).callback_url(task[1].name, task[0])
        assert url is not None

        async def go() -> None:
            said = body(task[1], news, self.remote_of(task))
            answered = await self.service.deliver(url.removeprefix(PUBLIC_URL), said)
            assert answered.status_code == 404

        self.run(go())

    @rule(seconds=STEPS, news=st.none() | st.sampled_from(NEWS))
    def sweep(self, seconds: int, news: News | None) -> None:
        self.answer_checks(news)
        self.stage.clock.advance(seconds)
        self.run(self.service.poll())
        self.swept = True

    @rule(task=tasks, news=st.none() | st.sampled_from(NEWS))
    def check(self, task: Any, news: News | None) -> None:
        self.answer_checks(news)
        self.run(self.service.post(f"/api/tasks/{task[0]}/check"))

    def answer_checks(self, news: News | None) -> None:
        def script(family: Family) -> Script:
            async def tell(exchange: Exchange) -> None:
                request = exchange.request
                asked = (request.query.get("taskId") or [request.path.rpartition("/")[2]])[0]
                await told(family, news, asked)(exchange)

            return tell

        for family in (REVID, GATEWAY, RIVYA):
            self.stage.provider.on_check(family, script(family))

    @rule()
    def crash(self) -> None:
        self.seen["crash"] += 1
        remains = self.remains()
        self.run(self.go_on_with(remains))

    @rule()
    def rotate_the_key(self) -> None:
        self.keys.insert(0, f"key-number-{next(self.ids)}")
        self.run(self.go_on_with(self.here))

    @rule(task=tasks, how=st.sampled_from(["cancel", "not_bought", "adopt"]))
    def resolve(self, task: Any, how: str) -> None:
        self.answer_checks("working")
        action, given = {
            "cancel": ("cancel", None),
            "not_bought": ("adopt", {"not_bought": True}),
            "adopt": ("adopt", {"remote_id": f"found-{next(self.ids)}"}),
        }[how]
        answered = self.run(self.service.post(f"/api/tasks/{task[0]}/{action}", given))
        assert answered.status_code in (200, 409)

    @rule(target=tasks, task=tasks, how=TROUBLES)
    def retry(self, task: Any, how: str) -> Any:
        self.stage.provider.on_create(task[1], self.taking(task[1], how, None), self.taking(task[1], "accepted", None))
        answered = self.run(self.service.post(f"/api/tasks/{task[0]}/retry"))
        assert answered.status_code in (201, 409), answered.text
        # What is drawn next must not depend on what the service said, so that an example can be repeated.
        return (answered.json()["id"], task[1]) if answered.status_code == 201 else task

    # --- what always holds

    def snapshot(self, *queries: str) -> list[list[tuple[Any, ...]]]:
        """Read several things as of one moment."""
        with self.service.database.connected() as connection:
            connection.execute("BEGIN")
            return [connection.execute(query).fetchall() for query in queries]

    @invariant()
    def nothing_is_bought_twice(self) -> None:
        assert {task: times for task, times in self.charged.items() if times > 1} == {}

    @invariant()
    def every_acknowledged_callback_has_its_outcome(self) -> None:
        if not hasattr(self, "service"):
            return
        rows, counted = self.snapshot(
            "SELECT task_id, outcome FROM delivery WHERE task_id IS NOT NULL",
            "SELECT id, deliveries, unstored FROM task",
        )
        assert {outcome for _, outcome in rows} <= OUTCOMES
        stored = Counter(task_id for task_id, _ in rows)
        for task_id, deliveries, unstored in counted:
            assert stored[task_id] == deliveries, task_id
            assert deliveries + unstored == self.acknowledged[task_id], task_id

    @invariant()
    def every_life_is_legal_and_nothing_final_is_undone(self) -> None:
        if not hasattr(self, "service"):
            return
        moves: dict[str, list[str]] = {}
        query = """SELECT task_id, json_extract(data, '$.from'), json_extract(data, '$.to'), json_extract(data, '$.via')
                   FROM history WHERE kind = 'move' ORDER BY id"""
        made, states = self.snapshot(query, "SELECT id, state FROM task")
        for task_id, was, state, via in made:
            path = moves.setdefault(task_id, ["queued"])
            assert path[-1] == was
            assert state in MAY_BECOME_BY_HAND[was], (was, state)
            assert was != "failed" or via == "check"
            path.append(state)
        for task_id, path in self.moves.items():
            assert moves.get(task_id, ["queued"])[: len(path)] == path, "what was seen is gone, or never was"
        for task_id, state in states:
            assert moves.setdefault(task_id, ["queued"])[-1] == state
        self.moves = moves

    @invariant()
    def no_task_is_forgotten_and_no_result_changes(self) -> None:
        if not hasattr(self, "service"):
            return
        database, now = self.service.database, self.stage.clock.now
        for task_id, state, due, leased in database.rows("SELECT id, state, next_check_at, leased_until FROM task"):
            if state in SETTLED:
                continue
            assert due is not None or leased is not None, f"{task_id} is {state}, and nobody looks at it again"
            if self.swept and state == "submitting":
                assert max(due or 0, leased or 0) > now, f"{task_id} is stuck"
        self.swept = False
        outputs: dict[str, list[str]] = {}
        for task_id, url in database.rows("SELECT task_id, url FROM output ORDER BY task_id, position"):
            outputs.setdefault(task_id, []).append(url)
        assert outputs | self.outputs == outputs
        self.outputs = outputs


def _named_in(url: str | None) -> str:
    """The task whose callback URL this is."""
    assert url is not None
    return url.rpartition("/")[2].partition(".")[0]
