"""What was measured of each model: kept by the transactions that settle tasks, read by those that plan their checks.

`lifecycle` calls it. Each transaction writes a model's row once, just before its commit, however many of its tasks it
settled. Names of models are anybody's choice, so of each account only the latest are kept.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy import text as statement
from sqlmodel import Session, SQLModel

from receiver.core.measured import Measured
from receiver.core.wire import clean_text
from receiver.store.tables import as_json
from receiver.store.transaction import Transaction

MAX_MODELS = 500
"""Models of one account that are remembered: a further one takes the place of the one that was quiet longest."""
LOCK = 7_205_759_404  # any number that is ours alone

MODEL_RECORD = SQLModel.metadata.tables["model_record"]

_TRY_LOCK = statement("SELECT pg_try_advisory_xact_lock(:key)")
_OF_MODEL = (MODEL_RECORD.c.provider == bindparam("account"), MODEL_RECORD.c.model == bindparam("name"))
_COLUMNS = (MODEL_RECORD.c.times, MODEL_RECORD.c.awaited, MODEL_RECORD.c.arrived)
_OF_ONE = select(*_COLUMNS).where(*_OF_MODEL)
_UPDATE = update(MODEL_RECORD).where(*_OF_MODEL)
_INSERT = insert(MODEL_RECORD)
_OF_ACCOUNT = MODEL_RECORD.c.provider == bindparam("account")
_COUNT = select(func.count().label("number")).select_from(MODEL_RECORD).where(_OF_ACCOUNT)
_QUIETEST = (
    select(MODEL_RECORD.c.model).where(_OF_ACCOUNT).order_by(MODEL_RECORD.c.updated_at, MODEL_RECORD.c.model).limit(1)
)
_DROP = delete(MODEL_RECORD).where(*_OF_MODEL)
_ALL = select(MODEL_RECORD.c.provider, MODEL_RECORD.c.model, *_COLUMNS).order_by(
    MODEL_RECORD.c.provider, MODEL_RECORD.c.model
)
_CALLBACKS = (
    select(MODEL_RECORD.c.provider, func.sum(MODEL_RECORD.c.awaited), func.sum(MODEL_RECORD.c.arrived))
    .group_by(MODEL_RECORD.c.provider)
    .order_by(MODEL_RECORD.c.provider)
)


@dataclass(frozen=True, slots=True)
class Ended:
    """One task that ended: seconds from its departure, whether it had a callback URL, and whether its callback brought
    the end. `at` is now, in Unix milliseconds."""

    provider: str
    model: str
    seconds: float
    awaited: bool
    arrived: bool
    at: int


def add(tx: Transaction, ended: Ended) -> None:
    """Count a task that ended; written just before the commit."""
    tx.gather(_write).append(ended)


def read(tx: Transaction, provider: str, model: str) -> Measured:
    """Return what was measured of a model up to the last commit."""
    return _read(tx, provider, model) or Measured()


def read_all(session: Session) -> dict[tuple[str, str], Measured]:
    """Return what was measured, by account and model."""
    return {(provider, model): _measured(*columns) for provider, model, *columns in session.execute(_ALL)}


def count_callbacks(session: Session) -> dict[str, tuple[int, int]]:
    """Return by account how many of the latest callbacks were awaited, and how many of them came."""
    return {str(account): (int(awaited), int(arrived)) for account, awaited, arrived in session.execute(_CALLBACKS)}


def _write(tx: Transaction, found: list[Ended]) -> None:
    """Write what a transaction gathered. On PostgreSQL, it is dropped where another process is writing its own just
    now: a few tasks less change no quantile, and no process must wait here for another that may be suspended."""
    if tx.dialect == "postgresql":
        row = tx.first(_TRY_LOCK, key=LOCK)
        if row is None or not row[0]:
            return
    by_model: dict[tuple[str, str], list[Ended]] = {}
    for ended in found:
        by_model.setdefault((ended.provider, clean_text(ended.model)), []).append(ended)
    for (provider, model), tasks in by_model.items():
        _write_model(tx, provider, model, tasks)


def _write_model(tx: Transaction, provider: str, model: str, tasks: list[Ended]) -> None:
    known = _read(tx, provider, model)
    measured = known or Measured()
    for ended in tasks:
        measured = measured.add(ended.seconds, awaited=ended.awaited, arrived=ended.arrived)
    columns = {
        "times": as_json({str(bucket): weight for bucket, weight in sorted(measured.times.items())}),
        "awaited": measured.awaited,
        "arrived": measured.arrived,
        "updated_at": tasks[-1].at,
    }
    if known is None:
        _make_room(tx, provider)
        tx.run(_INSERT, provider=provider, model=model, **columns)
    else:
        tx.run(_UPDATE, account=provider, name=model, **columns)


def _read(tx: Transaction, provider: str, model: str) -> Measured | None:
    row = tx.first(_OF_ONE, account=provider, name=model)
    return None if row is None else _measured(json.loads(row[0]), row[1], row[2])


def _make_room(tx: Transaction, provider: str) -> None:
    counted = tx.first(_COUNT, account=provider)
    if counted is not None and counted[0] >= MAX_MODELS:
        quietest = tx.first(_QUIETEST, account=provider)
        if quietest is not None:
            tx.run(_DROP, account=provider, name=quietest[0])


def _measured(times: Mapping[str, int], awaited: int, arrived: int) -> Measured:
    return Measured({int(bucket): int(weight) for bucket, weight in times.items()}, awaited, arrived)
