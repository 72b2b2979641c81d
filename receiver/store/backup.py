"""Copies the SQLite database into one file while a service writes to it. Copying that file back restores it.

The copy is made under a temporary name, checked and synced before it gets its own, so a file with that name is
complete.
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
"""Pages copied between two progress reports: 4 MB."""
SIDE_FILES = ("-wal", "-shm", "-journal")
"""Suffixes of the files that SQLite keeps beside a database, as parts of it."""

OnProgress = Callable[[str, float], None]
"""Called with the current step and the share of it that is done."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A finished copy: its path, size, number of tasks and schema."""

    path: Path
    bytes: int
    tasks: int
    schema: str


def back_up(url: str, target: Path, *, replace: bool, on_progress: OnProgress) -> Backup:
    """Copy the database as it is now; an existing file is only replaced with `replace`.

    Raises `ConfigError` if this database or this target cannot be used, `StoreUnavailable` if the copy failed. Either
    way, nothing at the target has changed.
    """
    source = database_file(url)
    if source is None:
        raise ConfigError("`receiver backup` copies SQLite databases; for PostgreSQL use `pg_dump --format=custom`.")
    require_database(url)
    target = target.absolute()
    _require_target(source, target, replace=replace)
    with _draft_beside(target) as draft:
        try:
            _copy(url, draft, on_progress)
            tasks, revision = _verify(draft, on_progress)
            with draft.open("r+b") as written:
                os.fsync(written)
            size = draft.stat().st_size
            _require_target(source, target, replace=replace)  # another process may have created it meanwhile
            draft.replace(target)
            _sync_directory(target.parent)
        except (sqlite_module().Error, DBAPIError, OSError) as error:
            words = getattr(error, "orig", None) or getattr(error, "strerror", None) or error
            raise StoreUnavailable(
                f"{source} could not be copied to {target}: {words}; nothing was written there"
            ) from error
    return Backup(target, size, tasks, revision)


def _require_target(source: Path, target: Path, *, replace: bool) -> None:
    """Raise `ConfigError`, saying what to use instead, for a target that the copy must not or cannot be."""
    live = {source.absolute().with_name(source.name + part) for part in ("", *SIDE_FILES)}
    if target in live or any(path.exists() and target.exists() and path.samefile(target) for path in live):
        raise ConfigError(f"{target} belongs to the database itself; name another file.")
    if not target.parent.is_dir():
        raise ConfigError(f"The directory {target.parent} does not exist; create it, or name a file elsewhere.")
    if target.exists() and not target.is_file():
        raise ConfigError(f"{target} is not a file; name a file.")
    if target.exists() and not replace:
        raise ConfigError(f"{target} already exists; name another file, or replace this one with --force.")
    for part in SIDE_FILES:
        # SQLite would apply the log of the old file to the new one, and corrupt it.
        if (beside := target.with_name(target.name + part)).exists():
            raise ConfigError(f"{beside} exists, so {target} is or was open as a database; name another file.")


@contextlib.contextmanager
def _draft_beside(target: Path) -> Iterator[Path]:
    """Make an empty file that only we may read, on the target's own disk; it is deleted afterwards."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
    except OSError as error:
        raise ConfigError(f"{target.parent} cannot be written: {error.strerror}; name a file elsewhere.") from error
    os.close(handle)
    try:
        yield Path(name)
    finally:
        for part in ("", *SIDE_FILES):
            Path(name + part).unlink(missing_ok=True)


def _copy(url: str, draft: Path, on_progress: OnProgress) -> None:
    """Copy page by page, inside one read transaction.

    Without it, SQLite starts again after each commit of another connection, and beside a busy service it would never
    end. With WAL, such a transaction blocks no writer; it only keeps the log growing, so there are no pauses. Where an
    old library forbids WAL, commits wait until the copy is made.
    """
    engine = reader_engine(url)
    try:
        with engine.connect() as reading, _opened(draft) as writing:
            reading.exec_driver_sql("SELECT 1 FROM sqlite_schema").first()  # only a read begins the transaction
            writing.execute("PRAGMA synchronous=OFF")  # the whole is synced at the end

            def progress(_status: int, remaining: int, total: int) -> None:
                on_progress("copying", 1 - remaining / max(total, 1))

            driver: Any = reading.connection.driver_connection
            driver.backup(writing, pages=STEP, progress=progress)
            writing.execute("PRAGMA journal_mode=DELETE")  # one file, also for readers without write access
    finally:
        engine.dispose()


def _verify(draft: Path, on_progress: OnProgress) -> tuple[int, str]:
    """Check the copy completely; return its number of tasks and its schema."""
    on_progress("checking", 1.0)
    with _opened(draft) as copy:
        faults = [str(row[0]) for row in copy.execute("PRAGMA integrity_check(1)")]
        if faults != ["ok"]:
            words = " ".join(faults[0].split())
            raise StoreUnavailable(f"The database itself is damaged ({words}); keep your earlier backups.")
        if copy.execute("SELECT 1 FROM sqlite_schema WHERE name = 'alembic_version'").fetchone() is None:
            raise ConfigError("This database has no tables of Receiver, so there is nothing to back up.")
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
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
