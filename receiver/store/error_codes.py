"""What a database's errors mean, by their codes: never by words, which change with releases and languages."""

from sqlalchemy.exc import DBAPIError

_DRIVERS = ("pysqlite3", "sqlite3", "psycopg")

_SQLITE_BUSY, _SQLITE_LOCKED, _SQLITE_INTERRUPT, _SQLITE_FULL = 5, 6, 9, 13
_PRIMARY = 0xFF
"""The part of an extended SQLite code that is its primary code."""

_LOCK_NOT_AVAILABLE = "55P03"
_LOST_A_RACE = frozenset({"23505", "40001", "40P01"})
"""A unique key that another transaction took first, a serialization failure, a deadlock."""
_NO_PREPARED_STATEMENT = frozenset({"26000", "42P05"})
"""A prepared statement is missing, or there already: a pooler gave the connection another backend."""
_MAY_BE_COMMITTED = ("08", "57", "58", "XX")
"""Classes of errors after which a transaction whose COMMIT was sent may be durable all the same."""


def is_of_driver(error: BaseException) -> bool:
    """Return whether the database, or its driver, raised an error."""
    return isinstance(error, DBAPIError) or type(error).__module__.split(".")[0] in _DRIVERS


def is_locked(error: BaseException) -> bool:
    """Return whether somebody else held a lock for too long."""
    return _sqlite(error) in (_SQLITE_BUSY, _SQLITE_LOCKED) or _sqlstate(error) == _LOCK_NOT_AVAILABLE


def is_full(error: BaseException) -> bool:
    """Return whether the disk under an SQLite database has no room left."""
    return _sqlite(error) == _SQLITE_FULL


def is_interrupted(error: BaseException) -> bool:
    """Return whether an SQLite query was interrupted by us."""
    return _sqlite(error) == _SQLITE_INTERRUPT


def lost_a_race(error: BaseException) -> bool:
    """Return whether the same transaction, run again, sees what another one committed first and can end well."""
    return _sqlstate(error) in _LOST_A_RACE


def is_of_prepared_statement(error: BaseException) -> bool:
    """Return whether PostgreSQL does not know a statement that the driver prepared."""
    return _sqlstate(error) in _NO_PREPARED_STATEMENT


def may_be_committed(error: BaseException) -> bool:
    """Return whether a COMMIT that PostgreSQL answered with this error, or not at all, may be durable all the same."""
    code = _sqlstate(error)
    return code is None or code.startswith(_MAY_BE_COMMITTED)


def _sqlite(error: BaseException) -> int | None:
    code = getattr(_original(error), "sqlite_errorcode", None)
    return code & _PRIMARY if isinstance(code, int) else None


def _sqlstate(error: BaseException) -> str | None:
    code = getattr(_original(error), "sqlstate", None)
    return code if isinstance(code, str) else None


def _original(error: BaseException) -> BaseException:
    """Return the driver's own error."""
    original = getattr(error, "orig", None)
    return original if isinstance(original, BaseException) else error
