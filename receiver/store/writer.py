"""The one door for writes: units of many callers share a transaction, and each is answered after its commit.

`Store.write` is the only way in. A unit is a synchronous, re-runnable function of a `Transaction` without other
effects: if one fails, the batch is rolled back and every unit runs again alone. The thread that runs them may be stuck
for as long as the database likes: callers are answered from here, in time.
"""

import asyncio
import time
from collections import deque
from functools import partial
from typing import Any, TypeVar

import structlog
from sqlalchemy import Engine

from receiver.core.errors import OutcomeUnknown, StoreUnavailable
from receiver.store.abort import Abortable
from receiver.store.batches import Runner, Shut, Unknown, Waiting
from receiver.store.threads import Call, Threads
from receiver.store.transaction import Unit

log = structlog.get_logger()

T = TypeVar("T")

PATIENCE = 3.0
"""Seconds a unit waits for its turn at a locked database: the tightest documented sender gives up after 5."""
GRACE = 0.5
"""Seconds that the writer's thread has beyond that to say why it let nobody in, before its callers are answered."""
BATCH = 256
CLOSE_SECONDS = 1.0
"""How long a close waits for what is being written, and for the connection."""
NOT_STORED = "the database does not answer; nothing of this was stored"
NOT_KNOWN = "the database does not answer; whether this was stored is not known"


class Door:
    """Runs units, many to a transaction, on one thread and one connection."""

    def __init__(self, engine: Engine) -> None:
        self._runner = Runner(engine)
        self._abortable = Abortable(engine)
        self._thread = Threads(1, "writer")
        self._queue: deque[Waiting[Any]] = deque()
        self._running: asyncio.Task[None] | None = None
        self._call: Call[Shut | None] | None = None
        self._batch: list[Waiting[Any]] = []
        self._closed = False
        self._end: float | None = None

    async def write(self, unit: Unit[T]) -> T:
        """Run a unit and return its result once it is durable.

        Raises `StoreUnavailable` if it was not stored within `PATIENCE`, `OutcomeUnknown` where that is not known, and
        whatever the unit raises. A caller that is cancelled changes nothing: the unit runs all the same.
        """
        if self._closed:
            raise StoreUnavailable("the database is closed: this process is ending")
        until = time.monotonic() + PATIENCE
        waiting: Waiting[T] = Waiting(unit, asyncio.get_running_loop().create_future(), until)
        self._queue.append(waiting)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._work())
        return await waiting.future

    def end_within(self, seconds: float) -> None:
        """Let nobody wait for longer than so many seconds from now, whenever they come."""
        self._end = time.monotonic() + seconds
        if self._call is not None:
            self._watch(self._call)

    async def close(self) -> None:
        """Finish what is queued, then give up the connection; a thread that is stuck is left behind."""
        self._closed = True
        if self._end is None:
            self.end_within(PATIENCE)
        if self._running is not None:
            left = self._end - time.monotonic() if self._end is not None else PATIENCE
            await asyncio.wait({self._running}, timeout=max(left, 0) + GRACE)
        stuck = self._call is not None
        closed = self._thread.close(self._runner.disconnect)
        await asyncio.wait({closed.future}, timeout=0 if stuck else CLOSE_SECONDS)

    async def _work(self) -> None:
        while self._queue:
            batch = self._batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]
            call = self._call = self._thread.run(partial(self._runner.run, batch))
            alarm = self._watch(call)
            refused = await call.future
            alarm.cancel()
            self._batch, self._call = [], None
            for waiting in batch:
                self._answer(waiting)
            if refused is not None:
                self._refuse_late(refused)

    def _watch(self, call: Call[Any]) -> asyncio.TimerHandle:
        """See to it that whoever's time is up while a call goes on is answered."""
        now = time.monotonic()
        last = min((self._last(one) for one in self._waiting()), default=now + PATIENCE)
        return asyncio.get_running_loop().call_later(max(last - now, 0.0), self._look, call)

    def _look(self, call: Call[Any]) -> None:
        if call.ended or call is not self._call:
            return
        now = time.monotonic()
        late = [one for one in self._waiting() if self._last(one) <= now]
        for one in late:
            one.told = True
            _fail(one, StoreUnavailable(NOT_STORED) if self._runner.refuse(one) else OutcomeUnknown(NOT_KNOWN))
        self._queue = deque(one for one in self._queue if not one.told)
        if late and self._abortable.abort(call.thread):
            log.warning("database_silent", remedy="its connection was broken off; another one is opened")
        self._watch(call)

    def _waiting(self) -> list[Waiting[Any]]:
        return [one for one in (*self._batch, *self._queue) if not one.told]

    def _last(self, one: Waiting[Any]) -> float:
        """Return when somebody must have an answer."""
        return one.until + GRACE if self._end is None else min(one.until + GRACE, self._end)

    def _answer(self, waiting: Waiting[Any]) -> None:
        error = waiting.error
        if waiting.told:
            if error is None and not waiting.refused:
                log.warning("stored_after_its_refusal", remedy="none: whoever sends it again is told that it is known")
        elif isinstance(error, Shut) and error.locked and time.monotonic() < waiting.until:
            self._queue.append(waiting)  # it came later than the one whose time was up
        elif waiting.future.cancelled():
            return
        elif error is None:
            waiting.future.set_result(waiting.outcome)
        else:
            _fail(waiting, _own(error))

    def _refuse_late(self, error: Shut) -> None:
        """Answer everybody whose time is up, also those for whom there was no room in the batch."""
        waiting, self._queue = self._queue, deque()
        for one in waiting:
            one.error = error
            if time.monotonic() < one.until:
                self._queue.append(one)
            else:
                self._answer(one)


def _own(error: BaseException) -> BaseException:
    """Return an error of its own for a caller: one that all of them raise would collect all their tracebacks."""
    if isinstance(error, Shut):
        return StoreUnavailable(str(error))
    return OutcomeUnknown(str(error)) if isinstance(error, Unknown) else error


def _fail(waiting: Waiting[Any], error: BaseException) -> None:
    if not waiting.future.done():  # its caller may be gone
        waiting.future.set_exception(error)
        waiting.future.exception()
