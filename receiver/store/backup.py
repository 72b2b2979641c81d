"""Copies the SQLite database into one file while a service writes to it. To restore is to copy that file back.

The copy is made under another name, checked and synced before it gets its own: what bears that name is whole.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError

from receiver.core.errors import ConfigError, StoreUnavailable
from receiver.store.engine import database_file, reader_engine, require_database, sqlite_module
from receiver.store.migrations import REVISIONS

STEP = 1000
"""Pages copied between two words about the progress: 4 MB."""
PARTS = ("-wal", "-shm", "-journal")
"""What SQLite puts beside a database and takes for a part of it."""

Told = Callable[[str, float], None]
"""Is told what goes on, and what share of it is done."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A finished copy: where it is, its size, how many tasks are in it and which schema they have."""

    path: Path
    bytes: int
    tasks: int
    schema: str


def back_up(url: str, target: Path, *, replace: bool, told: Told) -> Backup:
    """Copy the database as it is at this moment; an existing file is only replaced where that is said.

    Raises `ConfigError` where this database or this target cannot be taken, `StoreUnavailable` where the copy failed.
    Either way there is nothing new at the target.
    """
    source = database_file(url)
    if source is None:
        raise ConfigError("`receiver backup` copies SQLite databases; for PostgreSQL use `pg_dump --format=custom`.")
    require_database(url)
    target = target.absolute()
    _require_place(source, target, replace=replace)
    with _draft_beside(target) as draft:
        try:
            _copy(url, draft, told)
            tasks, revision = _look_through(draft, told)
            with draft.open("r+b") as written:
                os.fsync(written)
            size = draft.stat().st_size
            _require_place(source, target, replace=replace)  # somebody may have come first
            draft.replace(target)
            _sync_directory(target.parent)
        except (sqlite_module().Error, DBAPIError, OSError) as error:
            words = getattr(error, "orig", None) or getattr(error, "strerror", None) or error
            raise StoreUnavailable(
                f"{source} could not be copied to {target}: {words}; nothing was left there"
            ) from error
    return Backup(target, size, tasks, revision)


def _require_place(source: Path, target: Path, *, replace: bool) -> None:
    """Refuse a target that the copy must not or cannot take; raises `ConfigError` saying what to name instead."""
    live = {source.absolute().with_name(source.name + part) for part in ("", *PARTS)}
    if target in live or any(path.exists() and target.exists() and path.samefile(target) for path in live):
        raise ConfigError(f"{target} belongs to the database itself; name another file.")
    if not target.parent.is_dir():
        raise ConfigError(f"There is no directory {target.parent}; make it, or name a file elsewhere.")
    if target.exists() and not target.is_file():
        raise ConfigError(f"{target} is not a file; name one.")
    if target.exists() and not replace:
        raise ConfigError(f"{target} is there already; name another file, or replace this one with --force.")
    for part in PARTS:
        # SQLite would play the log of the old file back over the new one, and ruin it.
        if (beside := target.with_name(target.name + part)).exists():
            raise ConfigError(f"{beside} says that {target} is open as a database, or was; name another file.")


@contextlib.contextmanager
def _draft_beside(target: Path) -> Iterator[Path]:
    """Make an empty file that only we may read, on the target's own disk; it is gone afterwards."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
    except OSError as error:
        raise ConfigError(f"{target.parent} cannot be written: {error.strerror}; name a file elsewhere.") from error
    os.close(handle)
    try:
        yield Path(name)
    finally:
        for part in ("", *PARTS):
            Path(name + part).unlink(missing_ok=True)


def _copy(url: str, draft: Path, told: Told) -> None:
    """Copy page by page, inside one read transaction.

    Without it SQLite begins anew after each commit of anybody else, and beside a busy service would never end. With
    WAL such a transaction keeps no writer out; it only keeps the log from being used anew, so there are no pauses.
    Where an old library forbids WAL, commits wait until the copy is made.
    """
    engine = reader_engine(url)
    try:
        with engine.connect() as reading, _opened(draft) as writing:
            reading.exec_driver_sql("SELECT 1 FROM sqlite_schema").first()  # only reading begins the transaction
            writing.execute("PRAGMA synchronous=OFF")  # the whole is synced at the end

            def progress(_status: int, remaining: int, total: int) -> None:
                told("copying", 1 - remaining / max(total, 1))

            driver: Any = reading.connection.driver_connection
            driver.backup(writing, pages=STEP, progress=progress)
            writing.execute("PRAGMA journal_mode=DELETE")  # one file is all, also for those who may only read it
    finally:
        engine.dispose()


def _look_through(draft: Path, told: Told) -> tuple[int, str]:
    """Check the copy from its first page to its last; returns its tasks' number and its schema."""
    told("checking", 1.0)
    with _opened(draft) as copy:
        faults = [str(row[0]) for row in copy.execute("PRAGMA integrity_check(1)")]
        if faults != ["ok"]:
            words = " ".join(faults[0].split())
            raise StoreUnavailable(f"The database itself is damaged ({words}); keep the backups that you have.")
        if copy.execute("SELECT 1 FROM sqlite_schema WHERE name = 'alembic_version'").fetchone() is None:
            raise ConfigError("This database holds no tables of Receiver's: there is nothing to back up.")
        (revision,) = copy.execute("SELECT version_num FROM alembic_version").fetchone()
        if revision not in REVISIONS:
            raise ConfigError(f"The database has the schema {revision} of a later release; back it up with that one.")
        (tasks,) = copy.execute("SELECT count(*) FROM task").fetchone()
    return tasks, revision


@contextlib.contextmanager
def _opened(draft: Path) -> Iterator[Any]:
    with contextlib.closing(sqlite_module().connect(str(draft), isolation_level=None)) as connection:
        yield connection


def _sync_directory(directory: Path) -> None:
    """Return when the disk has the names in a directory."""
    with contextlib.suppress(PermissionError):  # Windows opens no directory, and needs none of this
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
