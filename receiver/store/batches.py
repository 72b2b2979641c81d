"""Runs a batch of units in one transaction on one connection, and commits it, on the writer's thread.

Only `writer` uses it. It decides nothing about time. Until a batch's COMMIT is sent, units whose callers were refused
meanwhile are left out.
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
from receiver.store import error_codes, feed, postgresql
from receiver.store.engine import file_was_replaced, to_unavailable
from receiver.store.transaction import Compiler, Transaction, Unit

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

MAX_TRIES_ALONE = 3
"""Tries of a unit that loses a race against another process: each time it sees what the other one wrote."""


@dataclass(slots=True, eq=False)
class QueuedUnit(Generic[T]):
    """A unit and its caller, who is refused at `until`, by the monotonic clock."""

    unit: Unit[T]
    future: "asyncio.Future[T]"
    until: float
    outcome: Any = field(default=None)
    error: BaseException | None = None
    answered: bool = False
    """Its caller has been answered, whatever happens to the unit."""
    refused: bool = False
    """Its caller was told that it is not stored, so it must not be."""
    committing: bool = False
    """Its COMMIT was sent, so it may be stored."""


Batch = Sequence[QueuedUnit[Any]]


class Unavailable(Exception):
    """The database accepted no transaction, and nothing of the batch is stored.

    If it is only `locked`, it is retried.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(to_unavailable(error)))
        self.locked = error_codes.is_locked(error)


class CommitUnknown(Exception):
    """The COMMIT was sent, but no usable answer came: the batch may be stored and must not be run again."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"{to_unavailable(error)}; it is not known whether this was stored")


class _RowLocked(Exception):
    """Another process holds a lock that one of the batch needs: the others are run without it."""


class _Refused(Exception):
    """Some of a batch were refused before its COMMIT: the others are run again without them."""


class BatchRunner:
    """Runs batches. Only one thread may call it; any thread may call `refuse`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._compiler = Compiler(engine)
        self._sqlite = engine.dialect.name == "sqlite"
        self._begin_statement = "BEGIN IMMEDIATE" if self._sqlite else postgresql.BEGIN_WRITE
        self._connection: Any = None
        self._decision_lock = threading.Lock()

    def refuse(self, waiting: QueuedUnit[Any]) -> bool:
        """Leave a unit out from now on; return False if it may be stored all the same."""
        with self._decision_lock:
            waiting.refused = not waiting.committing
            return waiting.refused

    def run(self, batch: Batch) -> Unavailable | None:
        """Run all units in one transaction; if that fails, each in one of its own."""
        for waiting in batch:
            waiting.error = None
        try:
            self._run_transaction(batch)
        except Unavailable as error:
            return _fail_all(batch, error)
        except CommitUnknown as error:
            _fail_all(batch, error)
        except BaseException:  # noqa: BLE001 - each unit's own run shows what is wrong
            return self._run_alone(batch)
        return None

    def disconnect(self) -> None:
        """Close the connection; the next batch opens another."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.invalidate()
        self._engine.dispose()

    def _run_alone(self, batch: Batch) -> Unavailable | None:
        for number, waiting in enumerate(batch):
            try:
                self._run_one(waiting)
            except Unavailable as error:
                return _fail_all(batch[number:], error)  # each of them would wait as long again
            except _RowLocked as error:
                waiting.error = error.__cause__
            except BaseException as error:  # noqa: BLE001 - handed to the unit's caller
                waiting.error = _translate(error)
        return None

    def _run_one(self, waiting: QueuedUnit[Any]) -> None:
        for left in reversed(range(MAX_TRIES_ALONE)):
            try:
                self._run_transaction([waiting])
            except Exception as error:
                if not (left and error_codes.lost_a_race(error)):
                    raise
            else:
                return

    def _run_transaction(self, batch: Batch) -> None:
        while True:
            try:
                return self._try(batch)
            except _Refused:
                continue
            except Exception as error:
                if not self._recover(error):
                    raise
                return self._try(batch)

    def _recover(self, error: Exception) -> bool:
        """Do what may help against an error; return whether to try again."""
        if self._sqlite and error_codes.is_full(error):
            self._truncate_wal()
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
            transaction.write_gathered()
            feed.number_changes(transaction)
            transaction.raise_if_failed()
            self._commit(wanted)
        except BaseException as error:
            self._rollback()
            if isinstance(error, Exception) and error_codes.is_locked(error):
                if self._sqlite:  # without WAL, readers can lock it
                    raise Unavailable(error) from error
                raise _RowLocked from Unavailable(error)
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
                if is_over or (fresh and not locked):  # a connection that broke while idle is replaced once
                    raise Unavailable(error) from error

    def _cursor_in_transaction(self) -> Any:
        if self._connection is not None and file_was_replaced(self._connection.info):
            self.disconnect()  # the file was replaced: writes to the old one would be lost
        if self._connection is None:
            self._connection = self._engine.raw_connection()
        cursor = self._connection.cursor()
        cursor.execute(self._begin_statement)
        return cursor

    def _commit(self, batch: Batch) -> None:
        with self._decision_lock:
            if any(waiting.refused for waiting in batch):
                raise _Refused
            for waiting in batch:
                waiting.committing = True
        try:
            self._connection.commit()
        except Exception as error:
            if not self._sqlite and error_codes.may_be_committed(error):
                raise CommitUnknown(error) from error
            self._mark_rolled_back(batch)
            raise

    def _mark_rolled_back(self, batch: Batch) -> None:
        with self._decision_lock:
            for waiting in batch:
                waiting.committing = False

    def _rollback(self) -> None:
        try:
            self._connection.rollback()
        except Exception:  # noqa: BLE001 - the connection is broken; the next unit opens another
            self.disconnect()

    def _truncate_wal(self) -> None:
        """Free the disk space of the write-ahead log, which may be all that is missing."""
        with contextlib.suppress(Exception):
            self._connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _fail_all(batch: Batch, error: E) -> E:
    for waiting in batch:
        waiting.error = error
    return error


def _translate(error: BaseException) -> BaseException:
    if isinstance(error, ReceiverError | CommitUnknown) or not isinstance(error, Exception):
        return error
    if isinstance(error, StopIteration):  # no future takes it
        return RuntimeError("a unit raised StopIteration")
    return to_unavailable(error) if error_codes.is_of_driver(error) else error
