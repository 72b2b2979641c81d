"""The one writer: units of many callers share a transaction, and each is answered after its commit.

`Store.write` is the only way in. A unit is a synchronous function of a `Transaction` that can be run again and has no
other effects: if one fails, the batch is rolled back, and every unit runs again alone. The database may block the
thread that runs them for any time; callers are answered from here, in time.
"""

import asyncio
import time
from collections import deque
from functools import partial
from typing import Any, TypeVar

import structlog
from sqlalchemy import Engine

from receiver.core.errors import OutcomeUnknown, StoreUnavailable
from receiver.store.abort import ConnectionAborter
from receiver.store.batches import BatchRunner, CommitUnknown, QueuedUnit, Unavailable
from receiver.store.threads import Call, Threads
from receiver.store.transaction import Unit

log = structlog.get_logger()

T = TypeVar("T")

PATIENCE = 3.0
"""Seconds that a unit waits at a locked database: the least patient documented sender gives up after 5."""
GRACE = 0.5
"""Seconds beyond that for the writer's thread to report the reason, before its callers are answered."""
BATCH = 256
CLOSE_SECONDS = 1.0
"""How long `close` waits for writes under way, and for the connection."""
NOT_STORED = "the database does not answer; nothing of this was stored"
NOT_KNOWN = "the database does not answer; it is not known whether this was stored"


class Writer:
    """Runs units, many to a transaction, on one thread and one connection."""

    def __init__(self, engine: Engine) -> None:
        self._runner = BatchRunner(engine)
        self._aborter = ConnectionAborter(engine)
        self._thread = Threads(1, "writer")
        self._queue: deque[QueuedUnit[Any]] = deque()
        self._running: asyncio.Task[None] | None = None
        self._call: Call[Unavailable | None] | None = None
        self._batch: list[QueuedUnit[Any]] = []
        self._closed = False
        self._end: float | None = None

    async def write(self, unit: Unit[T]) -> T:
        """Return a unit's result once it is durable.

        Raises `StoreUnavailable` if it was not stored within `PATIENCE`, `OutcomeUnknown` if that is not known, and
        whatever the unit raises. Cancelling the caller changes nothing: the unit runs all the same.
        """
        if self._closed:
            raise StoreUnavailable("the database is closed: this process is ending")
        until = time.monotonic() + PATIENCE
        waiting: QueuedUnit[T] = QueuedUnit(unit, asyncio.get_running_loop().create_future(), until)
        self._queue.append(waiting)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._work())
        return await waiting.future

    def end_within(self, seconds: float) -> None:
        """Let no caller wait longer than so many seconds from now."""
        self._end = time.monotonic() + seconds
        if self._call is not None:
            self._watch(self._call)

    async def close(self) -> None:
        """Finish what is queued, then close the connection; a blocked thread is left behind."""
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
                self._answer_expired(refused)

    def _watch(self, call: Call[Any]) -> asyncio.TimerHandle:
        """Schedule an answer for the callers whose time is up during a call."""
        now = time.monotonic()
        last = min((self._answer_by(one) for one in self._unanswered()), default=now + PATIENCE)
        return asyncio.get_running_loop().call_later(max(last - now, 0.0), self._answer_late, call)

    def _answer_late(self, call: Call[Any]) -> None:
        if call.ended or call is not self._call:
            return
        now = time.monotonic()
        late = [one for one in self._unanswered() if self._answer_by(one) <= now]
        for one in late:
            one.answered = True
            _set_error(one, StoreUnavailable(NOT_STORED) if self._runner.refuse(one) else OutcomeUnknown(NOT_KNOWN))
        self._queue = deque(one for one in self._queue if not one.answered)
        if late and self._aborter.abort(call.thread):
            log.warning("database_silent", remedy="its connection was shut down; another one is opened")
        self._watch(call)

    def _unanswered(self) -> list[QueuedUnit[Any]]:
        return [one for one in (*self._batch, *self._queue) if not one.answered]

    def _answer_by(self, one: QueuedUnit[Any]) -> float:
        """Return when a caller must have an answer."""
        return one.until + GRACE if self._end is None else min(one.until + GRACE, self._end)

    def _answer(self, waiting: QueuedUnit[Any]) -> None:
        error = waiting.error
        if waiting.answered:
            if error is None and not waiting.refused:
                log.warning("stored_after_refusal", remedy="none: a repeat is answered as already known")
        elif isinstance(error, Unavailable) and error.locked and time.monotonic() < waiting.until:
            self._queue.append(waiting)  # it came later than the one whose time was up
        elif waiting.future.cancelled():
            return
        elif error is None:
            waiting.future.set_result(waiting.outcome)
        else:
            _set_error(waiting, _copy_error(error))

    def _answer_expired(self, error: Unavailable) -> None:
        """Answer every caller whose time is up, also those who were not in the batch."""
        waiting, self._queue = self._queue, deque()
        for one in waiting:
            one.error = error
            if time.monotonic() < one.until:
                self._queue.append(one)
            else:
                self._answer(one)


def _copy_error(error: BaseException) -> BaseException:
    """Return a separate error for each caller: a shared one would collect all their tracebacks."""
    if isinstance(error, Unavailable):
        return StoreUnavailable(str(error))
    return OutcomeUnknown(str(error)) if isinstance(error, CommitUnknown) else error


def _set_error(waiting: QueuedUnit[Any], error: BaseException) -> None:
    if not waiting.future.done():  # its caller may be gone
        waiting.future.set_exception(error)
        waiting.future.exception()
