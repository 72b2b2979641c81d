"""What the writer's thread does: runs a batch of units in one transaction, on one connection, and commits it.

Only `door` uses it. It decides nothing about time: it runs what its callers still wait for, and until a batch's COMMIT
is sent, whatever a caller was refused meanwhile is left out.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sqlalchemy import Engine

from receiver.core.errors import ReceiverError
from receiver.store import error_codes, postgresql
from receiver.store.engine import moved, unavailable
from receiver.store.transaction import Compiler, Transaction, Unit

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

ALONE = 3
"""Times that a unit is run which loses a race against another process: each time it sees what the other one wrote."""


@dataclass(slots=True, eq=False)
class Waiting(Generic[T]):
    """A unit and who waits for it. `until` is when that caller is refused, by the monotonic clock."""

    unit: Unit[T]
    future: "asyncio.Future[T]"
    until: float
    outcome: Any = field(default=None)
    error: BaseException | None = None
    told: bool = False
    """Its caller has been answered, whatever becomes of it."""
    refused: bool = False
    """Its caller was told that it is not stored, so that it must not be."""
    committing: bool = False
    """Its COMMIT was sent: nobody can tell whether it will be stored."""


Batch = Sequence[Waiting[Any]]


class Shut(Exception):
    """The database let nobody in, and nothing of the batch is stored. While it is only `locked`, it is tried again."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(unavailable(error)))
        self.locked = error_codes.is_locked(error)


class Unknown(Exception):
    """The COMMIT was sent and no usable answer came: the batch may be stored, and must not be run again."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"{unavailable(error)}; whether this was stored is not known")


class _RowLocked(Exception):
    """Somebody holds what one of a batch needs: the others are run without it."""


class _Refused(Exception):
    """Some of a batch were refused before its COMMIT: the others are run again without them."""


class Runner:
    """Runs batches. Only one thread may call it; any may `refuse`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._compiler = Compiler(engine)
        self._sqlite = engine.dialect.name == "sqlite"
        self._begin_words = "BEGIN IMMEDIATE" if self._sqlite else postgresql.BEGIN_WRITE
        self._connection: Any = None
        self._deciding = threading.Lock()

    def refuse(self, waiting: Waiting[Any]) -> bool:
        """Leave a unit out from now on; returns False where it may be stored all the same."""
        with self._deciding:
            waiting.refused = not waiting.committing
            return waiting.refused

    def run(self, batch: Batch) -> Shut | None:
        """Run all units in one transaction; where that fails, each in one of its own."""
        for waiting in batch:
            waiting.error = None
        try:
            self._transact(batch)
        except Shut as error:
            return _all_told(batch, error)
        except Unknown as error:
            _all_told(batch, error)
        except BaseException:  # noqa: BLE001 - whatever went wrong, each unit is told by its own run
            return self._run_alone(batch)
        return None

    def disconnect(self) -> None:
        """Give up the connection; the next batch opens another."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.invalidate()
        self._engine.dispose()

    def _run_alone(self, batch: Batch) -> Shut | None:
        for number, waiting in enumerate(batch):
            try:
                self._run_one(waiting)
            except Shut as error:
                return _all_told(batch[number:], error)  # each of them would wait as long again
            except _RowLocked as error:
                waiting.error = error.__cause__
            except BaseException as error:  # noqa: BLE001 - handed to the unit's caller
                waiting.error = _translated(error)
        return None

    def _run_one(self, waiting: Waiting[Any]) -> None:
        for left in reversed(range(ALONE)):
            try:
                self._transact([waiting])
            except Exception as error:
                if not (left and error_codes.lost_a_race(error)):
                    raise
            else:
                return

    def _transact(self, batch: Batch) -> None:
        while True:
            try:
                return self._try(batch)
            except _Refused:
                continue
            except Exception as error:
                if not self._mend(error):
                    raise
                return self._try(batch)

    def _mend(self, error: Exception) -> bool:
        """Do what may help against an error; returns whether it is worth trying again."""
        if self._sqlite and error_codes.is_full(error):
            self._make_room()
            return True
        if error_codes.is_of_prepared_statement(error) and self._connection is not None:
            self._connection.driver_connection.prepare_threshold = None  # there is a pooler in between
            return True
        return False

    def _try(self, batch: Batch) -> None:
        cursor = self._begin(batch)
        try:
            transaction = Transaction(cursor, self._compiler)
            wanted = [waiting for waiting in batch if not waiting.refused]
            for waiting in wanted:
                waiting.outcome = waiting.unit(transaction)
            transaction.insist()
            self._commit(wanted)
        except BaseException as error:
            self._rollback()
            if isinstance(error, Exception) and error_codes.is_locked(error):
                if self._sqlite:  # without WAL readers can
                    raise Shut(error) from error
                raise _RowLocked from Shut(error)
            raise
        finally:
            cursor.close()

    def _begin(self, batch: Batch) -> Any:
        until = min(waiting.until for waiting in batch)
        while True:
            fresh = self._connection is None
            try:
                return self._cursor_in_transaction()
            except Exception as error:
                locked = error_codes.is_locked(error)
                if not locked:
                    self.disconnect()
                is_over = time.monotonic() >= until or all(waiting.refused for waiting in batch)
                if is_over or (fresh and not locked):  # one that was lost while nobody used it is replaced, once
                    raise Shut(error) from error

    def _cursor_in_transaction(self) -> Any:
        if self._connection is not None and moved(self._connection.info):
            self.disconnect()  # what is written there would be lost
        if self._connection is None:
            self._connection = self._engine.raw_connection()
        cursor = self._connection.cursor()
        cursor.execute(self._begin_words)
        return cursor

    def _commit(self, batch: Batch) -> None:
        with self._deciding:
            if any(waiting.refused for waiting in batch):
                raise _Refused
            for waiting in batch:
                waiting.committing = True
        try:
            self._connection.commit()
        except Exception as error:
            if not self._sqlite and error_codes.may_be_committed(error):
                raise Unknown(error) from error
            self._is_rolled_back(batch)
            raise

    def _is_rolled_back(self, batch: Batch) -> None:
        with self._deciding:
            for waiting in batch:
                waiting.committing = False

    def _rollback(self) -> None:
        try:
            self._connection.rollback()
        except Exception:  # noqa: BLE001 - the connection is broken; the next unit opens another
            self.disconnect()

    def _make_room(self) -> None:
        """Give a full disk back what the log takes of it: that may be all that is missing."""
        with contextlib.suppress(Exception):
            self._connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _all_told(batch: Batch, error: E) -> E:
    for waiting in batch:
        waiting.error = error
    return error


def _translated(error: BaseException) -> BaseException:
    if isinstance(error, ReceiverError | Unknown) or not isinstance(error, Exception):
        return error
    if isinstance(error, StopIteration):  # no future takes it
        return RuntimeError("a unit raised StopIteration")
    return unavailable(error) if error_codes.is_of_driver(error) else error
