"""The one door for writes: what callers are told is durable, theirs, and nobody else's trouble."""

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from receiver.core.errors import StoreUnavailable
from receiver.store import Store, Transaction, Unit, heartbeats, journal
from receiver.store.engine import sqlite_module
from tests.measuring import HANG, until
from tests.torture.harness import Torture

from .rig import (
    NOW,
    add_tasks,
    all_at_once,
    beat,
    beats,
    commits_in_log,
    count_up,
    look,
    outside,
    python,
    task_row,
    url_of,
)

pytestmark = pytest.mark.anyio

BEATS = "SELECT name FROM heartbeat ORDER BY name"


async def test_many_concurrent_writes_share_commits(store: Store, file: Path) -> None:
    await store.write(beat("first"))
    before = commits_in_log(file)
    await asyncio.gather(*(store.write(beat(f"{n:03}")) for n in range(500)))
    assert len(look(file, BEATS)) == 501
    assert commits_in_log(file) - before <= 4, "500 rows in a first, two full batches and a rest"


async def test_a_write_alone_is_a_commit_of_its_own(store: Store, file: Path) -> None:
    await store.write(beat("first"))
    before = commits_in_log(file)
    for number in range(5):
        await store.write(beat(f"{number}"))
    assert commits_in_log(file) - before == 5


async def test_every_caller_is_answered_after_its_commit(store: Store, file: Path) -> None:
    with outside(file) as other:

        async def write_and_look(number: int) -> bool:
            await store.write(beat(f"{number}"))
            row = other.execute("SELECT 1 FROM heartbeat WHERE name = ?", (str(number),)).fetchone()
            return row is not None

        assert all(await asyncio.gather(*(write_and_look(number) for number in range(300))))


async def test_every_answer_comes_after_the_log_was_synced(file: Path, tmp_path: Path) -> None:
    """What `synchronous=FULL` promises, seen from the system calls."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("SKIPPED, NOT TESTED: strace is not installed")
    trace = tmp_path / "trace"
    options = ["-f", "-y", "-e", "trace=fdatasync,fsync,pwrite64,write", "-o", str(trace)]
    script = tmp_path / "script.py"
    script.write_text(WRITE_AND_TELL)
    command = [strace, *options, sys.executable, str(script), url_of(file)]
    done = await asyncio.to_thread(subprocess.run, command, check=False, capture_output=True, text=True)
    if done.returncode and "ptrace" in done.stderr:
        pytest.skip("SKIPPED, NOT TESTED: strace may not trace here")
    assert done.returncode == 0, done.stderr
    assert told_and_synced(trace.read_text()) == [True] * 20


WRITE_AND_TELL = """
import asyncio, os, sys
from receiver.store import Store, heartbeats

async def main():
    store = Store(sys.argv[1])
    for number in range(20):
        await store.write(lambda tx: heartbeats.record_heartbeat(tx, "row", number))
        os.write(1, b"told\\n")
    await store.close()

asyncio.run(main())
"""


def told_and_synced(trace: str) -> list[bool]:
    """For each answer, whether the log had been synced after it was last written."""
    answers, synced, written = [], False, False
    for line in trace.splitlines():
        if re.search(r"pwrite64\(\d+<[^>]*-wal>", line):
            synced, written = False, True
        elif re.search(r"f(data)?sync\(\d+<[^>]*-wal>\)\s+= 0", line):
            synced = True
        elif "write(1<" in line and '"told' in line:
            answers.append(written and synced)
            written = False
    return answers


async def test_results_reach_the_right_callers(store: Store) -> None:
    def giving(number: int) -> Unit[int]:
        return lambda _tx: number * 7

    results = await asyncio.gather(*(store.write(giving(number)) for number in range(600)))
    assert results == [number * 7 for number in range(600)]


async def test_a_failing_unit_neither_harms_nor_loses_its_neighbours(store: Store, file: Path) -> None:
    def failing(number: int) -> Any:
        def unit(tx: Transaction) -> None:
            heartbeats.record_heartbeat(tx, f"bad {number}", 1)
            raise LookupError(number)

        return unit

    await store.write(beat("sum", 0))
    units = [failing(number) if number % 7 == 3 else count_up("sum") for number in range(300)]
    results = await asyncio.gather(*map(store.write, units), return_exceptions=True)
    errors = [(number, error.args) for number, error in enumerate(results) if isinstance(error, LookupError)]
    assert errors == [(number, (number,)) for number in range(300) if number % 7 == 3]
    good = [result for result in results if not isinstance(result, LookupError)]
    assert good == list(range(1, len(good) + 1)), "each neighbour counted once, in order"
    assert look(file, "SELECT name, at FROM heartbeat") == [("sum", len(good))]


async def test_a_unit_that_breaks_a_rule_of_the_schema_is_told_so_alone(store: Store, file: Path) -> None:
    def orphan(tx: Transaction) -> int:
        return journal.note(tx, "tsk_nobody", NOW, "note")

    results = await asyncio.gather(
        store.write(beat("a")), store.write(orphan), store.write(beat("b")), return_exceptions=True
    )
    assert [type(result) for result in results] == [type(None), StoreUnavailable, type(None)]
    assert "FOREIGN KEY" in str(results[1])
    assert look(file, BEATS) == [("a",), ("b",)]


class Leaving(BaseException):
    """Not an `Exception`: what a library raises to end a thread, say."""


@pytest.mark.parametrize(
    ("raised", "told"), [(StopIteration("x"), RuntimeError), (Leaving("x"), Leaving), (KeyError("x"), KeyError)]
)
async def test_no_caller_waits_for_ever_whatever_a_unit_raises(
    store: Store, file: Path, raised: BaseException, told: type[BaseException]
) -> None:
    def unit(_tx: Transaction) -> None:
        raise raised

    async with asyncio.timeout(HANG):
        first, bad, last = await asyncio.gather(
            store.write(beat("a")), store.write(unit), store.write(beat("b")), return_exceptions=True
        )
    assert (first, type(bad), last) == (None, told, None)
    assert look(file, BEATS) == [("a",), ("b",)]


async def test_the_unit_of_a_cancelled_caller_still_runs(store: Store, file: Path) -> None:
    writing = [asyncio.create_task(store.write(beat(f"{number}"))) for number in range(9)]
    await asyncio.sleep(0)
    for task in writing[::2]:
        task.cancel()
    results = await asyncio.gather(*writing, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [n % 2 == 0 for n in range(9)]
    await until(lambda: len(look(file, BEATS)) == 9)


async def test_close_finishes_what_is_queued(store: Store, file: Path) -> None:
    writing = [asyncio.create_task(store.write(beat(f"{number:03}"))) for number in range(600)]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*writing) == [None] * 600
    assert len(look(file, BEATS)) == 600
    assert not file.with_name("receiver.db-wal").exists(), "the last one out folds the log in"


async def test_a_write_after_the_close_is_refused_and_does_not_hang(store: Store) -> None:
    await store.write(beat("a"))
    await store.close()
    async with asyncio.timeout(HANG):
        with pytest.raises(StoreUnavailable, match="closed"):
            await store.write(beat("b"))


async def test_the_log_is_ahead_and_synced_and_foreign_keys_hold(store: Store) -> None:
    def pragmas(tx: Transaction) -> list[Any]:
        names = ("journal_mode", "synchronous", "foreign_keys", "mmap_size", "trusted_schema")
        rows = [tx.one(text(f"PRAGMA {name}")) for name in names]
        return [next(iter(row.values())) if row else None for row in rows]

    assert await store.write(pragmas) == ["wal", 2, 1, 0, 0]


async def test_readers_cannot_write(store: Store, file: Path) -> None:
    await store.write(beat("a"))
    before = commits_in_log(file)
    for statement in ("DELETE FROM heartbeat", "INSERT INTO heartbeat VALUES ('b', 1)", "DROP TABLE heartbeat"):
        with pytest.raises(StoreUnavailable, match="readonly"):
            await store.read(lambda session, sql=statement: session.execute(text(sql)))  # type: ignore[misc]
    assert commits_in_log(file) == before
    assert look(file, BEATS) == [("a",)]


async def test_a_reader_sees_one_moment(store: Store, file: Path) -> None:
    """Two queries of one read agree, whatever is committed in between."""
    await store.write(beat("a", 1))

    def twice(session: Any) -> list[Any]:
        first = session.execute(text("SELECT at FROM heartbeat")).scalar()
        with outside(file) as other:
            other.execute("UPDATE heartbeat SET at = 2")
        return [first, session.execute(text("SELECT at FROM heartbeat")).scalar()]

    assert await store.read(twice) == [1, 1]
    assert await store.read(beats("a")) == 2


@pytest.mark.row("A12")
async def test_a_long_reader_keeps_no_writer_out(store: Store, file: Path) -> None:
    with outside(file) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM task").fetchone()
        for number in range(50):
            await store.write(beat(f"{number}"))
        reader.execute("ROLLBACK")
    assert len(look(file, BEATS)) == 50


@pytest.mark.row("B5")
async def test_nobody_writes_between_what_a_unit_reads_and_what_it_writes(store: Store, file: Path) -> None:
    await store.write(beat("sum", 7))

    def unit(tx: Transaction) -> int:
        before = tx.one(text("SELECT at FROM heartbeat"))
        with outside(file) as other:
            other.execute("PRAGMA busy_timeout=0")
            with pytest.raises(sqlite_module().OperationalError, match="locked"):
                other.execute("UPDATE heartbeat SET at = 100")
        assert before is not None
        heartbeats.record_heartbeat(tx, "sum", before["at"] + 1)
        return int(before["at"])

    assert await store.write(unit) == 7
    assert look(file, "SELECT at FROM heartbeat") == [(8,)]


COUNT = """
import asyncio, sys
from receiver.store import Store
from tests.store.rig import WHEN_ALL_ARE_READY, count_up

async def main():
    store = Store(sys.argv[1])
    exec(WHEN_ALL_ARE_READY)
    for _ in range(int(sys.argv[2])):
        await store.write(count_up("sum"))
    await store.close()

asyncio.run(main())
"""


@pytest.mark.row("B5")
async def test_four_processes_that_read_and_write_lose_nothing(torture: Torture, file: Path) -> None:
    times = torture.size(150, 1_500)
    told = await asyncio.to_thread(all_at_once, [python(COUNT, url_of(file), str(times)) for _ in range(4)])
    assert [errors for _, errors in told] == [""] * 4
    assert look(file, "SELECT at FROM heartbeat") == [(4 * times,)]
    torture.figures(updates=4 * times, lost=0)


@pytest.mark.row("B5")
async def test_nobody_else_can_write_from_the_moment_a_unit_begins(store: Store, file: Path) -> None:
    """What it reads stays true until it writes."""

    def unit(tx: Transaction) -> bool:
        tx.one(text("SELECT 1"))
        with outside(file) as other:
            other.execute("PRAGMA busy_timeout=0")
            with pytest.raises(sqlite_module().OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
        return True

    assert await store.write(unit)


async def test_a_unit_is_whole_or_not_at_all(store: Store, file: Path) -> None:
    def half(tx: Transaction) -> None:
        add_tasks(task_row("tsk_1"), task_row("tsk_2"), task_row("tsk_1"))(tx)

    with pytest.raises(StoreUnavailable, match="UNIQUE"):
        await store.write(half)
    assert look(file, "SELECT id FROM task") == []
