"""A database in trouble under a live service: locked, full, read-only, read for long.

Nothing is answered 200 that is not stored, nobody waits longer than a provider does, and all is well again as soon as
the trouble ends, without a restart.
"""

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.cli.rig import Home, serving
from tests.measuring import HANG, longest
from tests.store.conftest import Mount, mount
from tests.store.rig import holder, outside
from tests.torture.callbacks import (
    TIGHTEST,
    Callback,
    Caller,
    assert_honest,
    assert_kept,
    calling,
    home_with_tasks,
    pulse,
    shape,
)
from tests.torture.harness import Torture

__all__ = ["mount"]

pytestmark = [pytest.mark.anyio]

LIMIT = 64 * 1024 * 1024
"""Bytes that the write-ahead log may keep: `journal_size_limit`."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.row("A8")
async def test_a_database_that_another_process_locks_is_told_in_time_and_loses_nothing(
    torture: Torture, tmp_path: Path
) -> None:
    seconds, number = torture.size(4, 60), 200
    home, waiting = await asyncio.to_thread(home_with_tasks, tmp_path, number)
    database = home.data / "receiver.db"
    with serving(home), pulse(home) as felt, holder(database) as other:
        async with calling(home, number) as caller:
            await other.holds()
            ready = await readiness(caller)
            await caller.at_rate(waiting, number / seconds)
            assert not caller.told, "the lock was held all the time"
            await other.release()
            refused = shape(caller.answers)
            await caller.until_stored(waiting)
            assert (await caller.get("/readyz"))[0] == 200
    assert_honest(torture, caller, felt)
    assert (ready.status, "locked" in ready.words) == (503, True)
    assert_kept(database, caller, waiting)
    torture.figures(lock_s=seconds, worst_answer_s=caller.worst, worst_healthz_s=felt.worst, **refused)


class Ready:
    """What /readyz says."""

    def __init__(self, status: int | None, words: str) -> None:
        self.status, self.words = status, words


async def readiness(caller: Caller) -> Ready:
    return Ready(*await caller.get("/readyz"))


@pytest.mark.row("A6")
async def test_a_full_disk_is_told_at_once_and_loses_nothing(torture: Torture, tmp_path: Path, mount: Mount) -> None:
    """The disk fills while callbacks come, again and again; in the end the service is killed."""
    place, rounds, each = mount(f"size={torture.size(4, 8)}m"), torture.size(2, 10), torture.size(60, 30)
    settings = {"RECEIVER_DATABASE_URL": f"sqlite:///{place / 'receiver.db'}"}
    home, waiting = await asyncio.to_thread(home_with_tasks, tmp_path, rounds * each, **settings)
    with serving(home), pulse(home) as felt:
        async with calling(home) as caller:
            for number in range(rounds):
                mine = waiting[number * each : (number + 1) * each]
                await caller.at_rate(mine[:10], 50)
                assert {answer.callback.task_id for answer in caller.answers[-10:]} <= caller.told
                with ballast(place) as fill:
                    await caller.at_rate(mine, 50)
                    ready = await until_refused(caller, fill)
                    assert "full" in ready.words, ready.words
                await caller.until_stored(mine)
                assert (await readiness(caller)).status == 200
    assert_honest(torture, caller, felt)
    refused = [answer.took for answer in caller.answers if answer.status == 503]
    assert refused
    assert_kept(place / "receiver.db", caller, waiting)
    torture.figures(
        times_full=rounds, worst_refusal_s=longest(refused), worst_healthz_s=felt.worst, **shape(caller.answers)
    )


async def until_refused(caller: Caller, fill: Callable[[], None]) -> Ready:
    """Fill the disk until the service is not ready: each time it gives back what its log takes, to go on with that."""
    async with asyncio.timeout(HANG):
        while True:
            fill()
            ready = await readiness(caller)
            if ready.status == 503:
                return ready


@contextlib.contextmanager
def ballast(place: Path) -> Iterator[Callable[[], None]]:
    """Fill a file system to its last byte; gives what fills it again."""
    file = place / "ballast"

    def fill() -> None:
        with file.open("ab", buffering=0) as writing, contextlib.suppress(OSError):
            while writing.write(b"x" * 4096):
                pass

    fill()
    try:
        yield fill
    finally:
        file.unlink()


@pytest.mark.row("A9")
async def test_a_disk_that_turns_read_only_under_a_running_service_is_told_and_recovers(
    torture: Torture, tmp_path: Path
) -> None:
    """Every write to the open files fails, as on a disk that the kernel has taken away after an error."""
    rounds, each = torture.size(1, 10), 60
    home, waiting = await asyncio.to_thread(home_with_tasks, tmp_path, rounds * each)
    database = home.data / "receiver.db"
    with serving(home), pulse(home) as felt:
        async with calling(home) as caller:
            for number in range(rounds):
                mine = waiting[number * each : (number + 1) * each]
                await caller.at_rate(mine[:10], 100)
                told = set(caller.told)
                with unwritable(home.data):
                    await caller.at_rate(mine, 100)
                    assert (await readiness(caller)).status == 503
                assert caller.told == told
                await caller.until_stored(mine)
                assert (await readiness(caller)).status == 200
    assert_honest(torture, caller, felt)
    assert_kept(database, caller, waiting)
    torture.figures(worst_answer_s=caller.worst, worst_healthz_s=felt.worst, **shape(caller.answers))


@contextlib.contextmanager
def unwritable(directory: Path) -> Iterator[None]:
    """Let a database not be written, not even by who has it open; skips where the disk does not know that.

    Its shared memory stays as it is: where the kernel takes that away, SQLite ends with a bus error, and all is as
    after a kill.
    """
    files = [str(directory / name) for name in ("receiver.db", "receiver.db-wal")]
    if shutil.which("chattr") is None or not changed("+i", *files):
        pytest.skip("SKIPPED, NOT TESTED: files cannot be made immutable here (chattr +i)")
    try:
        yield
    finally:
        assert changed("-i", *files)


def changed(flag: str, *paths: str) -> bool:
    command = ["chattr", flag, *paths]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603 - our own files


TABS = 20
"""Pages that people leave open."""


@pytest.mark.row("A12")
async def test_open_pages_do_not_let_the_log_grow(torture: Torture, tmp_path: Path) -> None:
    """More is written than the log may hold, so that it has to begin anew while everybody looks."""
    number, rate = torture.size(2_000, 60_000), 500
    home, waiting = await asyncio.to_thread(home_with_tasks, tmp_path, number)
    database = home.data / "receiver.db"
    log = database.with_name("receiver.db-wal")
    sizes: list[int] = []
    with serving(home), pulse(home) as felt:
        async with calling(home, 32) as caller:
            loaded = asyncio.create_task(caller.at_rate(waiting, rate))
            pages = 0
            while not loaded.done():
                looked = await asyncio.gather(*(look_at_the_list(home, caller) for _ in range(TABS)))
                assert set(looked) == {200}
                pages += TABS
                sizes.append(size(log))
                await asyncio.sleep(0.5)  # people, not a condition
            await loaded
    assert {answer.status for answer in caller.answers} == {200}
    assert max(sizes) <= LIMIT
    assert_kept(database, caller, waiting)
    torture.figures(
        pages=pages,
        log_mb_with_pages=max(sizes) / 1e6,
        worst_answer_s=caller.worst,
        worst_healthz_s=felt.worst,
        **shape(caller.answers),
    )


async def look_at_the_list(home: Home, caller: Caller) -> int | None:
    request = f"GET /api/tasks HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {home.token()}\r\n\r\n"
    return (await caller.ask(request.encode()))[0]


def size(file: Path) -> int:
    return file.stat().st_size


@pytest.mark.row("A12")
async def test_a_reader_that_stays_for_long_troubles_nobody_and_the_log_begins_anew_after_it(
    torture: Torture, tmp_path: Path
) -> None:
    """While another process reads, the log only grows, as SQLite says; then it begins anew, and gives back its disk."""
    seconds, rate = torture.size(4, 120), torture.size(400, 500)
    home, waiting = await asyncio.to_thread(home_with_tasks, tmp_path, (seconds + 30) * rate)
    database = home.data / "receiver.db"
    log = database.with_name("receiver.db-wal")
    with serving(home):
        async with calling(home) as caller:
            with outside(database) as reader:
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM task").fetchone()
                await caller.at_rate(waiting[: seconds * rate], rate)
                during = size(log)
                reader.execute("ROLLBACK")
            after, callbacks = await begun_anew(caller, waiting[seconds * rate :], rate, log)
    assert {answer.status for answer in caller.answers} == {200}
    torture.within(caller.worst, TIGHTEST)
    assert after <= LIMIT
    assert_kept(database, caller)
    torture.figures(
        reader_s=seconds,
        log_mb_with_reader=during / 1e6,
        log_mb_after=after / 1e6,
        callbacks_until_anew=callbacks,
        worst_answer_s=caller.worst,
        **shape(caller.answers),
    )


async def begun_anew(caller: Caller, waiting: Sequence[Callback], rate: int, log: Path) -> tuple[int, int]:
    """Go on until the log is written from its beginning again; gives its size then, and the callbacks it took."""
    before = head(log)
    for number in range(0, len(waiting), 50):
        await caller.at_rate(waiting[number : number + 50], rate)
        if head(log) != before:
            return size(log), number + 50
    raise AssertionError("the log only grows")


def head(log: Path) -> bytes:
    """Read what is new each time that the log begins anew: its count of checkpoints and its salts."""
    with log.open("rb") as reading:
        return reading.read(32)
