"""The feed under fire: whoever comes back misses no task's last state, and 200 readers cost next to nothing."""

import asyncio
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.bench.filling import Waiting
from tests.measuring import HANG, Duration, Stopwatch, quantile, slowness, until
from tests.system import postgres
from tests.system.processes import Process
from tests.torture import driver
from tests.torture import test_load as load
from tests.torture.crowd import crowd
from tests.torture.harness import Torture
from tests.torture.places import result_of
from tests.torture.readers import Reader, reading
from tests.torture.test_load import BODY, crowded

pytestmark = pytest.mark.anyio

TICKS = os.sysconf("SC_CLK_TCK")


@pytest.mark.row("B16")
async def test_readers_that_come_back_miss_no_last_state_of_any_task(tmp_path: Path, torture: Torture) -> None:
    await kill_amid_changes(tmp_path, torture, torture.size(2, 60))


@pytest.mark.row("B16")
@pytest.mark.skipif(postgres.binaries() is None, reason="SKIPPED, NOT TESTED: PostgreSQL is not installed")
async def test_the_same_holds_on_postgresql(tmp_path: Path, torture: Torture) -> None:
    with postgres.server() as database:
        await kill_amid_changes(tmp_path, torture, torture.size(1, 60), RECEIVER_DATABASE_URL=database)


async def kill_amid_changes(directory: Path, torture: Torture, kills: int, **settings: str) -> None:
    """Two services write and are killed with -9 in turn, while readers go from one to the other."""
    chance, times = torture.random, {"RECEIVER_CALLBACK_GRACE": "600"}
    async with crowd(directory, 2, 0, **times, **settings) as running, asyncio.timeout((kills + 2) * HANG):
        urls = [driving.url for driving in running.drivers]
        steady, late = Reader(urls, last=0), Reader(urls[::-1])
        tasks = await running.order(torture.size(8, 400))
        told = {mark: it for mark, it in tasks.items() if it[0] != "rivya"}
        rounds = torture.size(2, 4)
        working = [driver.working(*it, mark, f"{mark}-{n}") for mark, it in told.items() for n in range(rounds)]
        ends = [driver.done(*it, mark, mark, result_of(mark)) for mark, it in told.items()]
        async with reading(steady, late):
            changing = asyncio.gather(*(each.post(working + ends, chance, clients=2) for each in running.drivers))
            for number in range(kills):
                await asyncio.sleep(chance.uniform(0.05, 0.6) * slowness())
                await kill_and_start(running.services[number % 2])
            await changing
            asked = [running.drivers[0].ask("GET", f"/api/tasks/{task_id}") for _, task_id in told.values()]
            last = {task["id"]: task for task in [answer.json() for answer in await asyncio.gather(*asked)]}
            assert {task["state"] for task in last.values()} == {"succeeded"}
            await steady.until_seen(last)
            await late.until_seen(last)
        assert [serving.stop() for serving in running.services] == [0, 0]
    torture.figures(kills=kills, tasks=len(tasks), events=steady.events, connections=steady.connections)
    assert steady.connections + late.connections > 2, "else nobody came back"


async def kill_and_start(serving: Process) -> None:
    await asyncio.to_thread(serving.kill)
    await asyncio.to_thread(serving.start)


def processor_seconds(pid: int) -> float:
    """Read how long a process has used a processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@pytest.mark.row("G10")
async def test_many_readers_cost_little_and_hear_of_each_change_at_once(tmp_path: Path, torture: Torture) -> None:
    """Also of one that another process has stored."""
    readers, seconds, changes = torture.size(10, 200), torture.size(1, 60), torture.size(6, 200)
    with crowded(tmp_path, changes) as main, another(main, tmp_path) as beside:
        many = [Reader([main.url]) for _ in range(readers)]
        async with reading(*many):
            await until(lambda: all(reader.is_open for reader in many))
            before = processor_seconds(main.pid)
            await asyncio.sleep(seconds)  # the length that the row is about: nothing happens meanwhile
            idle = (processor_seconds(main.pid) - before) / seconds
            took = [await tell(many, main.url if n % 2 else beside, task) for n, task in enumerate(main.waiting)]
    slowest = quantile(took, 0.95)
    torture.figures(readers=readers, idle_share_of_a_core=idle, changes=changes, told_after_p95_s=slowest)
    assert all(reader.seen.keys() == {task.task_id for task in main.waiting} for reader in many)
    assert idle <= (0.05 if torture.full else 0.5)
    torture.within(slowest, 0.3)


@contextmanager
def another(main: load.Crowd, directory: Path) -> Iterator[str]:
    """Run a second service on the same database; gives its URL."""
    process = Process(["serve"], main.environ, directory / "beside.log", r"Serving on")
    process.start()
    try:
        yield re.findall(r"Serving on (\S+)", process.said())[0]
    finally:
        process.kill()


async def tell(readers: list[Reader], url: str, task: Waiting) -> Duration:
    """Send a callback, and measure until the last reader was told of what it changed."""
    body = BODY.replace("REMOTE_ID", task.remote_id).encode()
    watch = Stopwatch()
    async with httpx.AsyncClient(trust_env=False, timeout=HANG) as client:
        assert (await client.post(url + task.path, content=body)).status_code == 200
    async with asyncio.timeout(HANG):
        for reader in readers:
            while task.task_id not in reader.seen:
                reader.told.clear()
                await reader.told.wait()
    return watch.read()
