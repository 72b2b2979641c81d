"""A write transaction as a unit of `Store.write` sees it, and its statements compiled for the driver."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.sql import Executable
from sqlalchemy.sql.elements import ClauseElement

from receiver.core.wire import clean_text

T = TypeVar("T")


def clean_values(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return values with texts that both databases accept: what either refuses becomes U+FFFD."""
    for value in values.values():
        if type(value) is str and (not value.isascii() or "\0" in value):
            return {name: clean_text(each) if isinstance(each, str) else each for name, each in values.items()}
    return values


class Transaction:
    """One open write transaction as a unit sees it.

    Statements are SQLAlchemy's, compiled once for the dialect and run at the driver's own speed; values are plain
    texts, numbers and bytes (`tables.as_json` for JSON columns). Texts are cleaned here, once for all.
    """

    def __init__(self, cursor: Any, compiler: "Compiler") -> None:
        self._cursor = cursor
        self._compiler = compiler
        self._broken: Exception | None = None
        self.touched: dict[str, None] = {}
        """The tasks of which something shown has changed, in order; each gets a number in the feed before COMMIT."""
        self._gathered: dict[Callable[[Transaction, list[Any]], None], list[Any]] = {}

    def touch(self, task_id: str) -> None:
        """Record that what a task's document shows has changed."""
        self.touched[task_id] = None

    def gather(self, write: "Callable[[Transaction, list[T]], None]") -> list[T]:
        """Return the list of what this transaction gathers for a function that writes it, once, before the commit."""
        return self._gathered.setdefault(write, [])

    def write_gathered(self) -> None:
        """Write what the units gathered; called after all of them."""
        for write, found in self._gathered.items():
            write(self, found)

    def run(self, statement: Executable, **values: Any) -> int:
        """Execute a statement; return the number of rows it changed."""
        self.raise_if_failed()
        sql, fixed = self._compiler.compile(statement, values.keys())
        try:
            self._cursor.execute(sql, {**fixed, **clean_values(values)} if fixed else clean_values(values))
        except Exception as error:
            self._broken = error
            raise
        return int(self._cursor.rowcount)

    @property
    def dialect(self) -> str:
        """Return the database: `sqlite` or `postgresql`."""
        return self._compiler.dialect

    def raise_if_failed(self) -> None:
        """Raise the error of a statement that failed, even if a unit swallowed it.

        The database may have rolled back by itself: what is written then would be stored at once and alone.
        """
        if self._broken is not None:
            raise self._broken

    def all(self, statement: Executable, **values: Any) -> list[dict[str, Any]]:
        """Return the rows of a statement, by column name."""
        self.run(statement, **values)
        names = [column[0] for column in self._cursor.description]
        return [dict(zip(names, row, strict=True)) for row in self._cursor.fetchall()]

    def one(self, statement: Executable, **values: Any) -> dict[str, Any] | None:
        """Return the first row of a statement, if any."""
        row = self.first(statement, **values)
        if row is None:
            return None
        return dict(zip([column[0] for column in self._cursor.description], row, strict=True))

    def first(self, statement: Executable, **values: Any) -> tuple[Any, ...] | None:
        """Execute a statement and return the values of its first row, if any."""
        self.run(statement, **values)
        row: tuple[Any, ...] | None = self._cursor.fetchone()
        return row


Unit = Callable[[Transaction], T]


class Compiler:
    """Compiles each statement once for each set of values it is given."""

    def __init__(self, engine: Engine) -> None:
        self._dialect = engine.dialect
        self._known: dict[tuple[int | str, ...], tuple[str, Mapping[str, Any], Executable]] = {}

    @property
    def dialect(self) -> str:
        """Name the database that is compiled for."""
        return str(self._dialect.name)

    def compile(self, statement: Executable, names: Any) -> tuple[str, Mapping[str, Any]]:
        """Return the SQL text and the values that are part of the statement itself."""
        key = (id(statement), *names)
        known = self._known.get(key)
        if known is None:
            assert isinstance(statement, ClauseElement)  # noqa: S101 - narrows for the type checker
            columns = list(names) if getattr(statement, "is_dml", False) else None
            compiled = statement.compile(dialect=self._dialect, column_keys=columns)
            fixed = {name: value for name, value in (compiled.params or {}).items() if name not in names}
            # The statement is kept, so that its id cannot be given to another one.
            known = self._known[key] = (str(compiled), fixed, statement)
        return known[0], known[1]
