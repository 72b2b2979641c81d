"""Creates and migrates the schema, with Alembic. Only `receiver serve` and `receiver migrate` call it.

Alembic is imported only for a real migration: otherwise its ten megabytes and its time are saved.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from receiver.core.errors import ConfigError, StoreUnavailable
from receiver.store import postgresql
from receiver.store.abort import ConnectionAborter
from receiver.store.engine import database_file, migration_engine, reader_engine, to_unavailable
from receiver.store.migrations import REVISIONS

SCRIPTS = Path(__file__).with_name("migrations")
HEAD = REVISIONS[-1]
ANSWER_SECONDS = 10.0
"""How long PostgreSQL may take to return its schema's revision."""
LOCK = 7_205_759_403  # any number that is ours alone


def migrate(url: str) -> tuple[str | None, str]:
    """Bring a database to this release's schema in one transaction; return the revisions before and after.

    Raises `ConfigError`, and changes nothing, for a schema of a later release or a file that is not a database.
    """
    file = database_file(url)
    if file is None or file.exists():
        if file is not None:
            _require_access(file)
        _read_revision(url)  # before it is opened for writing, which may change its journal mode
    engine = migration_engine(url)
    try:
        with engine.connect() as connection, connection.begin():
            _lock_migrations(connection)
            before = _revision_of(connection, url)
            if before != HEAD:
                _upgrade(connection)
                _check_references(connection)
    except DBAPIError as error:
        raise ConfigError(f"{_database_name(url)}: {to_unavailable(error)}") from error
    finally:
        engine.dispose()
    return before, HEAD


AT_RISK = "a power cut may lose what was answered 200, and damage the whole database"


def alter_system_statements(settings: list[str]) -> str:
    """Return the statements that turn settings of a PostgreSQL cluster on."""
    return ", ".join(f"`ALTER SYSTEM SET {name} = on`" for name in settings)


def durability_warnings(url: str) -> list[str]:
    """Return what puts the data in a PostgreSQL cluster at risk, which the service cannot change or compensate.

    These are warnings, not errors: crashes of the service and of the server are survived all the same, and whoever
    turns `fsync` off has a database to throw away.
    """
    if database_file(url) is not None:
        return []
    with _reading(url) as connection:
        off = postgresql.list_unsafe_settings(connection)
    return [
        f"WARNING: PostgreSQL runs with {name} = off: {AT_RISK}. Turn it on: {alter_system_statements([name])}."
        for name in off
    ]


def _require_access(file: Path) -> None:
    """Raise `ConfigError` for a read-only file: SQLite would open it all the same, and every write would fail later."""
    if not os.access(file, os.R_OK | os.W_OK):
        raise ConfigError(f"{file} cannot be read and written by this user; check its owner, its mode and its disk.")


def require_current(url: str) -> None:
    """Raise `ConfigError`, with the remedy, for a database whose schema is not this release's."""
    if _read_revision(url) != HEAD:
        raise ConfigError(f"{_database_name(url)} has an older schema; run `receiver migrate`.")


def _read_revision(url: str) -> str | None:
    with _reading(url) as connection:
        postgresql.require_usable(connection)
        return _revision_of(connection, url)


@contextlib.contextmanager
def _reading(url: str) -> Iterator[Connection]:
    """Connect briefly. Raises `ConfigError` if that fails, or no answer comes."""
    engine = reader_engine(url)
    try:
        with ConnectionAborter(engine).time_limit(ANSWER_SECONDS), engine.connect() as connection:
            yield connection
    except (DBAPIError, StoreUnavailable) as error:
        raise ConfigError(f"{_database_name(url)}: {to_unavailable(error)}") from error
    finally:
        engine.dispose()


def _lock_migrations(connection: Connection) -> None:
    """Keep two processes from migrating at once; SQLite's write lock does so by itself."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - see the module's docstring
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _revision_of(connection: Connection, url: str) -> str | None:
    """Return a database's revision, None for an empty one. Raises `ConfigError` for one of a later release."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if found is not None and found not in REVISIONS:
        raise ConfigError(f"{_database_name(url)} has the schema {found} of a later release; install that release.")
    return None if found is None else str(found)


def _check_references(connection: Connection) -> None:
    if connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
        raise ConfigError("The migration would leave rows without a task, so nothing was changed.")


def _database_name(url: str) -> str:
    return str(database_file(url) or "the PostgreSQL database")
