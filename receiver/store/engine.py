"""The two engines of a database: the writer's connection and the readers'. Pragmas and drivers live here.

Only `store` uses it. It never opens a database that is not there unless it is told to create it.
"""

import importlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import structlog
from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import NullPool

from receiver.core.errors import ConfigError, StoreUnavailable
from receiver.store import postgresql
from receiver.store.transaction import cleaned

log = structlog.get_logger()

_FILE = "file"
LOCK_WAIT_MS = 250
"""How long SQLite itself lets a writer wait for a lock; the door tries again until its units run out of time."""
MIGRATION_WAIT_MS = 30_000
"""How long a migration waits for the one of another process to end."""

_DURABLE = {
    "journal_mode": "WAL",
    "synchronous": "FULL",
    "wal_autocheckpoint": "4000",  # pages, 16 MB: fewer, larger checkpoints
    "journal_size_limit": str(64 * 1024 * 1024),
}
"""How writers write. What they say of the journal stays in the file, so readers need not say it."""


def sqlite_module() -> ModuleType:
    """Pick the SQLite library: the one that comes with `pysqlite3` where it is installed, else Python's own.

    One process must never open a file with both.
    """
    try:
        return importlib.import_module("pysqlite3.dbapi2")
    except ImportError:
        return sqlite3


def wal_is_safe(version: tuple[int, ...]) -> bool:
    """Tell whether this SQLite is free of the bug by which two writers corrupt a WAL database (fixed in 3.51.3)."""
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


def database_file(url: str | URL) -> Path | None:
    """Name the file of an SQLite URL; None for PostgreSQL."""
    parsed = make_url(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


def require_database(url: str) -> None:
    """Refuse to go on without the database file; raises `ConfigError` naming the path."""
    file = database_file(url)
    try:
        there = file is None or file.exists()
    except OSError as error:  # the directory of another user
        raise ConfigError(
            f"The database at {file} is out of reach ({error.strerror}). Run this as its user."
        ) from error
    if not there:
        raise ConfigError(f"There is no database at {file}. `receiver serve` or `receiver migrate` creates it.")


def writer_engine(url: str) -> Engine:
    """Make the engine whose transactions take the write lock at once."""
    module = sqlite_module()
    if database_file(url) is not None and not wal_is_safe(module.sqlite_version_info):
        log.warning("sqlite_too_old", version=module.sqlite_version, remedy="journal_mode=TRUNCATE is used, not WAL")
    engine = _engine(make_url(url), pragmas={**_DURABLE, "foreign_keys": "ON"}, pool_size=1, max_overflow=0)
    _keep_to_file(engine)
    return engine


_SMALL_CACHE = {"cache_size": "-1000"}
"""1 MB for each reader: there are several, and what strangers stored fills any cache when it is shown."""


def reader_engine(url: str) -> Engine:
    """Make the engine that cannot write."""
    parsed = make_url(url)
    engine = _engine(parsed, pragmas={"query_only": "ON", **_SMALL_CACHE}, pool_size=4, max_overflow=4)
    _keep_to_file(engine)
    _take_any_text(engine)
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    else:
        postgresql.begin_reads(engine)
        event.listen(engine, "connect", _prepare_nothing)
    return engine


def _prepare_nothing(connection: Any, _record: Any) -> None:
    """Prepare no statements: a pooler may run the next query elsewhere, and the gain is for writes."""
    connection.prepare_threshold = None


def migration_engine(url: str) -> Engine:
    """Make the engine for changing the schema: foreign keys are off, since batch mode drops and renames tables."""
    parsed = make_url(url)
    patient = {"busy_timeout": str(MIGRATION_WAIT_MS)}
    engine = _engine(parsed, pragmas={**patient, **_DURABLE, "foreign_keys": "OFF"}, poolclass=NullPool)
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    else:
        postgresql.begin_migrations(engine)
    return engine


def _take_any_text(engine: Engine) -> None:
    """Clean the texts of every query, as those are clean that are stored: nothing else could equal them."""

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def clean(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: Any) -> tuple[str, Any]:
        if isinstance(parameters, Mapping):
            return statement, cleaned(parameters)
        return statement, parameters


def _keep_to_file(engine: Engine) -> None:
    """Never make a file, as SQLite would, nor go on with one that was moved away: its writes would be lost."""
    file = database_file(engine.url)
    if file is None:
        return

    @event.listens_for(engine, "do_connect")
    def be_there(*_: Any) -> None:
        if not file.exists():
            raise StoreUnavailable(f"the database file {file} is gone")

    @event.listens_for(engine, "connect")
    def remember(_connection: Any, record: Any) -> None:
        record.info[_FILE] = (file, _identity(file))

    @event.listens_for(engine, "checkout")
    def still_be_there(_connection: Any, record: Any, _proxy: Any) -> None:
        if moved(record.info):
            raise DisconnectionError


def moved(info: Mapping[Any, Any]) -> bool:
    """Tell by a connection's `info` whether its file is no longer the one at its path."""
    if _FILE not in info:
        return False
    file, opened = info[_FILE]
    return bool(_identity(file) != opened)


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _engine(url: URL, *, pragmas: dict[str, str], **options: Any) -> Engine:
    if url.get_backend_name() != "sqlite":
        # Transactions are begun by us, with all that is to be set for them.
        said = {name: value for name, value in postgresql.CONNECT.items() if name not in url.query}
        return create_engine(url, hide_parameters=True, connect_args=said, isolation_level="AUTOCOMMIT", **options)
    module = sqlite_module()
    engine = create_engine(
        url,
        module=module,
        paramstyle="named",
        hide_parameters=True,
        # SQLAlchemy's own transactions begin too late and lose updates: we begin them ourselves.
        connect_args={"isolation_level": None, "timeout": LOCK_WAIT_MS / 1000, "check_same_thread": False},
        **options,
    )
    settings = {
        "busy_timeout": str(LOCK_WAIT_MS),
        "trusted_schema": "OFF",
        "cache_size": "-4000",  # 4 MB: callbacks of the largest kind fill it
        **pragmas,
    }
    if "journal_mode" in settings and not wal_is_safe(module.sqlite_version_info):
        settings["journal_mode"] = "TRUNCATE"

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        for name, value in settings.items():
            connection.execute(f"PRAGMA {name}={value}")

    return engine


def unavailable(error: Exception) -> StoreUnavailable:
    """Say in our words that the database could not be used; the driver's words name no values."""
    if isinstance(error, StoreUnavailable):
        return error
    cause = getattr(error, "orig", None) or error
    words = str(cause).partition("\n")[0][:200] or repr(cause)
    return StoreUnavailable(f"the database cannot be used: {words}")
