"""A backup beside a busy service: it holds everything that was told as stored before it began, and serves again."""

import asyncio
import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from receiver.store.backup import back_up
from tests.cli.rig import Home, serving
from tests.measuring import Stopwatch, longest
from tests.store.rig import look
from tests.torture.callbacks import TIGHTEST, Callback, assert_kept, calling, home_with_tasks, pulse, shape
from tests.torture.harness import Torture

pytestmark = [pytest.mark.anyio]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.row("A11")
async def test_a_backup_under_load_holds_all_that_was_answered_before_and_serves_again(
    torture: Torture, tmp_path: Path
) -> None:
    """Callbacks go on all the time, and none of them is refused or kept waiting."""
    backups, rate, around = torture.size(2, 20), torture.size(300, 500), 1.0
    home, waiting = await asyncio.to_thread(home_with_tasks, tmp_path, torture.size(6_000, 60_000))
    database = home.data / "receiver.db"
    copies, told_before, took = [], [], []
    # However long the backups take: when each has been called back about, all are again; some are kept for the copy.
    endless = itertools.cycle(waiting[:-100])
    with serving(home), pulse(home) as felt:
        async with calling(home) as caller:
            enough, loaded = asyncio.Event(), Stopwatch()
            load = asyncio.create_task(
                caller.at_rate(itertools.takewhile(lambda _: not enough.is_set(), endless), rate)
            )
            for number in range(backups):
                await asyncio.sleep(around)  # load before each, not a condition
                copy = tmp_path / f"copy{number}.db"
                told_before.append(set(caller.told))
                watch = Stopwatch()
                await asyncio.to_thread(by_command if number % 2 == 0 else by_call, home, copy)
                took.append(watch.read())
                copies.append(copy)
            assert not load.done(), "the load went on all the time"
            enough.set()
            await load
            lasted = loaded.read()
    assert {answer.status for answer in caller.answers} == {200}
    torture.within(caller.worst, TIGHTEST)
    for copy, told in zip(copies, told_before, strict=True):
        assert told
        assert {row[0] for row in look(copy, "SELECT task_id FROM delivery")} >= told
    assert_kept(database, caller)
    torture.figures(
        backups=backups,
        megabytes=copies[-1].stat().st_size / 1e6,
        backup_s=longest(took),
        callbacks_a_second=lasted.each_second(len(caller.answers)),
        worst_answer_s=caller.worst,
        worst_healthz_s=felt.worst,
        **shape(caller.answers),
    )
    untold = [callback for callback in waiting if callback.task_id not in caller.told]
    await serve_the_copy(home, copies[-1], tmp_path / "restored", told_before[-1], untold[:100])


def by_command(home: Home, copy: Path) -> None:
    ran = home.run("backup", str(copy))
    assert ran.code == 0, ran.err


def by_call(home: Home, copy: Path) -> None:
    """What the command does, at once: nothing that was just told has time to leave the log."""
    back_up(f"sqlite:///{home.data / 'receiver.db'}", copy, replace=False, on_progress=lambda *_: None)


async def serve_the_copy(home: Home, copy: Path, directory: Path, told: set[str], news: Sequence[Callback]) -> None:
    """Restore as the README says: the copy as the database, the secrets beside it; then it serves, and takes news."""
    restored = Home(directory, {**home.settings, "PORT": "0"})
    restored.data.mkdir(parents=True)
    shutil.copy(copy, restored.data / "receiver.db")
    for secret in ("secret_keys", "api_tokens"):
        shutil.copy(home.data / secret, restored.data)
    with serving(restored):
        with restored.client() as client:
            shown = [client.get(f"/api/tasks/{task_id}").json()["state"] for task_id in sorted(told)[:20]]
        assert set(shown) == {"succeeded"}
        async with calling(restored) as caller:
            await asyncio.gather(*map(caller.post, news))
        assert {answer.status for answer in caller.answers} == {200}
    assert_kept(restored.data / "receiver.db", caller)
