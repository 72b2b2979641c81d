"""The one door for writes: units of many callers share a transaction, and each is answered after its commit.

`Store.write` is the only way in. A unit is a synchronous, re-runnable function of a `Transaction` without other
effects: if one fails, the batch is rolled back and every unit runs again alone.
"""

import asyncio
import contextlib
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from receiver.errors import ReceiverError, StoreUnavailable
from receiver.store.engine import moved, unavailable
from receiver.store.transaction import Compiler, Transaction, Unit

T = TypeVar("T")

PATIENCE = 3.0
"""Seconds a unit waits for its turn at a locked database: the tightest documented sender gives up after 5."""
BATCH = 256
_LOCKED = ("locked", "busy")
_LOCK_TIMEOUT = "55P03"
"""PostgreSQL's code for a lock that was not to be had in time."""
_DRIVERS = ("pysqlite3", "sqlite3", "psycopg")


@dataclass(slots=True)
class _Waiting(Generic[T]):
    unit: Unit[T]
    future: "asyncio.Future[T]"
    until: float
    outcome: Any = field(default=None)
    error: BaseException | None = None


class _Shut(Exception):
    """The database let nobody in, and nothing of the batch is stored. While it is only `locked`, it is tried again."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(unavailable(error)))
        self.locked = _is_locked(error)


class Door:
    """Runs units, many to a transaction, on one thread and one connection."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._compiler = Compiler(engine)
        self._sqlite = engine.dialect.name == "sqlite"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._queue: deque[_Waiting[Any]] = deque()
        self._running: asyncio.Task[None] | None = None
        self._connection: Any = None
        self._closed = False

    async def write(self, unit: Unit[T]) -> T:
        """Run a unit and return its result once it is durable.

        Raises `StoreUnavailable` if it could not be stored within `PATIENCE`, and whatever the unit raises. A caller
        that is cancelled changes nothing: the unit runs all the same.
        """
        if self._closed:
            raise StoreUnavailable("the database is closed: this process is ending")
        waiting: _Waiting[T] = _Waiting(unit, asyncio.get_running_loop().create_future(), time.monotonic() + PATIENCE)
        self._queue.append(waiting)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._work())
        return await waiting.future

    async def close(self) -> None:
        """Finish what is queued, then give up the connection."""
        self._closed = True
        if self._running is not None:
            await self._running
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]
            refused = await loop.run_in_executor(self._thread, self._run_batch, batch)
            for waiting in batch:
                self._answer(waiting)
            if refused is not None:
                self._refuse_late(refused)

    def _answer(self, waiting: "_Waiting[Any]") -> None:
        error = waiting.error
        if isinstance(error, _Shut) and error.locked and time.monotonic() < waiting.until:
            self._queue.append(waiting)  # it came later than the one whose time was up
        elif waiting.future.cancelled():
            return
        elif error is None:
            waiting.future.set_result(waiting.outcome)
        else:
            # Each caller raises an error of its own: one that all of them raise would collect all their tracebacks.
            waiting.future.set_exception(StoreUnavailable(str(error)) if isinstance(error, _Shut) else error)
            waiting.future.exception()  # its caller may be gone

    def _refuse_late(self, error: "_Shut") -> None:
        """Answer everybody whose time is up, also those for whom there was no room in the batch."""
        waiting, self._queue = self._queue, deque()
        for one in waiting:
            one.error = error
            if time.monotonic() < one.until:
                self._queue.append(one)
            else:
                self._answer(one)

    def _run_batch(self, batch: list["_Waiting[Any]"]) -> "_Shut | None":
        """Run all units in one transaction; where that fails, each in one of its own."""
        for waiting in batch:
            waiting.error = None
        try:
            self._transact(batch)
        except _Shut as error:
            return _refused(batch, error)
        except BaseException:  # noqa: BLE001 - whatever went wrong, each unit is told by its own run
            return self._run_alone(batch)
        return None

    def _run_alone(self, batch: list["_Waiting[Any]"]) -> "_Shut | None":
        for number, waiting in enumerate(batch):
            try:
                self._transact([waiting])
            except _Shut as error:
                return _refused(batch[number:], error)  # each of them would wait as long again
            except BaseException as error:  # noqa: BLE001 - handed to the unit's caller
                waiting.error = _translated(error)
        return None

    def _transact(self, batch: list[_Waiting[Any]]) -> None:
        try:
            self._try(batch)
        except Exception as error:
            if not (self._sqlite and _is_full(error)):
                raise
            self._make_room()
            self._try(batch)

    def _try(self, batch: list[_Waiting[Any]]) -> None:
        cursor = self._begin(min(waiting.until for waiting in batch))
        try:
            transaction = Transaction(cursor, self._compiler)
            for waiting in batch:
                waiting.outcome = waiting.unit(transaction)
            transaction.insist()
            self._connection.commit()
        except BaseException as error:
            self._rollback()
            if isinstance(error, Exception) and _is_locked(error):  # without WAL readers can, on PostgreSQL anybody
                raise _Shut(error) from error
            raise
        finally:
            cursor.close()

    def _begin(self, until: float) -> Any:
        while True:
            try:
                if self._connection is not None and moved(self._connection.info):
                    self._disconnect()  # what is written there would be lost
                if self._connection is None:
                    self._connection = self._engine.raw_connection()
                cursor = self._connection.cursor()
                if self._sqlite:
                    cursor.execute("BEGIN IMMEDIATE")
            except Exception as error:
                if not _is_locked(error):
                    self._disconnect()
                if not _is_locked(error) or time.monotonic() >= until:
                    raise _Shut(error) from error
            else:
                return cursor

    def _rollback(self) -> None:
        try:
            self._connection.rollback()
        except Exception:  # noqa: BLE001 - the connection is broken; the next unit opens another
            self._disconnect()

    def _make_room(self) -> None:
        """Give a full disk back what the log takes of it: that may be all that is missing."""
        with contextlib.suppress(Exception):
            self._connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.invalidate()
        self._engine.dispose()


def _refused(batch: list["_Waiting[Any]"], error: _Shut) -> _Shut:
    for waiting in batch:
        waiting.error = error
    return error


def _is_full(error: Exception) -> bool:
    return _of_driver(error) and "disk is full" in str(error)


def _is_locked(error: Exception) -> bool:
    if not _of_driver(error):
        return False
    code = getattr(getattr(error, "orig", error), "sqlstate", None)
    return code == _LOCK_TIMEOUT or any(word in str(error) for word in _LOCKED)


def _of_driver(error: Exception) -> bool:
    return isinstance(error, DBAPIError) or type(error).__module__.split(".")[0] in _DRIVERS


def _translated(error: BaseException) -> BaseException:
    if isinstance(error, ReceiverError) or not isinstance(error, Exception):
        return error
    if isinstance(error, StopIteration):  # no future takes it
        return RuntimeError("a unit raised StopIteration")
    return unavailable(error) if _of_driver(error) else error
