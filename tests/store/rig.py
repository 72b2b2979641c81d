"""What the store's tests stand on: rows, and a look at a database file from outside."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlmodel import Session

from receiver.core.ids import new_id
from receiver.core.states import State
from receiver.store import Transaction, Unit, heartbeats, tasks
from receiver.store.engine import sqlite_module
from receiver.store.tables import as_json
from tests.measuring import HANG, Duration, Stopwatch

NOW = 1_795_176_000_000

_BEATS = heartbeats.HEARTBEAT
_AT = select(_BEATS.c.at).where(_BEATS.c.name == bindparam("who"))
_SET = update(_BEATS).where(_BEATS.c.name == bindparam("who"))


def url_of(file: Path) -> str:
    return f"sqlite:///{file}"


def beat(name: str, at: int = 1) -> Unit[None]:
    """A unit that writes one small row."""
    return lambda tx: heartbeats.record_heartbeat(tx, name, at)


def count_up(name: str) -> Unit[int]:
    """A unit that reads a number, adds one and writes it: what is lost when two do it at once."""

    def unit(tx: Transaction) -> int:
        row = tx.one(_AT, who=name)
        if row is None:
            heartbeats.record_heartbeat(tx, name, 1)
            return 1
        tx.run(_SET, who=name, at=row["at"] + 1)
        return int(row["at"]) + 1

    return unit


def beats(name: str) -> Callable[[Session], int | None]:
    return lambda session: heartbeats.read_last(session, name)


def task_row(task_id: str | None = None, **values: Any) -> dict[str, Any]:
    """A task's row as `tasks.insert_task` takes it."""
    counters = dict.fromkeys(("attempts", "checks", "deliveries", "unstored", "empties", "gaps"), 0)
    metadata = as_json(values.pop("metadata", {}))
    return {
        "id": task_id or new_id(NOW),
        "provider": "revid",
        "model": "sora-2",
        "state": State.QUEUED.value,
        "input": "{}",
        "validated": True,
        "metadata": metadata,
        "notices": "[]",
        "claim": 0,
        "token_seen": False,
        "may_have_cost": False,
        "callback_url": False,
        "created_at": NOW,
        "updated_at": NOW,
        **counters,
        **values,
    }


def add_tasks(*rows: dict[str, Any]) -> Unit[None]:
    def unit(tx: Transaction) -> None:
        for row in rows:
            tasks.insert_task(tx, row)

    return unit


@contextlib.contextmanager
def outside(file: Path) -> Iterator[Any]:
    """A connection of our own, as another process would have it, through the one SQLite library."""
    connection = sqlite_module().connect(str(file), isolation_level=None, timeout=HANG, check_same_thread=False)
    try:
        yield connection
    finally:
        connection.close()


def look(file: Path, query: str) -> list[tuple[Any, ...]]:
    with outside(file) as connection:
        found: list[tuple[Any, ...]] = connection.execute(query).fetchall()
    return found


def there(file: Path) -> bool:
    return file.exists()


def content(file: Path) -> bytes:
    return file.read_bytes()


def move(file: Path, to: Path) -> Path:
    """Move a database file, without its log; returns where it is now."""
    return file.rename(to)


def put_garbage(file: Path) -> bytes:
    """Write a file that is no database; returns what is in it."""
    garbage = b"no database at all, and longer than a header of a hundred bytes " * 100
    file.write_bytes(garbage)
    return garbage


def remove(file: Path) -> None:
    """Remove a database with its log."""
    for part in file.parent.glob(f"{file.name}*"):
        part.unlink()


def commits_in_log(file: Path) -> int:
    """Count the transactions in the write-ahead log: its frames that name the database's size after a commit."""
    log = file.with_name(f"{file.name}-wal").read_bytes()
    page, salt = int.from_bytes(log[8:12], "big"), log[16:24]
    frames = [log[at : at + 24] for at in range(32, len(log) - page - 23, 24 + page)]
    return sum(frame[4:8] != bytes(4) for frame in frames if frame[8:16] == salt)


_HOLD = """
import sys
from receiver.store.engine import sqlite_module
connection = sqlite_module().connect(sys.argv[1], isolation_level=None, timeout=0)
print("ready", flush=True)
while sys.stdin.readline():
    while not connection.in_transaction:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except Exception:
            pass
    print("held", flush=True)
    sys.stdin.readline()
    connection.execute("ROLLBACK")
    print("released", flush=True)
"""


class Holder:
    """Another process that takes the write lock as soon as it can once it is told, and keeps it until told again."""

    def __init__(self, file: Path) -> None:
        self._running = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, "-c", _HOLD, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    async def ready(self) -> None:
        """Return when it can be told."""
        assert await self._told() == "ready\n"

    def tell(self) -> None:
        """Tell it to take the lock, or to give it back."""
        assert self._running.stdin is not None
        self._running.stdin.write("\n")
        self._running.stdin.flush()

    async def has_it(self) -> None:
        """Return when it has the lock."""
        assert await self._told() == "held\n"

    async def holds(self) -> None:
        """Let it take the lock; return when it has it."""
        await self.ready()
        self.tell()
        await self.has_it()

    async def release(self) -> None:
        """Return when the lock is free again."""
        self.tell()
        assert await self._told() == "released\n"

    def end(self) -> None:
        self._running.kill()
        self._running.communicate()

    async def _told(self) -> str:
        assert self._running.stdout is not None
        async with asyncio.timeout(HANG):
            return await asyncio.to_thread(self._running.stdout.readline)


@contextlib.contextmanager
def holder(file: Path) -> Iterator[Holder]:
    process = Holder(file)
    try:
        yield process
    finally:
        process.end()


async def timed(work: Awaitable[Any]) -> tuple[Duration, Any]:
    """How long something took, and its result or its error."""
    watch = Stopwatch()
    try:
        result = await work
    except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
        result = error
    return watch.read(), result


def python(code: str, *arguments: str) -> "subprocess.Popen[str]":
    """Run a script in another process."""
    return subprocess.Popen(  # noqa: S603 - our own scripts
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


WHEN_ALL_ARE_READY = """
import sys
print("ready", flush=True)
sys.stdin.readline()
"""
"""What a script does to go on together with others."""


def all_at_once(processes: "Sequence[subprocess.Popen[str]]") -> list[tuple[str, str]]:
    """Let scripts go on when each of them is ready; returns what each then wrote, and its errors."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [process.communicate() for process in processes]
