"""A disk whose syncs and writes fail now and then, and for a while always: no commit that failed is told as stored."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.rig import Served, serving
from tests.torture.callbacks import assert_honest, assert_kept, calling, home_with_tasks, pulse, shape
from tests.torture.harness import Torture

FOLDERS = (Path("/usr/lib/fiu"), *Path("/usr/lib").glob("*/fiu"))
PRELOADED = [
    str(folder / name)
    for folder in FOLDERS
    for name in ("fiu_run_preload.so", "fiu_posix_preload.so")
    if (folder / name).exists()
]
SYNC, WRITE = "posix/io/sync/fdatasync", "posix/io/rw/pwrite"

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        not PRELOADED or shutil.which("fiu-ctrl") is None,
        reason="SKIPPED, NOT TESTED: libfiu is not installed (Debian: fiu-utils)",
    ),
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass(frozen=True)
class Disk:
    """The disk under a service, as libfiu lets it see it."""

    served: Served
    pipes: Path

    @asynccontextmanager
    async def failing(self, **shares: float) -> AsyncIterator[None]:
        """Let syncs and writes fail: always where the share is 1."""
        points = {{"sync": SYNC, "write": WRITE}[name]: share for name, share in shares.items()}
        for point, share in points.items():
            await self._tell(f"enable_random name={point},probability={share},failinfo=5")  # EIO
        yield
        for point in points:
            await self._tell(f"disable name={point}")

    async def _tell(self, command: str) -> None:
        words = ["fiu-ctrl", "-f", str(self.pipes), "-c", command, str(self.served.process.pid)]
        done = await asyncio.to_thread(subprocess.run, words, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "Error" not in done.stderr + done.stdout, done.stderr + done.stdout


@pytest.mark.row("A5")
async def test_a_commit_that_the_disk_fails_is_never_told_as_stored(torture: Torture, tmp_path: Path) -> None:
    """First some syncs and writes fail, then all, then none; after a kill the bare files hold all that was told."""
    some, rate, all_fail = torture.size(300, 2_000), 150, torture.size(2, 10)
    number = some + all_fail * 20
    home, waiting = await asyncio.to_thread(home_with_tasks, tmp_path, number)
    pipes = tmp_path / "fiu"
    preloaded = {"LD_PRELOAD": " ".join(PRELOADED), "FIU_CTRL_FIFO": str(pipes)}
    with serving(home, **preloaded) as served, pulse(home) as felt:
        disk = Disk(served, pipes)
        async with calling(home) as caller:
            async with disk.failing(sync=0.05, write=0.02):
                await caller.at_rate(waiting[:some], rate)
            now_and_then = shape(caller.answers)
            told = set(caller.told)
            async with disk.failing(sync=1, write=1):
                await caller.at_rate(waiting[some:], 20)
                assert (await caller.get("/readyz"))[0] == 503
            assert caller.told == told
            await caller.until_stored(waiting)
            assert (await caller.get("/readyz"))[0] == 200
    assert_honest(torture, caller, felt)
    assert now_and_then.get("answered_503"), "the disk failed"
    assert_kept(home.data / "receiver.db", caller, waiting)
    torture.figures(
        refused_now_and_then=now_and_then["answered_503"],
        worst_answer_s=caller.worst,
        worst_healthz_s=felt.worst,
        **shape(caller.answers),
    )
