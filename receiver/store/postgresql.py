"""How PostgreSQL is asked to write, and what a cluster must be for that.

Everything is said inside each transaction, with its BEGIN: what is set for a session stays on a connection that a
pooler hands to others, and roles and clusters may say otherwise.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine, event

from receiver.core.errors import ConfigError

LOCK_WAIT_MS = 250
"""How long a write waits for a lock; the door tries again until its units run out of time."""
READ_WAIT_MS = 3_000
"""How long a read waits for a lock."""
STATEMENT_MS = 3_000
"""How long one statement may take before the server itself gives it up."""
ABANDONED_MS = 15_000
"""How long the server keeps a transaction, and its locks, of somebody who says nothing more."""
CONNECT: Mapping[str, Any] = {
    "connect_timeout": 3,
    "client_encoding": "utf8",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""Parameters of every connection, where the URL says nothing else."""

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
_TOGETHER = {"no_parameters": True}
"""Statements go in one message, and in one round trip, where none of them has parameters."""

LOST_BY_POWER_CUT = ("fsync", "full_page_writes")
"""Settings of a cluster that must be on, or a power cut may cost it everything."""


def begin_reads(engine: Engine) -> None:
    """Let every transaction of an engine in AUTOCOMMIT begin as a read."""
    _begin_with(engine, _BEGIN_READ)


def begin_migrations(engine: Engine) -> None:
    """Let every transaction of an engine be durable, and take its time."""
    _begin_with(engine, _BEGIN_MIGRATION)


def _begin_with(engine: Engine, words: str) -> None:
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(words, execution_options=_TOGETHER)


def require_usable(connection: Connection) -> None:
    """Refuse a database that does not take every text; raises `ConfigError` with the remedy."""
    if connection.dialect.name != "postgresql":
        return
    encoding = str(connection.exec_driver_sql("SHOW server_encoding").scalar())
    if encoding != "UTF8":
        raise ConfigError(
            f"The PostgreSQL database has the encoding {encoding}, which cannot hold every text. Create one with"
            " ENCODING 'UTF8' TEMPLATE template0, and name it in RECEIVER_DATABASE_URL."
        )


def switched_off(connection: Connection) -> list[str]:
    """List the settings of the cluster without which a power cut may lose what was answered 200."""
    if connection.dialect.name != "postgresql":
        return []
    return [name for name in LOST_BY_POWER_CUT if connection.exec_driver_sql(f"SHOW {name}").scalar() != "on"]
