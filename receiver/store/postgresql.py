"""How PostgreSQL is told to write, and what a cluster needs for that.

Everything is set in each transaction, with its BEGIN: session settings stay on a connection that a pooler gives to
others, and roles and clusters may have other defaults.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine, event

from receiver.core.errors import ConfigError

LOCK_WAIT_MS = 250
"""How long a write waits for a lock; the writer retries until its units run out of time."""
READ_WAIT_MS = 3_000
"""How long a read waits for a lock."""
STATEMENT_MS = 3_000
"""How long one statement may take before the server cancels it."""
ABANDONED_MS = 15_000
"""How long the server keeps an idle transaction and its locks."""
CONNECT: Mapping[str, Any] = {
    "connect_timeout": 3,
    "client_encoding": "utf8",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""Parameters of every connection, unless the URL sets them."""

DURABLE = "SET LOCAL synchronous_commit = on"
BEGIN_WRITE = (
    f"BEGIN ISOLATION LEVEL READ COMMITTED; {DURABLE}; SET LOCAL lock_timeout = {LOCK_WAIT_MS};"
    f" SET LOCAL statement_timeout = {STATEMENT_MS};"
    f" SET LOCAL idle_in_transaction_session_timeout = {ABANDONED_MS}"
)
_BEGIN_READ = (
    f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = {READ_WAIT_MS};"
    f" SET LOCAL statement_timeout = {STATEMENT_MS};"
    f" SET LOCAL idle_in_transaction_session_timeout = {ABANDONED_MS}"
)
_BEGIN_MIGRATION = f"BEGIN; {DURABLE}; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0"
_ONE_MESSAGE = {"no_parameters": True}
"""Statements without parameters are sent in one message and one round trip."""

LOST_BY_POWER_CUT = ("fsync", "full_page_writes")
"""Settings of a cluster that must be on, or a power cut may destroy it."""


def begin_read_only(engine: Engine) -> None:
    """Begin every transaction of an engine in AUTOCOMMIT as a read."""
    _begin_with(engine, _BEGIN_READ)


def begin_migrations(engine: Engine) -> None:
    """Begin every transaction of an engine as durable and without time limits."""
    _begin_with(engine, _BEGIN_MIGRATION)


def _begin_with(engine: Engine, words: str) -> None:
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(words, execution_options=_ONE_MESSAGE)


def require_usable(connection: Connection) -> None:
    """Raise `ConfigError`, with the remedy, for a database that does not accept every text."""
    if connection.dialect.name != "postgresql":
        return
    encoding = str(connection.exec_driver_sql("SHOW server_encoding").scalar())
    if encoding != "UTF8":
        raise ConfigError(
            f"The PostgreSQL database has the encoding {encoding}, which cannot hold every text. Create one with"
            " ENCODING 'UTF8' TEMPLATE template0, and set RECEIVER_DATABASE_URL to it."
        )


def list_unsafe_settings(connection: Connection) -> list[str]:
    """Return the settings that are off, so that a power cut may lose what was answered 200."""
    if connection.dialect.name != "postgresql":
        return []
    return [name for name in LOST_BY_POWER_CUT if connection.exec_driver_sql(f"SHOW {name}").scalar() != "on"]
