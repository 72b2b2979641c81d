"""PostgreSQL in trouble under a live service: locked for long, and dying again and again."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from receiver.config.addresses import check_database_url
from tests.cli.rig import serving
from tests.system import postgres
from tests.system.test_every_trouble_at_once import (
    callback_was_taken,
    may_end_so,
    orders,
    purchases_of,
    run_all,
    running,
)
from tests.torture.callbacks import Callback, Caller, assert_honest, calling, home_with_tasks, pulse, shape
from tests.torture.harness import Torture

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.row("G7"),
    pytest.mark.skipif(postgres.binaries() is None, reason="SKIPPED, NOT TESTED: PostgreSQL is not installed"),
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as server:
        yield server


@pytest.fixture
def other(server: postgres.Server) -> Iterator[Engine]:
    """Somebody else's connections to an empty database."""
    engine = create_engine(check_database_url(server.url))
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    yield engine
    engine.dispose()


async def test_a_locked_table_is_told_in_time_and_loses_nothing(
    torture: Torture, tmp_path: Path, server: postgres.Server, other: Engine
) -> None:
    seconds, number = torture.size(4, 60), 200
    database = {"RECEIVER_DATABASE_URL": server.url}
    home, waiting = await asyncio.to_thread(home_with_tasks, tmp_path, number, **database)
    with serving(home), pulse(home) as felt:
        async with calling(home, number) as caller:
            with other.connect() as connection:
                connection.execute(text("LOCK TABLE task IN ACCESS EXCLUSIVE MODE"))
                read, _ = await asyncio.gather(asked(caller, home.token()), caller.at_rate(waiting, number / seconds))
                assert not caller.told, "the lock was held all the time"
            refused = shape(caller.answers)
            await caller.until_stored(waiting)
    assert_honest(torture, caller, felt)
    assert read == 503
    assert_kept(other, caller, waiting)
    torture.figures(lock_s=seconds, worst_answer_s=caller.worst, worst_healthz_s=felt.worst, **refused)


async def test_a_server_that_dies_again_and_again_loses_nothing_that_was_told_as_stored(
    torture: Torture, tmp_path: Path, server: postgres.Server, other: Engine
) -> None:
    deaths, each, rate = torture.size(2, 40), torture.size(150, 1_000), torture.size(100, 200)
    database = {"RECEIVER_DATABASE_URL": server.url}
    home, waiting = await asyncio.to_thread(home_with_tasks, tmp_path, deaths * each, **database)
    with serving(home), pulse(home) as felt:
        async with calling(home) as caller:
            for number in range(deaths):
                mine = waiting[number * each : (number + 1) * each]
                load = asyncio.create_task(caller.at_rate(mine, rate))
                await asyncio.sleep(torture.random.uniform(0.2, 1.0))  # part of the trouble, not a condition
                await asyncio.to_thread(server.die_and_return)
                await load
                await caller.until_stored(mine)
    assert_honest(torture, caller, felt)
    assert_kept(other, caller, waiting)
    torture.figures(deaths=deaths, worst_answer_s=caller.worst, worst_healthz_s=felt.worst, **shape(caller.answers))


async def test_a_server_that_dies_amid_purchases_lets_nothing_be_bought_twice(
    torture: Torture, tmp_path: Path, server: postgres.Server, other: Engine
) -> None:
    deaths = torture.size(1, 20)
    bought, states = await bought_amid_deaths(torture, tmp_path, server.url, server.die_and_return, deaths)
    assert max(bought.values()) == 1
    torture.figures(deaths_amid_purchases=deaths, purchases=bought.total(), **states)


async def bought_amid_deaths(
    torture: Torture, directory: Path, url: str, die: Callable[[], None], deaths: int
) -> tuple[Counter[str], Counter[str]]:
    """Order while a server dies; gives how often each order was bought, and the states that they ended in.

    Each task settles, as it must or, where its submission was cut off, unclear at its deadline; none is resent.
    """
    wanted = [order for order in orders() if order.state == "succeeded"]
    wanted = wanted[: torture.size(24, len(wanted))]
    # A lease outlives the timeout by six seconds, and a task whose try could not be stored waits for its end.
    times = {"RECEIVER_TIMEOUT": "1", "RECEIVER_DEADLINE": str(torture.size(15, 60))}
    with running(directory, RECEIVER_DATABASE_URL=url, **times) as (_, _, service_url, provider_url):
        settling = asyncio.create_task(run_all(service_url, wanted, []))
        for _ in range(deaths):
            await asyncio.sleep(torture.random.uniform(0.5, 2.0))  # part of the trouble, not a condition
            await asyncio.to_thread(die)
        tasks = await settling
        ledger = await purchases_of(provider_url)
    bought = Counter(str(purchase["prompt"]) for purchase in ledger)
    told = {purchase["prompt"] for purchase in ledger if callback_was_taken(purchase)}
    wrong = [
        f"{order.provider} {order.prompt}: {task['state']} ({task['error']}), bought {bought[order.prompt]}"
        for order, task in zip(wanted, tasks, strict=True)
        if not may_end_so(order, task, bought[order.prompt], told=order.prompt in told)
    ]
    assert not wrong, "\n".join(wrong)
    return bought, Counter(str(task["state"]) for task in tasks)


async def asked(caller: Caller, token: str) -> int | None:
    """Ask for the list of tasks."""
    request = f"GET /api/tasks HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"
    return (await caller.ask(request.encode()))[0]


def assert_kept(other: Engine, caller: Caller, callbacks: list[Callback]) -> None:
    """Every callback that was answered 200 is in the database and counted, and so are these."""
    other.dispose()  # what it knew of the server that died
    with other.connect() as connection:
        stored = set(connection.scalars(text("SELECT DISTINCT task_id FROM delivery")))
        counted = set(connection.scalars(text("SELECT id FROM task WHERE state = 'succeeded' AND deliveries > 0")))
    wanted = caller.told | {callback.task_id for callback in callbacks}
    assert wanted <= stored
    assert wanted <= counted
