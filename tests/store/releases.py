"""Databases as earlier releases left them: the schema of any step, with rows in every table."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from alembic.config import Config

from receiver.store import schema
from receiver.store.engine import migration_engine

from .rig import NOW, look, outside, url_of

AMOUNTS = frozenset({"estimated", "reserved", "charged"})
FIRST_TABLES = ("task", "history", "output", "attempt", "delivery", "status_check")
"""The tables of the first release, each after those that it refers to."""


@contextmanager
def steps(file: Path) -> Iterator[Config]:
    """Alembic on a database file as `schema.migrate` runs it, to stop at any step."""
    with steps_at(url_of(file)) as config:
        yield config


@contextmanager
def steps_at(url: str) -> Iterator[Config]:
    """Alembic on any database as `schema.migrate` runs it."""
    engine = migration_engine(url)
    config = Config()
    config.set_main_option("script_location", str(schema.SCRIPTS).replace("%", "%%"))
    with engine.connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        yield config
    engine.dispose()


def fill(file: Path, rows: int) -> None:
    """Put so many rows into every table, by the names of its columns."""
    with outside(file) as connection:
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("BEGIN")
        tables = [*FIRST_TABLES, *(name for name in tables_of(file) if name not in FIRST_TABLES)]
        named = {table: columns(connection, table) for table in tables}
        for number in range(1, rows + 1):
            for table in tables:
                row = {name: value_of(name, kind, number) for name, kind in named[table]}
                if "id" in row:
                    row["id"] = f"tsk_{number:026}" if table == "task" else number
                names = ", ".join(row)
                places = ", ".join(f":{name}" for name in row)
                connection.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", row)  # noqa: S608 - likewise
        connection.execute("COMMIT")


def columns(connection: Any, table: str) -> list[tuple[str, str]]:
    return [(row[1], row[2]) for row in connection.execute(f"PRAGMA table_info({table})").fetchall()]


def value_of(name: str, kind: str, number: int) -> Any:
    if name == "task_id":
        return f"tsk_{number:026}"
    if name in ("history_id", "notification_id"):
        return number
    by_kind = {"BLOB": bytes(range(256)), "FLOAT": number / 3, "BOOLEAN": number % 2, "TEXT": '{"a":"ä\\u0000"}'}
    if kind in by_kind:
        return by_kind[kind]
    return f"{name} {number}" if kind.startswith("VARCHAR") else NOW + number


def tables_of(file: Path) -> list[str]:
    """Name the tables that hold our rows."""
    named = look(file, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")
    return [name for (name,) in named if name != "alembic_version"]


def rows_of(file: Path, shape: dict[str, list[str]]) -> dict[str, list[tuple[Any, ...]]]:
    """Read these columns of all rows, in the order in which they were put in."""
    queries = {
        table: f"SELECT {', '.join(names)} FROM {table} ORDER BY rowid"  # noqa: S608 - our own names
        for table, names in shape.items()
    }
    return {table: look(file, query) for table, query in queries.items()}


def as_of_today(
    shape: dict[str, list[str]], rows: dict[str, list[tuple[Any, ...]]]
) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of an earlier release as they must be after the upgrade: amounts are whole millionths."""
    amounts = [place for place, name in enumerate(shape["task"]) if name in AMOUNTS]

    def upgraded(row: tuple[Any, ...]) -> tuple[Any, ...]:
        exact = {place: round(Decimal(row[place]) * 1_000_000) for place in amounts if isinstance(row[place], float)}
        return tuple(exact.get(place, value) for place, value in enumerate(row))

    return rows | {"task": list(map(upgraded, rows["task"]))}


def columns_of(file: Path) -> dict[str, list[str]]:
    """Name every table's columns."""
    return {table: [row[1] for row in look(file, f"PRAGMA table_info({table})")] for table in tables_of(file)}
