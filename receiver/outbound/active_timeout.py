"""A timeout that counts only the time in which this process runs.

`client` uses it for requests. When a suspended process continues (a paused machine, a closed laptop, SIGSTOP), the
answers to its requests are there. By the clock they are late, and what they say about a purchase would be lost.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

TICK = 0.25
"""Seconds that are counted at once; a longer pause between two ticks counts as one tick."""
MAX_SUSPENSIONS = 3
"""Suspensions that are allowed for: a process that is late more often is slow, not suspended."""
MIN_TICKS_LEFT = 4
"""Ticks that are left after a suspension at least, to read what has arrived meanwhile."""


@asynccontextmanager
async def active_timeout(seconds: float) -> AsyncIterator[None]:
    """Raise `TimeoutError` inside after so many seconds of running."""
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
        self._suspensions = 0
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
            self._suspensions += 1
            least = MIN_TICKS_LEFT if self._suspensions <= MAX_SUSPENSIONS else 0
            since, self._left = self._loop.time(), max(self._left - 1, least)
        else:
            self._left -= max(passed, 1)
        if self._left > 0:
            self._begin_tick(since)
        elif not self._timeout.expired():
            self._timeout.reschedule(self._loop.time())
