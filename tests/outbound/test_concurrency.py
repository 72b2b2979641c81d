"""A limit on what is done at once: in order, and whatever becomes of those who wait or hold a place."""

import asyncio
import contextlib
import gc
import time

import pytest

from receiver.outbound.concurrency import ConcurrencyLimit, NoSlotError

pytestmark = pytest.mark.anyio

LONG = 60.0


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def limited(places: int) -> tuple[ConcurrencyLimit, list[None]]:
    """A limit, and one entry for each place that it had to replace."""
    replaced: list[None] = []
    return ConcurrencyLimit(places, lambda: replaced.append(None)), replaced


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def hold(limit: ConcurrencyLimit, log: list[int], number: int, release: asyncio.Event | None = None) -> None:
    async with limit.slot(LONG, LONG):
        log.append(number)
        if release is not None:
            await release.wait()


async def test_never_more_are_admitted_than_there_are_places_and_in_the_order_they_came() -> None:
    limit, _ = limited(3)
    admitted: list[int] = []
    under_way = most = 0

    async def work(number: int) -> None:
        nonlocal under_way, most
        async with limit.slot(LONG, LONG):
            admitted.append(number)
            under_way += 1
            most = max(most, under_way)
            await turns(number % 4)
            under_way -= 1

    await asyncio.gather(*(work(number) for number in range(100)))
    assert (admitted, most, limit.free, limit.waiting) == (list(range(100)), 3, 3, 0)


async def test_whoever_comes_while_others_wait_waits_behind_them() -> None:
    limit, _ = limited(1)
    admitted: list[int] = []
    release = asyncio.Event()
    first = asyncio.create_task(hold(limit, admitted, 0, release))
    await turns()
    second = asyncio.create_task(hold(limit, admitted, 1))
    await turns()
    release.set()
    await first  # its place is the second one's, who has not had a turn yet
    await hold(limit, admitted, 2)
    await second
    assert admitted == [0, 1, 2]


async def test_a_wait_that_is_cancelled_at_any_moment_leaves_nothing_behind() -> None:
    for moment in range(12):
        limit, _ = limited(2)
        release, log = asyncio.Event(), list[int]()
        holders = [asyncio.create_task(hold(limit, log, number, release)) for number in range(2)]
        await turns()
        waiting = [asyncio.create_task(hold(limit, log, number, release)) for number in range(10)]
        await turns()
        release.set()
        await turns(moment)  # at some of these moments places are just being handed over
        for task in waiting:
            task.cancel()
        await asyncio.gather(*holders, *waiting, return_exceptions=True)
        assert (limit.free, limit.waiting) == (2, 0)


async def test_who_waits_too_long_is_told_and_leaves_nothing_behind() -> None:
    limit, _ = limited(1)
    async with limit.slot(LONG, LONG):
        for _ in range(3):
            with pytest.raises(NoSlotError):
                async with limit.slot(0.01, LONG):
                    pytest.fail("there was no place")
        assert limit.waiting == 0
    assert limit.free == 1


async def test_a_failure_with_a_place_gives_it_back() -> None:
    limit, _ = limited(1)
    for _ in range(3):
        with pytest.raises(LookupError):
            async with limit.slot(LONG, LONG):
                raise LookupError
    assert limit.free == 1


async def test_a_place_that_is_not_given_back_is_replaced_and_told_of() -> None:
    limit, replaced = limited(1)
    never = asyncio.Event()

    async def lose() -> None:
        async with limit.slot(LONG, 0.02):
            await never.wait()

    lost = asyncio.create_task(lose())
    await turns()
    async with limit.slot(LONG, LONG):
        assert len(replaced) == 1
        never.set()
        await lost  # what comes back late was replaced, and is no further place
        assert limit.free == 0
    assert (limit.free, len(replaced)) == (1, 1)


async def test_ten_times_as_many_who_wait_cost_about_ten_times_as_much() -> None:
    async def seconds(number: int) -> float:
        limit, _ = limited(20)
        release = asyncio.Event()
        log: list[int] = []
        gc.collect()
        gc.disable()  # it looks at all that waits, again and again
        began = time.thread_time()
        held = [asyncio.create_task(hold(limit, log, n, release)) for n in range(20)]
        waiting = [asyncio.create_task(hold(limit, log, n)) for n in range(number)]
        await turns()
        for task in waiting[::2]:
            task.cancel()
        release.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*held, *waiting[1::2])
        await turns()
        assert limit.free == 20
        spent = time.thread_time() - began
        gc.enable()
        return spent

    few = min([await seconds(500) for _ in range(3)])
    many = min([await seconds(5000) for _ in range(3)])
    assert many < 40 * few
