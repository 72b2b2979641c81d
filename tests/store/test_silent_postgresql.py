"""A PostgreSQL that neither answers nor resets: behind a proxy that stops passing anything on."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import Engine, create_engine, make_url, text

from receiver.config.addresses import check_database_url
from receiver.core.errors import StoreUnavailable
from receiver.store import Store, Transaction, heartbeats, schema
from receiver.store.writer import NOT_KNOWN, NOT_STORED
from tests.measuring import HANG
from tests.system import postgres
from tests.system.silence import Proxy, proxy

from .rig import beat, beats, timed

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(postgres.binaries() is None, reason="SKIPPED, NOT TESTED: no PostgreSQL binaries"),
]
"""Seconds after which what a test waits for will not come, however busy the machine is."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres.server() as url:
        yield check_database_url(url)


@pytest.fixture
def other(server: str) -> Iterator[Engine]:
    """Somebody else's connections to an empty, migrated database, past the proxy."""
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    schema.migrate(server)
    yield engine
    engine.dispose()


@pytest.fixture
def before(server: str) -> Iterator[Proxy]:
    with proxy(make_url(server).port or 5432) as made:
        yield made


@pytest.fixture
async def store(server: str, other: Engine, before: Proxy) -> AsyncIterator[Store]:
    store = Store(make_url(server).set(port=before.port).render_as_string(hide_password=False))
    await store.write(beat("before"))
    assert await store.read(beats("before")) == 1
    yield store
    before.speak()
    await store.close()


def names(other: Engine) -> set[str]:
    with other.connect() as connection:
        return set(connection.scalars(text("SELECT name FROM heartbeat")))


async def stored(other: Engine, name: str) -> None:
    """Return when a row is there."""
    async with asyncio.timeout(HANG):
        while name not in await asyncio.to_thread(names, other):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.02)


async def works_again(store: Store) -> None:
    async with asyncio.timeout(HANG):
        while (await timed(store.write(beat("after"))))[1] is not None:
            pass
        while (await timed(store.read(beats("after"))))[1] != 1:
            pass


@pytest.mark.row("A14")
async def test_everybody_is_refused_while_a_database_is_silent_and_all_is_well_when_it_speaks(
    store: Store, other: Engine, before: Proxy
) -> None:
    before.fall_silent()
    async with asyncio.timeout(HANG):
        writes = [timed(store.write(beat(f"{number}"))) for number in range(600)]
        reads = [timed(store.read(beats("before"))) for _ in range(50)]
        waits = [timed(store.until(beats("before"), lambda _: False, 10 * HANG)) for _ in range(20)]
        answers = await asyncio.gather(*writes, *reads, *waits)
        answers += await asyncio.gather(timed(store.write(beat("late"))), timed(store.read(beats("before"))))
    assert {type(error) for _, error in answers} == {StoreUnavailable}
    before.speak()
    await works_again(store)
    assert names(other) == {"before", "after"}, "what was refused is not stored, neither then nor later"


@pytest.mark.row("A14")
async def test_a_commit_that_is_not_answered_is_told_as_not_known_and_run_once(
    store: Store, other: Engine, before: Proxy
) -> None:
    runs = 0

    def unit(tx: Transaction) -> None:
        nonlocal runs
        runs += 1
        heartbeats.record_heartbeat(tx, "unclear", 1)
        before.fall_silent()  # so that the COMMIT is held back

    async with asyncio.timeout(HANG):
        _, error = await timed(store.write(unit))
    assert isinstance(error, StoreUnavailable)
    assert "not known" in str(error)
    before.speak()
    await stored(other, "unclear")
    await works_again(store)
    assert runs == 1


@pytest.mark.row("A14")
async def test_what_was_refused_before_its_commit_is_not_stored_when_the_database_speaks_again(
    store: Store, other: Engine, before: Proxy
) -> None:
    def unit(tx: Transaction) -> None:
        heartbeats.record_heartbeat(tx, "refused", 1)
        before.fall_silent()
        heartbeats.record_heartbeat(tx, "held back", 1)

    async with asyncio.timeout(HANG):
        _, error = await timed(store.write(unit))
    assert str(error) == NOT_STORED
    before.speak()
    await works_again(store)
    assert names(other) == {"before", "after"}


@pytest.mark.row("A14")
async def test_a_close_does_not_wait_for_a_silent_database(store: Store, before: Proxy) -> None:
    before.fall_silent()
    async with asyncio.timeout(HANG):
        writing = asyncio.create_task(timed(store.write(beat("late"))))
        reading = asyncio.create_task(timed(store.read(beats("before"))))
        await asyncio.sleep(0)
        await store.close()
        _, written = await writing
        _, read = await reading
    assert str(written) in (NOT_STORED, NOT_KNOWN)
    assert isinstance(read, StoreUnavailable)
