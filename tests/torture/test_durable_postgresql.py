"""A PostgreSQL that is told to lose its last commits: what was answered 200 is there all the same.

`synchronous_commit` is off for the cluster and for the role, and what is not waited for stays in memory for ten
seconds; then the first of its processes is killed with -9.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from receiver.config.addresses import check_database_url
from tests.cli.rig import serving
from tests.measuring import HANG
from tests.system import postgres
from tests.torture.callbacks import DELIVERED, Caller, calling, home_with_tasks, shape
from tests.torture.harness import Torture
from tests.torture.test_postgresql import bought_amid_deaths

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.row("A15"),
    pytest.mark.skipif(postgres.binaries() is None, reason="SKIPPED, NOT TESTED: PostgreSQL is not installed"),
]

FORGETFUL = ("synchronous_commit=off", "wal_writer_delay=10s", "wal_writer_flush_after=1GB")
LONG = 10 * HANG


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def server() -> Iterator[postgres.Server]:
    with postgres.running(*FORGETFUL) as server:
        ask(server, "ALTER ROLE postgres SET synchronous_commit = off")
        assert ask(server, "SHOW synchronous_commit") == ["off"]
        yield server


def ask(server: postgres.Server, words: str) -> list[str]:
    engine = create_engine(check_database_url(server.url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        found = connection.execute(text(words))
        rows = [str(row[0]) for row in found] if found.returns_rows else []
    engine.dispose()
    return rows


async def test_a_killed_server_that_does_not_wait_for_its_disk_loses_nothing_that_was_told_as_stored(
    torture: Torture, tmp_path: Path, server: postgres.Server
) -> None:
    kills, each, rate = torture.size(2, 20), torture.size(120, 500), 200
    database = {"RECEIVER_DATABASE_URL": server.url}
    home, waiting = await asyncio.to_thread(home_with_tasks, tmp_path, kills * each, **database)
    lost: set[str] = set()
    with serving(home):
        async with calling(home) as caller:
            for number in range(kills):
                mine = waiting[number * each : (number + 1) * each]
                load = asyncio.create_task(caller.at_rate(mine, rate))
                await answered(caller, number * each + each // 2)
                await asyncio.to_thread(server.killed_and_back)
                lost |= caller.told - set(ask(server, DELIVERED))
                await load
                await caller.until_stored(mine, LONG)
    stored = set(ask(server, DELIVERED))
    torture.figures(kills=kills, acknowledged=len(caller.told), lost=len(lost | (caller.told - stored)))
    torture.figures(**shape(caller.answers))
    assert not lost
    assert stored == {callback.task_id for callback in waiting}


async def answered(caller: Caller, number: int) -> None:
    """Return when so many tasks' callbacks were answered 200."""
    async with asyncio.timeout(LONG):
        while len(caller.told) < number:  # noqa: ASYNC110 - answers come from another process
            await asyncio.sleep(0.005)


async def test_a_killed_server_that_does_not_wait_for_its_disk_lets_nothing_be_bought_twice(
    torture: Torture, tmp_path: Path, server: postgres.Server
) -> None:
    deaths = torture.size(1, 20)
    bought, states = await bought_amid_deaths(torture, tmp_path, server.url, server.killed_and_back, deaths)
    assert max(bought.values()) == 1
    torture.figures(kills_amid_purchases=deaths, purchases=bought.total(), **Counter(states))
