"""The two engines of a database: for the writer's connection and for the readers'. Pragmas and drivers are here.

Only `store` uses it. It never creates a database unless it is told to.
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
from receiver.store.transaction import clean_values

log = structlog.get_logger()

_FILE = "file"
LOCK_WAIT_MS = 250
"""How long SQLite itself waits for a lock; the writer retries until its units run out of time."""
MIGRATION_WAIT_MS = 30_000
"""How long a migration waits for that of another process."""

_DURABLE = {
    "journal_mode": "WAL",
    "synchronous": "FULL",
    "wal_autocheckpoint": "4000",  # pages, 16 MB: fewer, larger checkpoints
    "journal_size_limit": str(64 * 1024 * 1024),
}
"""Pragmas of writers. The journal mode is stored in the file, so readers need not set it."""


def sqlite_module() -> ModuleType:
    """Return the SQLite library: that of `pysqlite3` if it is installed, else Python's own.

    One process must never open a file with both.
    """
    try:
        return importlib.import_module("pysqlite3.dbapi2")
    except ImportError:
        return sqlite3


def wal_is_safe(version: tuple[int, ...]) -> bool:
    """Return whether this SQLite lacks the bug by which two writers corrupt a WAL database (fixed in 3.51.3)."""
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


def database_file(url: str | URL) -> Path | None:
    """Return the file of an SQLite URL; None for PostgreSQL."""
    parsed = make_url(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


def require_database(url: str) -> None:
    """Raise `ConfigError`, with the path, if the database file does not exist."""
    file = database_file(url)
    try:
        there = file is None or file.exists()
    except OSError as error:  # the directory belongs to another user
        raise ConfigError(
            f"The database at {file} cannot be reached ({error.strerror}). Run this as the user who owns it."
        ) from error
    if not there:
        raise ConfigError(f"There is no database at {file}. `receiver serve` or `receiver migrate` creates it.")


def writer_engine(url: str) -> Engine:
    """Return the engine whose transactions take the write lock at once."""
    module = sqlite_module()
    if database_file(url) is not None and not wal_is_safe(module.sqlite_version_info):
        log.warning("sqlite_too_old", version=module.sqlite_version, remedy="journal_mode=TRUNCATE is used, not WAL")
    engine = _engine(make_url(url), pragmas={**_DURABLE, "foreign_keys": "ON"}, pool_size=1, max_overflow=0)
    _guard_file(engine)
    return engine


_SMALL_CACHE = {"cache_size": "-1000"}
"""1 MB for each reader: there are several, and large callback bodies fill any cache."""


def reader_engine(url: str) -> Engine:
    """Return the engine that cannot write."""
    parsed = make_url(url)
    engine = _engine(parsed, pragmas={"query_only": "ON", **_SMALL_CACHE}, pool_size=4, max_overflow=4)
    _guard_file(engine)
    _clean_parameters(engine)
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    else:
        postgresql.begin_read_only(engine)
        event.listen(engine, "connect", _disable_prepared_statements)
    return engine


def _disable_prepared_statements(connection: Any, _record: Any) -> None:
    """Prepare no statements: a pooler may run the next query elsewhere, and only writes would gain."""
    connection.prepare_threshold = None


def migration_engine(url: str) -> Engine:
    """Return the engine for changing the schema, without foreign keys: batch mode drops and renames tables."""
    parsed = make_url(url)
    patient = {"busy_timeout": str(MIGRATION_WAIT_MS)}
    engine = _engine(parsed, pragmas={**patient, **_DURABLE, "foreign_keys": "OFF"}, poolclass=NullPool)
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    else:
        postgresql.begin_migrations(engine)
    return engine


def _clean_parameters(engine: Engine) -> None:
    """Clean the texts in every query as stored ones are: nothing else could equal them."""

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def clean(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: Any) -> tuple[str, Any]:
        if isinstance(parameters, Mapping):
            return statement, clean_values(parameters)
        return statement, parameters


def _guard_file(engine: Engine) -> None:
    """Never create the file, as SQLite would, and never go on with one that was replaced: its writes would be lost."""
    file = database_file(engine.url)
    if file is None:
        return

    @event.listens_for(engine, "do_connect")
    def require_file(*_: Any) -> None:
        if not file.exists():
            raise StoreUnavailable(f"the database file {file} is gone")

    @event.listens_for(engine, "connect")
    def remember_inode(_connection: Any, record: Any) -> None:
        record.info[_FILE] = (file, _inode(file))

    @event.listens_for(engine, "checkout")
    def require_same_file(_connection: Any, record: Any, _proxy: Any) -> None:
        if file_was_replaced(record.info):
            raise DisconnectionError


def file_was_replaced(info: Mapping[Any, Any]) -> bool:
    """Return, by a connection's `info`, whether its file is no longer the one at its path."""
    if _FILE not in info:
        return False
    file, opened = info[_FILE]
    return bool(_inode(file) != opened)


def _inode(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _engine(url: URL, *, pragmas: dict[str, str], **options: Any) -> Engine:
    if url.get_backend_name() != "sqlite":
        # We begin transactions ourselves, with all their settings.
        said = {name: value for name, value in postgresql.CONNECT.items() if name not in url.query}
        return create_engine(url, hide_parameters=True, connect_args=said, isolation_level="AUTOCOMMIT", **options)
    module = sqlite_module()
    engine = create_engine(
        url,
        module=module,
        paramstyle="named",
        hide_parameters=True,
        # SQLAlchemy's own transactions begin too late and lose updates, so we begin them ourselves.
        connect_args={"isolation_level": None, "timeout": LOCK_WAIT_MS / 1000, "check_same_thread": False},
        **options,
    )
    settings = {
        "busy_timeout": str(LOCK_WAIT_MS),
        "trusted_schema": "OFF",
        "cache_size": "-4000",  # 4 MB: the largest callbacks fill it
        **pragmas,
    }
    if "journal_mode" in settings and not wal_is_safe(module.sqlite_version_info):
        settings["journal_mode"] = "TRUNCATE"

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        for name, value in settings.items():
            connection.execute(f"PRAGMA {name}={value}")

    return engine


def to_unavailable(error: Exception) -> StoreUnavailable:
    """Return our error for the driver's; the driver's message contains no values."""
    if isinstance(error, StoreUnavailable):
        return error
    cause = getattr(error, "orig", None) or error
    words = str(cause).partition("\n")[0][:200] or repr(cause)
    return StoreUnavailable(f"the database cannot be used: {words}")
