"""A callback that was answered 200 is on the disk: watched call by call, and on every disk that a power cut could
have left."""

import asyncio
import os
import random
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from receiver.store.engine import sqlite_module
from tests.behaviour.families import REVID
from tests.behaviour.provider import Provider
from tests.system.processes import Process, free_port, service
from tests.torture import driver, images, trace
from tests.torture.driver import Driver
from tests.torture.fire import DATABASE
from tests.torture.harness import Torture
from tests.torture.trace import Call
from tests.torture.witness import MARK

needs_strace = pytest.mark.skipif(bool(trace.MISSING), reason=trace.MISSING)
TASKS, AT_ONCE = 10, 8


@dataclass(frozen=True)
class Traced:
    """A trace of callbacks, and how the database's files stood before."""

    calls: list[Call]
    base: dict[str, bytes]
    sent: int
    acknowledged: int


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Traced:
    torture = Torture.of(lambda _name, _value: None)
    return asyncio.run(record(tmp_path_factory.mktemp("traced"), torture, torture.size(100, 800)))


async def record(directory: Path, torture: Torture, callbacks: int, **environ: str) -> Traced:
    """Watch a service take callbacks, eight at a time; nothing else writes meanwhile."""
    provider = Provider()
    async with provider.serving():
        port = free_port()
        settings = driver.SETTINGS | {"RECEIVER_POLLER": "off"} | environ
        serving = service(directory, port, int(provider.url.rpartition(":")[2]), **settings)
        await asyncio.to_thread(serving.start)
        try:
            async with Driver(f"http://127.0.0.1:{port}", directory / "acked.log") as driving:
                return await _watched(serving, driving, directory, callbacks, torture.random)
        finally:
            serving.kill()


async def _watched(serving: Process, driving: Driver, directory: Path, callbacks: int, chance: random.Random) -> Traced:
    tasks = [await driving.order(REVID.order(f"n{n}"), f"k{n}") for n in range(max(TASKS, callbacks // 50))]
    letters = [
        driver.working("revid", tasks[n % len(tasks)], f"revid-{n % len(tasks) + 1}", f"m{n}") for n in range(callbacks)
    ]
    database = directory / DATABASE
    base = {ending: database.with_name(database.name + ending).read_bytes() for ending in images.FILES}
    with trace.watching(serving.pid, directory / "trace"):
        await driving.post(letters, chance, AT_ONCE)
        assert await asyncio.to_thread(serving.stop) == 0  # its end moves everything from the WAL to the database
    return Traced(trace.calls(directory / "trace"), base, callbacks, driving.acknowledged().total())


@needs_strace
@pytest.mark.row("A3")
def test_no_callback_is_answered_before_its_commit_is_on_the_disk(traced: Traced, torture: Torture) -> None:
    answered = trace.answers(traced.calls)
    assert len({answer.mark for answer in answered}) == traced.acknowledged == traced.sent
    early = trace.too_early(traced.calls)
    assert not early, "\n".join(early)
    syncs = [call for call in traced.calls if call.is_wal and call.name in trace.SYNCS]
    torture.figures(answers=len(answered), too_early=len(early), syncs=len(syncs))


@needs_strace
@pytest.mark.row("A3")
@pytest.mark.skipif(shutil.which("eatmydata") is None, reason="eatmydata is not installed")
def test_a_library_that_swallows_syncs_is_found_out(tmp_path: Path, torture: Torture) -> None:
    library = next(Path("/usr/lib").glob("*/libeatmydata.so"), None)
    if library is None or not torture.full:
        pytest.skip("at full size only: it shows that the watcher sees")
    swallowed = asyncio.run(record(tmp_path, torture, 50, LD_PRELOAD=str(library)))
    assert len(trace.too_early(swallowed.calls)) == swallowed.acknowledged == 50


@needs_strace
@pytest.mark.row("A4")
def test_every_disk_that_a_power_cut_leaves_holds_what_was_acknowledged(
    traced: Traced, torture: Torture, tmp_path: Path
) -> None:
    chance, database = torture.random, tmp_path / "image.db"
    answered = [(answer.sent, answer.mark) for answer in trace.answers(traced.calls)]
    number = min(torture.size(12, 300), len(traced.calls))
    cuts = set(chance.sample(range(len(traced.calls)), number))
    opened = lost = 0
    for line, kind, files in images.images(traced.calls, traced.base, cuts, chance):
        images.lay_out(files, database)
        missing = {mark for sent, mark in answered if sent < line} - held(database)
        assert not missing, f"cut at line {line}, {kind} was left: {sorted(missing)}"
        lost += len(missing)
        opened += 1
    assert opened == number * len(images.KINDS)
    checkpointed = sum(call.path.endswith(".db") and call.name in trace.WRITES for call in traced.calls)
    assert checkpointed, "the cuts went through no checkpoint"
    torture.figures(images=opened, acknowledged_and_lost=lost, pages_checkpointed=checkpointed)


def held(database: Path) -> set[str]:
    """Open an image as the next start would; it must be whole. Gives the marks of its callbacks."""
    with closing(sqlite_module().connect(os.fspath(database))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        marks = (MARK.search(body) for (body,) in connection.execute("SELECT body FROM delivery"))
        return {mark[1].decode() for mark in marks if mark}
