"""Every order in which the steps of several claimants of one submission can happen, tried one by one.

The claimants run the service's own code. Each stops before every step that others can see (claim, read, commit, send,
answer, write down), and the explorer decides who goes on, whose lease runs out, whose write fails, who is told to stop.
Whoever is never let go on again was killed, or is suspended. A state that was seen before is not explored again.
"""

import asyncio
import contextlib
import json
import selectors
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
from sqlmodel import Session

from receiver.core.errors import NotSent, StoreUnavailable, Unconfirmed
from receiver.core.ids import new_id
from receiver.outbound.client import BeforePaid, OnAnswer, Outbound
from receiver.providers.base import Flow
from receiver.services import Services
from receiver.store import Store, Transaction, Unit, tasks
from receiver.store.engine import reader_engine, writer_engine
from receiver.store.tasks import Claim
from receiver.store.transaction import Compiler
from receiver.tasks import attempts, recovery
from tests.behaviour.families import FAMILIES

T = TypeVar("T")

NOW = 1_795_176_000_000
TASK_ID = new_id(NOW)
REMOTE_ID = "remote-1"
LEASE_OVER = 40_000
BOUGHT = frozenset({"accepted", "timeout", "broken", "error"})
"""Answers to an order that was bought."""
ANSWERS = ("accepted", "refused", "busy", "not_sent", "timeout", "lost", "broken", "error")
TABLES = ("attention", "output", "status_check", "delivery", "attempt", "history", "task")

Choice = tuple[str, str]
"""What happens next, and to whom."""


class _SkippingSelector(selectors.DefaultSelector):
    """Lets a loop that would wait skip the time instead: nothing here waits for anything outside of the loop."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found and timeout is None:
            raise AssertionError("everybody waits for somebody else")
        if not found and timeout:
            self.skipped += timeout
        return found


class SkippingLoop(asyncio.SelectorEventLoop):
    """A loop in which sleeping takes no time."""

    def __init__(self) -> None:
        self._skipping = _SkippingSelector()
        super().__init__(self._skipping)

    def time(self) -> float:
        return super().time() + self._skipping.skipped


class World:
    """What all claimants share: the database, the clock, and what the provider sold."""

    def __init__(self, file: Path, task: Mapping[str, Any]) -> None:
        url = f"sqlite:///{file}"
        self._writer, self._reader = writer_engine(url), reader_engine(url)
        self._connection: Any = self._writer.raw_connection()
        self._compiler = Compiler(self._writer)
        self._task = dict(task)
        self.now, self.sent = NOW, 0
        self.answers: tuple[str, ...] = ()
        self.sold: list[str] = []

    def begin(self, answers: tuple[str, ...]) -> None:
        """Begin anew with one task; `answers` are how the provider answers the orders in turn, the last for ever."""
        self.now, self.sent, self.answers, self.sold = NOW, 0, answers, []
        cursor = self._connection.cursor()
        for table in TABLES:
            cursor.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names
        self._connection.commit()
        self.write(lambda tx: tasks.insert_task(tx, self._task))

    def write(self, unit: Unit[T]) -> T:
        cursor = self._connection.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        try:
            result = unit(Transaction(cursor, self._compiler))
        except BaseException:
            self._connection.rollback()
            raise
        self._connection.commit()
        return result

    def read(self, query: Callable[[Session], T]) -> T:
        with Session(self._reader) as session:
            return query(session)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        cursor = self._connection.cursor()
        cursor.execute(query)
        return [tuple(row) for row in cursor.fetchall()]

    def close(self) -> None:
        self._connection.close()
        self._writer.dispose()
        self._reader.dispose()

    def take_order(self, key: str | None) -> str:
        """Receive an order; returns how it is answered."""
        how = self.answers[min(self.sent, len(self.answers) - 1)]
        self.sent += 1
        if how in BOUGHT and (key is None or key not in self.sold):
            self.sold.append(key or f"order {self.sent}")
        return how

    def seen(self) -> tuple[Any, ...]:
        """What the database and the provider hold."""
        task = self.rows(
            f"SELECT state, claim, leased_until IS NULL, leased_until > {self.now}, next_check_at > {self.now},"  # noqa: S608
            " remote_id, error_code, may_have_cost, attempts FROM task"
        )
        made = self.rows("SELECT number, key, outcome, may_have_bought, repeats, claim FROM attempt ORDER BY number")
        return (*task, *made, *self.sold, self.sent, self.now)

    def left(self) -> tuple[Any, ...]:
        """Everything on which it depends how those go on who were not there."""
        rows = (tuple(self.rows(f"SELECT * FROM {table}")) for table in TABLES)  # noqa: S608 - our own names
        return (*rows, *self.sold, self.sent, self.now, self.answers)


class Claimant:
    """One process at work on the task. It goes on only when it is told to, unless it is `free`."""

    def __init__(
        self, world: World, services: Services, work: "Callable[[Claimant], Awaitable[None]]", *, free: bool = False
    ) -> None:
        self.world = world
        self.did: list[tuple[Any, ...]] = []
        """Its steps and what each brought, by which all that it knows is determined."""
        self.at: str | None = None
        self.fault: str | None = None
        self.stopped = self.dead = False
        self._free = free
        self._go: asyncio.Future[None] | None = None
        self._arrived: asyncio.Future[None] | None = None
        self.services = replace(
            services, store=SteppedStore(self), outbound=SteppedOutbound(self), stopping=asyncio.Event()
        )
        self._task = asyncio.ensure_future(self._run(work))
        self._task.add_done_callback(lambda _: self._arrive())

    async def _run(self, work: "Callable[[Claimant], Awaitable[None]]") -> None:
        with contextlib.suppress(StoreUnavailable, asyncio.CancelledError):
            await work(self)

    async def before(self, step: str) -> str | None:
        """Wait before a step that others can see; returns what goes wrong with it."""
        if self.dead:
            raise asyncio.CancelledError
        if self._free:
            return None
        self.at = step
        self._go = asyncio.get_running_loop().create_future()
        self._arrive()
        try:
            await self._go
        finally:
            self.at = None
        if self.dead:
            raise asyncio.CancelledError
        return self.fault

    async def go_on(self, fault: str | None = None) -> None:
        """Let it make its step, and all that nobody can see until the next one."""
        assert self._go is not None
        self.at, self.fault = None, fault
        self._go.set_result(None)
        await self.arrived()

    async def stop(self) -> None:
        """Tell it to stop, as SIGTERM does."""
        self.at, self.stopped = None, True
        self.services.stopping.set()
        self._task.cancel()
        await self.arrived()

    async def arrived(self) -> None:
        """Wait until it is before its next step, or done."""
        while self.at is None and not self._task.done():
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        if self._task.done():
            self._task.result()

    def _arrive(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    async def kill(self) -> None:
        """Let nothing of it happen any more."""
        self.dead = True
        self._task.cancel()
        if self._go is not None and not self._go.done():
            self._go.set_result(None)  # what is shielded from being cancelled ends, too
        await asyncio.wait({self._task})

    @property
    def is_done(self) -> bool:
        return self._task.done()


class SteppedStore(Store):
    """A store whose every use is a step."""

    def __init__(self, claimant: Claimant) -> None:
        self._claimant = claimant

    async def write(self, unit: Unit[T]) -> T:
        fault = await self._claimant.before("write")
        if fault == "not written":
            self._claimant.did.append((fault,))
            raise StoreUnavailable("locked")
        result = self._claimant.world.write(unit)
        self._claimant.did.append(("write", fault, repr(result), self._claimant.world.now))
        if fault == "written, not told":
            raise StoreUnavailable("nobody knows")
        return result

    async def read(self, query: Callable[[Session], T]) -> T:
        await self._claimant.before("read")
        result = self._claimant.world.read(query)
        self._claimant.did.append(("read", str(getattr(result, "state", None)), getattr(result, "attempts", None)))
        return result


class SteppedOutbound(Outbound):
    """Drives a flow as the real one does; that a request leaves, and that it is answered, are steps."""

    def __init__(self, claimant: Claimant) -> None:
        self._claimant = claimant

    async def run(
        self, account: str, flow: Flow[T], *, on_answer: OnAnswer, before_paid: BeforePaid | None = None
    ) -> T:
        try:
            request = next(flow)
            assert before_paid is not None
            response = await self._take(account, await before_paid(request))
            on_answer(response)
            flow.send(response)
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            flow.close()
        raise AssertionError("one request buys")

    async def _take(self, account: str, request: httpx.Request) -> httpx.Response:
        await self._claimant.before("send")
        how = self._claimant.world.take_order(request.headers.get("idempotency-key"))
        self._claimant.did.append(("send", how))
        await self._claimant.before("answer")
        self._claimant.did.append(("answer", self._claimant.world.now))
        if how == "not_sent":
            raise NotSent("not_sent", "no connection")
        if how in ("timeout", "lost"):
            raise Unconfirmed("timeout", "no answer")
        status, body = {
            "accepted": (200, FAMILIES[account].accepted(REMOTE_ID)),
            "refused": (400, {"code": 400, "message": "no"}),
            "busy": (429, {"message": "busy"}),
            "broken": (200, {"message": "what?"}),
            "error": (500, {"message": "oops"}),
        }[how]
        return httpx.Response(status, content=json.dumps(body), request=request)


async def first_try(claimant: Claimant) -> None:
    """The first try, as `submission` begins it: the task was stored with a lease."""
    await attempts.attempt(claimant.services, Claim(TASK_ID, 1))


async def sweep(claimant: Claimant) -> None:
    """A sweep: whoever finds the task due claims it and works on it, several times over."""
    services = claimant.services
    for _ in range(2):
        now, until = services.clock(), services.new_lease_end()
        claims = await services.store.write(partial(_claim, accounts=services.providers, now=now, until=until))
        for claim in claims:
            await attempts.attempt(services, claim)


def _claim(tx: Transaction, accounts: Iterable[str], now: int, until: int) -> list[Claim]:
    return [claim for account in accounts for claim in tasks.claim_due(tx, account, now, until, 1)]


async def start(claimant: Claimant) -> None:
    """A service that starts."""
    await recovery.recover(claimant.services)


WORKS = {"first": first_try, "sweep": sweep, "start": start}


@dataclass
class Explorer:
    """Tries everything that can happen with these claimants; `leases`, `faults` and `stops` bound how often each."""

    world: World
    services: Services
    who: tuple[str, ...]
    leases: int = 2
    faults: int = 1
    stops: int = 1
    states: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    """How often the task was found in each state after everybody died and a new process had looked at it."""
    _end_of: dict[tuple[Any, ...], str] = field(default_factory=dict)
    """The same by what the dead had left: many orders of events leave the same, and it goes on in one way."""

    def explore(self, answers: tuple[str, ...]) -> None:
        """Try every order of events; raises `AssertionError` naming the first one that breaks a promise."""
        known: set[tuple[Any, ...]] = set()
        waiting: list[tuple[Choice, ...]] = [()]
        with asyncio.Runner(loop_factory=SkippingLoop) as runner:
            while waiting:
                schedule = waiting.pop()
                try:
                    choices = runner.run(self._play(schedule, answers, known))
                except Exception as error:
                    happened = ", ".join(" ".join(choice) for choice in schedule)
                    raise AssertionError(f"answered {answers}, after {happened}: {error}") from error
                waiting += [(*schedule, choice) for choice in choices]
        self.states += len(known)

    async def _play(
        self, schedule: tuple[Choice, ...], answers: tuple[str, ...], known: set[tuple[Any, ...]]
    ) -> list[Choice]:
        """Play what happens, then let everybody die; returns what else can happen there, where that is not known."""
        self.world.begin(answers)
        claimants = {name: Claimant(self.world, self.services, WORKS[name]) for name in self.who}
        try:
            for claimant in claimants.values():
                await claimant.arrived()
            for what, name in schedule:
                await self._let(claimants.get(name), what)
            state = (
                self.world.seen(),
                *((name, each.at, each.stopped, each.is_done, *each.did) for name, each in claimants.items()),
                *(sum(what == limited for what, _ in schedule) for limited in ("lease", "stop")),
            )
            if state in known:
                return []
            known.add(state)
            choices = list(self._choices(claimants, schedule))
        finally:
            for claimant in claimants.values():
                await claimant.kill()
        self._assert_bought_once()
        if not choices or all(what == "lease" for what, _ in choices):
            self._assert_what_was_learned_is_known(claimants, schedule)
        left = self.world.left()
        if left not in self._end_of:
            self._end_of[left] = await self._aftermath()
        self.ends[self._end_of[left]] += 1
        return choices

    async def _let(self, claimant: Claimant | None, what: str) -> None:
        if claimant is None:
            self.world.now += LEASE_OVER
        elif what == "stop":
            await claimant.stop()
        else:
            await claimant.go_on(None if what == "go on" else what)

    def _choices(self, claimants: dict[str, Claimant], schedule: tuple[Choice, ...]) -> Iterator[Choice]:
        happened = [what for what, _ in schedule]
        faults = sum(what in ("not written", "written, not told") for what in happened)
        for name, claimant in claimants.items():
            if claimant.is_done:
                continue
            yield "go on", name
            if claimant.at == "write" and faults < self.faults:
                yield "not written", name
                yield "written, not told", name
            if not claimant.stopped and happened.count("stop") < self.stops:
                yield "stop", name
        if happened.count("lease") < self.leases:
            yield "lease", "everybody"

    def _assert_bought_once(self) -> None:
        assert len(self.world.sold) <= 1, f"bought {len(self.world.sold)} times"

    def _assert_what_was_learned_is_known(self, claimants: dict[str, Claimant], schedule: tuple[Choice, ...]) -> None:
        """Where nobody died and nothing went wrong, what the provider answered is what the task says."""
        if any(what not in ("go on", "lease") for what, _ in schedule):
            return
        answered = {step[1] for each in claimants.values() for step in each.did if step[0] == "send"}
        [(state, remote_id, cost)] = self.world.rows("SELECT state, remote_id, may_have_cost FROM task")
        if "accepted" in answered:
            assert (state, remote_id) == ("submitted", REMOTE_ID), f"accepted, and the task is {state}"
        assert cost or not self.world.sold, "what was bought counts as free"
        assert not cost or answered & (BOUGHT | {"lost"}), "what was not bought counts as spent"

    async def _aftermath(self) -> str:
        """After everybody died, services start and sweep until nothing is under way; returns the task's state."""
        for _ in range(3):
            self.world.now += LEASE_OVER
            for work in (start, sweep):
                await Claimant(self.world, self.services, work, free=True).arrived()
        self._assert_bought_once()
        [(state, cost)] = self.world.rows("SELECT state, may_have_cost FROM task")
        if self.world.sold:
            assert state in ("submitted", "unconfirmed", "submitting"), f"bought, and the task is {state}"
            assert cost, "what was bought counts as free"
        open_ended = self.world.rows("SELECT 1 FROM attempt WHERE ended_at IS NULL")
        assert state != "submitting" or not open_ended, "it is stuck"
        return str(state)
