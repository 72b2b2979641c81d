"""The change feed: whoever waits is woken by every commit of anybody, and never misses one."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session

from receiver.core.errors import StoreUnavailable
from receiver.store import Store, heartbeats
from tests.measuring import HANG, until

from .rig import beat, beats, move, outside, python, remove, url_of
from .waiting import assert_each_waiter_is_woken_for_its_own_task, assert_hostile_ids_are_waited_for_like_others

pytestmark = pytest.mark.anyio

LONG = 10 * HANG
"""Seconds that a waiter is ready to wait: whoever comes back at all was woken."""


def at_least(number: int) -> Callable[[int | None], bool]:
    return lambda found: found is not None and found >= number


async def waiting(store: Store, number: int, seconds: float = LONG) -> "asyncio.Task[int | None]":
    """Begin to wait for a value, and return when it has been looked for once."""
    looked = asyncio.Event()

    def done(found: int | None) -> bool:
        looked.set()
        return at_least(number)(found)

    task = asyncio.create_task(store.until(beats("a"), done, seconds))
    await looked.wait()
    return task


async def test_a_commit_of_this_store_wakes_whoever_waits(store: Store) -> None:
    task = await waiting(store, 3)
    for number in (1, 2, 3):
        assert not task.done()
        await store.write(beat("a", number))
    assert await asyncio.wait_for(task, HANG) == 3


WRITE = """
import asyncio, sys
from receiver.store import Store, heartbeats

async def main():
    store = Store(sys.argv[1])
    await store.write(lambda tx: heartbeats.record_heartbeat(tx, "a", 5))
    await store.close()

asyncio.run(main())
"""


async def test_a_commit_of_another_process_wakes_whoever_waits(store: Store, file: Path) -> None:
    task = await waiting(store, 5)
    process = python(WRITE, url_of(file))
    _, errors = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, errors
    assert await asyncio.wait_for(task, HANG) == 5


async def test_what_is_so_already_is_returned_at_once(store: Store) -> None:
    await store.write(beat("a", 3))
    assert await asyncio.wait_for(store.until(beats("a"), at_least(3), LONG), HANG) == 3


async def test_a_commit_between_the_query_and_the_wait_is_not_missed(store: Store, file: Path) -> None:
    await store.write(beat("a", 0))
    with outside(file) as other:
        for number in range(1, 31):

            def query_then_commit(session: Session, number: int = number) -> int | None:
                found = heartbeats.read_last(session, "a")
                other.execute("UPDATE heartbeat SET at = ?", (number,))
                return found

            woken = store.until(query_then_commit, at_least(number), LONG)
            assert await asyncio.wait_for(woken, HANG) == number


async def test_many_waiters_are_all_woken_and_those_who_left_are_not_missed(store: Store) -> None:
    tasks = [await waiting(store, number % 5 + 1) for number in range(60)]
    for task in tasks[::3]:
        task.cancel()
    for number in range(1, 6):
        await store.write(beat("a", number))
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), HANG)
    for number, result in enumerate(results):
        assert isinstance(result, asyncio.CancelledError) if number % 3 == 0 else result >= number % 5 + 1  # type: ignore[operator]


async def test_waiting_ends_with_its_time_and_the_last_result(store: Store) -> None:
    await store.write(beat("a", 1))
    task = await waiting(store, 9, 0.3)
    await store.write(beat("a", 2))
    assert await asyncio.wait_for(task, HANG) == 2
    assert await asyncio.wait_for(store.until(beats("a"), at_least(9), 0), HANG) == 2


async def test_nobody_looks_while_nobody_waits(store: Store) -> None:
    before = asyncio.all_tasks()
    task = await waiting(store, 1)
    await store.write(beat("a", 1))
    await task
    await until(lambda: asyncio.all_tasks() <= before)


async def test_a_wait_begun_while_the_last_one_ends_is_woken_too(store: Store) -> None:
    """The watcher goes to rest with the last waiter; a new one must not rely on it."""
    for number in range(1, 15):
        first = await waiting(store, number)
        await store.write(beat("a", number))
        await first
        await asyncio.sleep(0.004 * number)  # over the whole time between two looks
        second = await waiting(store, number + 1)
        await store.write(beat("a", number + 1))
        assert await asyncio.wait_for(second, HANG) == number + 1


async def test_waiting_for_a_database_that_is_gone_is_told_and_does_not_hang(store: Store, file: Path) -> None:
    task = await waiting(store, 1)
    away = move(file, file.with_name("elsewhere.db"))
    with pytest.raises(StoreUnavailable, match="is gone"):
        await asyncio.wait_for(task, HANG)
    with pytest.raises(StoreUnavailable, match="is gone"):
        await asyncio.wait_for(store.until(beats("a"), at_least(1), LONG), HANG)
    move(away, file)
    task = await waiting(store, 2)
    await store.write(beat("a", 2))
    assert await asyncio.wait_for(task, HANG) == 2


async def test_a_database_put_in_the_place_of_another_is_the_one_watched(
    store: Store, file: Path, migrated: Any
) -> None:
    task = await waiting(store, 4)
    fresh = file.with_name("fresh.db")
    make(fresh, migrated)
    remove(file)
    move(fresh, file)
    await store.write(beat("a", 4))
    assert await asyncio.wait_for(task, HANG) == 4


def make(file: Path, content: bytes) -> None:
    file.write_bytes(content)


async def test_whoever_waits_while_the_store_closes_is_woken(store: Store) -> None:
    task = await waiting(store, 1)
    await asyncio.wait_for(store.close(), HANG)
    with pytest.raises(StoreUnavailable, match="closed"):
        await asyncio.wait_for(task, HANG)


async def test_closing_in_the_middle_of_looks_breaks_nothing(file: Path) -> None:
    for number in range(20):
        store = Store(url_of(file))
        task = await waiting(store, 1_000)
        await asyncio.sleep(0.004 * number)
        await store.close()
        with pytest.raises(StoreUnavailable):
            await task


async def test_who_waits_for_a_task_is_woken_by_its_changes_only(store: Store) -> None:
    await assert_each_waiter_is_woken_for_its_own_task(store)


async def test_hostile_ids_are_waited_for_like_others(store: Store) -> None:
    await assert_hostile_ids_are_waited_for_like_others(store)
