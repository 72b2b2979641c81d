"""A limit on how much is done at once; the rest waits, first come, first served.

`client` has one for each kind of request to each account.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class NoSlotError(Exception):
    """No slot became free in time."""


class ConcurrencyLimit:
    """A number of slots. A cancelled wait leaves nothing behind, and a slot that is never released is replaced."""

    def __init__(self, slots: int, on_replaced: Callable[[], None]) -> None:
        """Prepare; `on_replaced` is called when a slot was replaced."""
        self._slots = slots
        self._on_replaced = on_replaced
        self._held: dict[object, asyncio.TimerHandle] = {}
        # Not a dict: removing its first item gets slower with every removal.
        self._waiting: OrderedDict[asyncio.Future[object], float] = OrderedDict()

    @property
    def free(self) -> int:
        """Return the number of free slots."""
        return self._slots - len(self._held)

    @property
    def waiting(self) -> int:
        """Return the number of callers that wait for a slot."""
        return len(self._waiting)

    @asynccontextmanager
    async def slot(self, max_wait: float, max_hold: float) -> AsyncIterator[None]:
        """Hold a slot. Raises `NoSlotError` after waiting for `max_wait` seconds.

        A slot that is held for more than `max_hold` seconds counts as lost and is replaced.
        """
        holder = await self._acquire(max_wait, max_hold)
        try:
            yield
        finally:
            self._release(holder)

    async def _acquire(self, max_wait: float, max_hold: float) -> object:
        if self.free > 0 and not self._waiting:
            return self._hold(max_hold)
        turn: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = max_hold
        try:
            async with asyncio.timeout(max_wait):
                return await turn
        except BaseException as error:
            self._waiting.pop(turn, None)
            if turn.done() and not turn.cancelled():  # it was given a slot just when it was cancelled
                self._release(turn.result())
            if isinstance(error, TimeoutError):
                raise NoSlotError from error
            raise

    def _hold(self, max_hold: float) -> object:
        holder = object()
        self._held[holder] = asyncio.get_running_loop().call_later(max_hold, self._replace, holder)
        return holder

    def _release(self, holder: object) -> None:
        overdue = self._held.pop(holder, None)
        if overdue is not None:  # else it was on_replaced
            overdue.cancel()
            self._admit_waiting()

    def _replace(self, holder: object) -> None:
        del self._held[holder]
        self._on_replaced()
        self._admit_waiting()

    def _admit_waiting(self) -> None:
        while self._waiting and self.free > 0:
            turn, max_hold = self._waiting.popitem(last=False)
            if not turn.done():  # a cancelled one may still be in the queue
                turn.set_result(self._hold(max_hold))
