"""A timeout that only counts the time in which this process runs.

`outbound` uses it for requests. A process that was suspended (a paused machine, a closed laptop, SIGSTOP) finds the
answers to its requests waiting when it goes on. By a clock they are late, and what they say of a purchase would be
lost.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

TICK = 0.25
"""Seconds that are counted at once; a longer pause between two ticks counts as one."""
PAUSES = 3
"""Pauses that are made up for: a process that is late again and again is slow, and not suspended."""
TICKS_AFTER_A_PAUSE = 4
"""Ticks that are left at least after a pause, for reading what has come meanwhile."""


@asynccontextmanager
async def awake_timeout(seconds: float) -> AsyncIterator[None]:
    """Cancel what is inside after so many seconds of running, and raise `TimeoutError`."""
    async with asyncio.timeout(None) as timeout:
        countdown = _Countdown(timeout, seconds)
        try:
            yield
        finally:
            countdown.stop()


class _Countdown:
    def __init__(self, timeout: asyncio.Timeout, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._left = max(1, round(seconds / TICK))
        self._tick = seconds / self._left
        self._pauses = 0
        self._begin_tick(self._loop.time())

    def stop(self) -> None:
        self._handle.cancel()

    def _begin_tick(self, since: float) -> None:
        self._since, self._seen = since, time.monotonic()
        self._handle = self._loop.call_at(since + self._tick, self._end_tick)

    def _end_tick(self) -> None:
        passed = int((self._loop.time() - self._since) / self._tick)
        since = self._since + max(passed, 1) * self._tick
        if time.monotonic() - self._seen > self._tick + TICK:
            self._pauses += 1
            least = TICKS_AFTER_A_PAUSE if self._pauses <= PAUSES else 0
            since, self._left = self._loop.time(), max(self._left - 1, least)
        else:
            self._left -= max(passed, 1)
        if self._left > 0:
            self._begin_tick(since)
        elif not self._timeout.expired():
            self._timeout.reschedule(self._loop.time())
