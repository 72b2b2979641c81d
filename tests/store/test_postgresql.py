"""The same store on PostgreSQL, where its binaries are installed.

What differs there: when commits become visible, how statements fail, which texts are refused.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from alembic import command
from pydantic import SecretStr
from sqlalchemy import Engine, create_engine, text
from sqlmodel import Session

from receiver.config.addresses import check_database_url
from receiver.core.errors import ConfigError, StoreUnavailable
from receiver.core.states import State
from receiver.lifecycle.spending_limits import reason_to_wait
from receiver.providers.revid import RevidConfig
from receiver.store import Store, Transaction, heartbeats, journal, reading, schema, spending, tasks
from receiver.store.engine import reader_engine
from receiver.store.measured import LOCK
from receiver.store.reading import Filter
from receiver.store.schema import HEAD
from receiver.store.writer import PATIENCE
from tests.measuring import HANG, longest, until
from tests.system import postgres
from tests.torture.harness import Torture

from . import feeding
from .cost import assert_sums_are_exact
from .ended import assert_ends_and_forgets
from .labels import NUMBERS, assert_found_by_its_text
from .measuring import assert_bounded_whatever_models_are_called, assert_kept_as_counted, ended, expected, known
from .releases import steps_at
from .rig import NOW, add_tasks, beat, beats, count_up, task_row, timed
from .waiting import assert_each_waiter_is_woken_for_its_own_task, assert_hostile_ids_are_waited_for_like_others

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(postgres.binaries() is None, reason="SKIPPED, NOT TESTED: no PostgreSQL binaries"),
]

FORGET = text("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")
"""Drops what was prepared, so that the driver does not notice."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres.server() as url:
        yield check_database_url(url)


@pytest.fixture
def other(server: str) -> Iterator[Engine]:
    """Somebody else's connections to an empty, migrated database."""
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    schema.migrate(server)
    yield engine
    engine.dispose()


@pytest.fixture
async def store(server: str, other: Engine) -> AsyncIterator[Store]:
    store = Store(server)
    yield store
    await store.close()


def names(other: Engine) -> list[str]:
    with other.connect() as connection:
        return sorted(connection.scalars(text("SELECT name FROM heartbeat")))


def test_it_is_migrated_once_also_by_several_at_once(server: str, other: Engine) -> None:
    with other.connect() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(schema.migrate(server))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results, key=str) == [(HEAD, HEAD)] * 3 + [(None, HEAD)]
    schema.require_current(server)


def test_a_schema_from_the_future_is_refused(server: str, other: Engine) -> None:
    with other.connect() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for call in (schema.migrate, schema.require_current):
        with pytest.raises(ConfigError, match="9999 of a later release"):
            call(server)


async def test_a_failing_unit_neither_harms_nor_loses_its_neighbours(store: Store, other: Engine) -> None:
    def failing(tx: Transaction) -> None:
        heartbeats.record_heartbeat(tx, "bad", 1)
        raise LookupError

    def orphan(tx: Transaction) -> None:
        journal.note(tx, "tsk_nobody", NOW, "note")

    units = [beat("a"), failing, beat("b"), orphan, beat("c")]
    results = await asyncio.gather(*map(store.write, units), return_exceptions=True)
    assert [type(result) for result in results] == [
        type(None), LookupError, type(None), StoreUnavailable, type(None)
    ]  # fmt: skip
    assert names(other) == ["a", "b", "c"]


async def test_a_statement_that_failed_dooms_its_unit_there_too(store: Store, other: Engine) -> None:
    def swallowing(tx: Transaction) -> None:
        with contextlib.suppress(Exception):  # what no unit should do
            journal.note(tx, "tsk_nobody", NOW, "note")

    results = await asyncio.gather(store.write(beat("a")), store.write(swallowing), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), StoreUnavailable]
    assert names(other) == ["a"]


async def test_a_unit_that_loses_a_race_for_a_key_when_it_runs_alone_sees_who_won(store: Store, other: Engine) -> None:
    """Two services get one order under one key: the later one is told of the task that the other has made."""
    runs = 0

    def order(tx: Transaction) -> str:
        nonlocal runs
        runs += 1
        found = tasks.by_key(tx, "key")
        if found is not None:
            return str(found["id"])
        if runs == 2:  # the first one was in a batch with a unit that failed
            with other.connect() as elsewhere:
                elsewhere.execute(tasks.TASK.insert(), task_row("tsk_theirs", idempotency_key="key"))
        tasks.insert_task(tx, task_row("tsk_ours", idempotency_key="key"))
        return "tsk_ours"

    def failing(_tx: Transaction) -> None:
        raise LookupError

    results = await asyncio.gather(store.write(order), store.write(failing), return_exceptions=True)
    assert results[0] == "tsk_theirs"
    assert isinstance(results[1], LookupError)
    assert runs == 3


async def test_a_unit_that_breaks_a_rule_each_time_is_told_so_in_the_end(store: Store, other: Engine) -> None:
    runs = 0

    def twice(tx: Transaction) -> None:
        nonlocal runs
        runs += 1
        add_tasks(task_row("tsk_1"), task_row("tsk_1"))(tx)

    with pytest.raises(StoreUnavailable, match="task_pkey"):
        await store.write(twice)
    assert runs < 10
    assert names(other) == []


async def test_statements_that_a_pooler_has_forgotten_cost_no_writer_anything(store: Store, other: Engine) -> None:
    """A pooler hands each transaction to any of its connections, and what was prepared is on another one."""

    def on_another_connection(tx: Transaction) -> int:
        tx.run(FORGET)
        return count_up("sum")(tx)

    def failing(_tx: Transaction) -> None:
        raise LookupError  # so that each of the others runs alone

    units = [*([count_up("sum")] * 10), on_another_connection, count_up("sum"), on_another_connection]
    results = await asyncio.gather(store.write(failing), *map(store.write, units), return_exceptions=True)
    assert results[1:] == list(range(1, 14))


def test_statements_that_a_pooler_has_forgotten_cost_no_reader_anything(server: str, other: Engine) -> None:
    engine = reader_engine(server)
    with engine.connect() as connection:
        for _ in range(12):  # from the fifth on the driver would prepare
            with connection.begin():
                connection.execute(text("SELECT name FROM heartbeat WHERE at = :at"), {"at": 1})
        with connection.begin():
            connection.execute(FORGET)
            assert connection.execute(text("SELECT name FROM heartbeat WHERE at = :at"), {"at": 1}).all() == []
    engine.dispose()


async def test_nothing_is_set_for_a_whole_session(store: Store, server: str) -> None:
    """It would stay on a connection that a pooler hands to somebody else."""
    role = create_engine(server, isolation_level="AUTOCOMMIT")
    watched = ("synchronous_commit", "lock_timeout", "statement_timeout", "default_transaction_isolation",
               "default_transaction_read_only", "idle_in_transaction_session_timeout")  # fmt: skip

    def look_around(tx: Transaction) -> list[Any]:
        within = [tx.one(text(f"SHOW {name}")) for name in watched]
        tx.run(text("COMMIT"))
        after = [tx.one(text(f"SHOW {name}")) for name in watched]
        return [[next(iter(row.values())) for row in rows if row] for rows in (within, after)]

    within, after = await store.write(look_around)
    with role.connect() as connection:
        assert after == [connection.scalar(text(f"SHOW {name}")) for name in watched]
    role.dispose()
    assert within[0] == "on"
    assert all(within[index] != after[index] for index in (1, 2, 5))


@pytest.mark.row("A15")
async def test_every_commit_is_durable_whatever_role_and_cluster_say(store: Store, other: Engine, server: str) -> None:
    def synchronous(tx: Transaction) -> str | None:
        row = tx.one(text("SHOW synchronous_commit"))
        return str(row["synchronous_commit"]) if row else None

    with other.connect() as connection:
        connection.execute(text("ALTER ROLE postgres SET synchronous_commit = off"))
        connection.execute(text("ALTER SYSTEM SET synchronous_commit = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    later = Store(server)
    try:
        assert await store.write(synchronous) == await later.write(synchronous) == "on"
    finally:
        await later.close()
        with other.connect() as connection:
            connection.execute(text("ALTER ROLE postgres RESET synchronous_commit"))
            connection.execute(text("ALTER SYSTEM RESET synchronous_commit"))
            connection.execute(text("SELECT pg_reload_conf()"))


async def test_a_commit_out_of_the_order_of_its_ids_wakes_whoever_waits(store: Store, other: Engine) -> None:
    """The highest id is no measure: a lower one may become visible after it."""
    await store.write(add_tasks(task_row("tsk_1")))
    insert = text("INSERT INTO history (task_id, at, kind, data) VALUES ('tsk_1', 0, :kind, '{}')")
    early = other.execution_options(isolation_level="READ COMMITTED").connect()
    early.execute(insert, {"kind": "early"})
    with other.connect() as late:
        late.execute(insert, {"kind": "late"})
    looked = asyncio.Event()

    def kinds(session: Session) -> list[str]:
        return [row.kind for row, _ in reading.history(session, "tsk_1")]

    def done(found: list[str]) -> bool:
        looked.set()
        return "early" in found

    waiting = asyncio.create_task(store.until(kinds, done, 10 * HANG))
    await looked.wait()
    early.commit()
    early.close()
    assert await asyncio.wait_for(waiting, HANG) == ["early", "late"]


async def test_readers_cannot_write(store: Store) -> None:
    with pytest.raises(StoreUnavailable, match="read-only"):
        await store.read(lambda session: session.execute(text("DELETE FROM heartbeat")))


async def test_a_lost_connection_is_replaced(store: Store, other: Engine) -> None:
    await store.write(beat("a"))
    assert await store.read(beats("a")) == 1
    with other.connect() as connection:
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query <> ''")
        )
    assert await asyncio.gather(*(store.write(count_up("sum")) for _ in range(10))) == list(range(1, 11))
    await until_read(store, 10)


async def until_read(store: Store, number: int) -> None:
    """A reader may still meet its own lost connection once."""
    async with asyncio.timeout(HANG):
        while True:
            _, found = await timed(store.read(beats("sum")))
            if found == number:
                return


@pytest.mark.row("G7")
async def test_a_server_that_is_away_refuses_everybody_in_time(torture: Torture, server: str, other: Engine) -> None:
    away = Store(server.replace("postgres@", "nobody-knows-me@"))
    answers = await asyncio.gather(*(timed(away.write(beat(f"{n}"))) for n in range(400)))
    assert {type(error) for _, error in answers} == {StoreUnavailable}
    torture.within(longest(took for took, _ in answers), PATIENCE + 0.8)
    assert "postgres@" not in str(answers[0][1])
    await away.close()


async def test_labels_are_matched_by_their_values_text(store: Store) -> None:
    metadata = {"a.b": "x", 'say "hi"': "x", "number": 7, "yes": True, "nothing": None, "näme 🎬": "wért"}
    await store.write(add_tasks(task_row("tsk_1", metadata=metadata), task_row("tsk_2", metadata={"a": {"b": "x"}})))

    async def found(key: str, value: str) -> list[str]:
        wanted = Filter(metadata={key: value})
        return [task.id for task in await store.read(lambda session: reading.listing(session, wanted))]

    for key, value in (("a.b", "x"), ('say "hi"', "x"), ("number", "7"), ("yes", "true"), ("näme 🎬", "wért")):
        assert await found(key, value) == ["tsk_1"], key
    assert await found("nothing", "") == []
    assert await found("\0", "\udcff") == []


@pytest.mark.parametrize("strange", ["\0", "\udcff"])
async def test_no_text_of_a_caller_troubles_a_query(store: Store, strange: str) -> None:
    assert await store.read(lambda session: reading.task(session, strange)) is None
    for wanted in (Filter(q=strange), Filter(provider=strange), Filter(model=strange)):
        assert await store.read(lambda session, wanted=wanted: reading.listing(session, wanted)) == []  # type: ignore[misc]


async def test_pollers_of_several_processes_never_take_the_same_task(store: Store, server: str) -> None:
    await store.write(add_tasks(*(task_row(f"tsk_{n:03}", next_check_at=NOW - n) for n in range(60))))
    others = [Store(server) for _ in range(2)]

    async def take(from_store: Store) -> list[str]:
        claims = await from_store.write(lambda tx: tasks.claim_due(tx, "revid", NOW, NOW + 45_000, 2))
        return [claim.task_id for claim in claims]

    taken = await asyncio.gather(*(take(one) for one in [store, *others] * 15))
    for other in others:
        await other.close()
    assert sorted(task_id for ids in taken for task_id in ids) == [f"tsk_{n:03}" for n in range(60)]


async def test_plans_of_a_clock_that_was_set_back_keep_their_pause_from_now_on(store: Store) -> None:
    hour = 3_600_000
    await store.write(add_tasks(task_row("tsk_1", next_check_at=NOW + hour + 7000, updated_at=NOW + hour)))
    assert await store.read(lambda session: reading.has_checks_from_the_future(session, NOW))
    assert await store.write(lambda tx: tasks.reschedule_after_clock_change(tx, NOW)) == 1
    task = await store.read(lambda session: reading.task(session, "tsk_1"))
    assert task is not None
    assert (task.next_check_at, task.updated_at) == (NOW + 7000, NOW)
    assert await store.write(lambda tx: spending.sum_spent_on(tx, "revid", NOW - NOW % spending.DAY)) == 0
    assert await store.write(lambda tx: spending.departure_before(tx, "revid", NOW - 1, NOW, 1)) is None


async def test_an_ended_session_is_remembered_until_it_would_be_over_anyway(store: Store) -> None:
    await assert_ends_and_forgets(store)


@pytest.mark.parametrize("number", NUMBERS, ids=repr)
async def test_a_number_is_found_by_its_text_as_on_sqlite(store: Store, number: float) -> None:
    await assert_found_by_its_text(store, number)


async def test_two_processes_never_find_room_for_both_in_one_place(store: Store, server: str, other: Engine) -> None:
    """The second one waits for the first one's commit before it counts."""
    config, beside = RevidConfig(api_key=SecretStr("k"), max_running=1), Store(server)
    checked = [threading.Event(), threading.Event()]
    waits = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")

    def blocked() -> bool:
        with other.connect() as connection:
            return bool(connection.scalar(waits))

    def begin(tx: Transaction, number: int) -> bool:
        task = tasks.current(tx, f"tsk_{number}")
        assert task is not None
        has_room = reason_to_wait(tx, task, config, None, NOW) is None
        checked[number].set()
        if has_room:
            while not (checked[1 - number].wait(0.01) or blocked()):
                pass
            tasks.change(tx, task.id, State.QUEUED, {"state": State.SUBMITTED, "submitted_at": NOW})
        return has_room

    for number in range(2):
        await beside.write(lambda tx, n=number: tasks.insert_task(tx, task_row(f"tsk_{n}", state="queued")))  # type: ignore[misc]

    found = await asyncio.gather(*(one.write(lambda tx, n=n: begin(tx, n)) for n, one in enumerate((store, beside))))  # type: ignore[misc]
    await beside.close()
    assert sorted(found) == [False, True]


async def test_sums_of_credits_are_exact_there_too(store: Store) -> None:
    await assert_sums_are_exact(store)


def test_amounts_of_an_earlier_release_become_exact(server: str, other: Engine) -> None:
    with other.connect() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    with steps_at(server) as config:
        command.upgrade(config, "0007")
    row = task_row("tsk_1", estimated=0.1, reserved=999_999_999.123456)
    names = ", ".join(row)
    places = ", ".join(f":{name}" for name in row)
    with other.connect() as connection:
        connection.execute(text(f"INSERT INTO task ({names}) VALUES ({places})"), row)  # noqa: S608 - our own names
    assert schema.migrate(server) == ("0007", HEAD)
    with other.connect() as connection:
        found = connection.execute(text("SELECT estimated, reserved, charged FROM task")).one()
    assert tuple(found) == (100_000, 999_999_999_123_456, None)


async def test_who_waits_for_a_task_is_woken_by_its_changes_only(store: Store) -> None:
    await assert_each_waiter_is_woken_for_its_own_task(store)


async def test_hostile_ids_are_waited_for_like_others(store: Store) -> None:
    await assert_hostile_ids_are_waited_for_like_others(store)


@pytest.mark.row("B16")
@pytest.mark.parametrize("holds", feeding.ALL, ids=lambda each: each.__name__.removeprefix("assert_"))
async def test_the_feed_holds(store: Store, holds: Callable[[Store], Awaitable[None]]) -> None:
    await holds(store)


_COMMITS_SLOWLY = """
CREATE FUNCTION wait_for_the_test() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS
$$ BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER commits_slowly AFTER INSERT ON task DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (NEW.id = 'tsk_slow') EXECUTE FUNCTION wait_for_the_test()
"""
_WAITING = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")


@pytest.mark.row("B16")
async def test_numbers_are_given_in_the_order_of_commits_by_several_processes(
    server: str, other: Engine, store: Store
) -> None:
    """Else whoever read the higher number first would never be given the lower one."""
    second = Store(server)
    with other.connect() as connection, other.connect() as looking:
        connection.execute(text(_COMMITS_SLOWLY))
        connection.execute(text("SELECT pg_advisory_lock(42)"))
        slow = asyncio.create_task(store.write(add_tasks(task_row("tsk_slow"))))
        await until(lambda: looking.scalar(_WAITING) == 1, HANG)
        quick = asyncio.create_task(second.write(add_tasks(task_row("tsk_quick"))))
        await until(lambda: quick.done() or looking.scalar(_WAITING) == 2, HANG)
        seen = await feeding.ids_after(second, 0)
        connection.execute(text("SELECT pg_advisory_unlock(42)"))
    await asyncio.gather(slow, quick)
    assert seen == [], "it was numbered after one that nobody could see yet"
    assert await feeding.ids_after(second, 0) == ["tsk_slow", "tsk_quick"]
    await second.close()


async def test_what_is_measured_is_kept_there_too(store: Store) -> None:
    await assert_kept_as_counted(store)


async def test_any_number_of_models_takes_bounded_room_there_too(store: Store) -> None:
    await assert_bounded_whatever_models_are_called(store)


async def test_nobody_waits_for_another_process_that_is_writing_what_it_measured(store: Store, server: str) -> None:
    """It may be suspended in the middle of it, and what it measured is no reason to store no callback."""
    engine = create_engine(server)
    with engine.connect() as suspended:
        suspended.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        await store.write(ended())
        suspended.rollback()
    engine.dispose()
    await store.write(ended())
    assert await known(store) == expected(40), "the first of them was dropped"
