"""How long tests wait, and what they may say of how long something took.

How fast a machine is proves nothing, and no test may fail on one that is ten times slower. What a test waits for, it
waits for until `HANG`; what it measures is a `Duration`, which cannot be compared. That something lasts for so long at
least can be asserted everywhere; that it takes no longer, only at the full size of the torture bench, by
`Torture.within`. Nothing else in the tests reads a clock that runs, but the benchmarks.
"""

import asyncio
import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

import httpx

T = TypeVar("T")

HANG = 120.0
"""Seconds after which a test takes it that something hangs: far more than anything takes that does not."""
FRESH = httpx.Limits(max_keepalive_connections=0)
"""A connection for each request: a service closes a kept one after some seconds, also when it is just used again."""
POLL_INTERVAL = 0.01
WORK, WORK_SECONDS = 30_000, 0.16
"""A piece of work, and how long it takes on a quick machine that has nothing else to do."""


@dataclass(frozen=True)
class Duration:
    """Seconds that something took. It has no order, so that nobody asserts by the way that it is short."""

    _seconds: float

    def at_least(self, seconds: float) -> bool:
        """Tell whether it lasted for so many seconds: a slow machine only makes it longer."""
        return self._seconds >= seconds

    def times(self, factor: float) -> "Duration":
        """Multiply it: what something else may take, which is measured beside it."""
        return Duration(self._seconds * factor)

    def each_second(self, number: float) -> float:
        """Return how much of what happened in it that is for each of its seconds."""
        return number / self._seconds

    def figure(self) -> float:
        """Return the seconds, for the figures of a row."""
        return self._seconds


class Stopwatch:
    """Measures from its making on."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def read(self) -> Duration:
        """Tell how long it has run."""
        return Duration(time.monotonic() - self._began)


def longest(durations: Iterable[Duration]) -> Duration:
    """Return the longest of them, or none at all where there are none."""
    return Duration(max((each.figure() for each in durations), default=0.0))


def median(durations: Iterable[Duration]) -> Duration:
    """Return the one in the middle."""
    return Duration(statistics.median(each.figure() for each in durations))


def quantile(durations: Iterable[Duration], share: float) -> Duration:
    """Return the one within which so large a share of them is."""
    found = sorted(each.figure() for each in durations)
    return Duration(found[min(int(len(found) * share), len(found) - 1)])


def slowness() -> float:
    """Measure how many times longer a piece of work takes here and now, beside whatever else the machine does."""
    return _time_for_work(time.monotonic)


def processor_seconds(seconds: float) -> float:
    """Return what so many seconds of processor time are on the processor that is here, as busy as it is now."""
    return seconds * _time_for_work(time.thread_time)


def _time_for_work(clock: Callable[[], float]) -> float:
    began = clock()
    for _ in range(WORK):
        math.factorial(500)
    return max(1.0, (clock() - began) / WORK_SECONDS)


def wait_for(look: Callable[[], T | Literal[False] | None], seconds: float = HANG) -> T:
    """Wait until something is there."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(POLL_INTERVAL)


async def until(condition: Callable[[], object], seconds: float = HANG) -> None:
    """Wait for a condition; it fails the test when it does not come true."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what it looks at has no event
            await asyncio.sleep(POLL_INTERVAL)


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time a test can move on, so that a timeout is over without anybody waiting for it."""

    _ahead = 0.0

    def time(self) -> float:
        return super().time() + self._ahead

    def move_on(self, seconds: float) -> None:
        self._ahead += seconds


LOOP = ("asyncio", {"loop_factory": Loop})
"""anyio's backend for tests that move the loop's time on."""


def move_on(seconds: float) -> None:
    """Move the time of the running loop on: what waits for so long at most, from now on, waits no longer."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop), "the tests' module needs the backend LOOP"
    loop.move_on(seconds)
