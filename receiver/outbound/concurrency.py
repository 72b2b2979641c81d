"""A limit on how much is done at once, in front of which the rest waits: first come, first served.

`outbound` has one for each kind of request to each account. Nothing here knows what the places are for.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class NoPlaceError(Exception):
    """No place came free in time."""


class ConcurrencyLimit:
    """So many places. A wait that is given up leaves nothing behind, and a place that is not given back is replaced."""

    def __init__(self, places: int, replaced: Callable[[], None]) -> None:
        """Take the number of places, and what is told when one of them had to be replaced."""
        self._places = places
        self._replaced = replaced
        self._held: dict[object, asyncio.TimerHandle] = {}
        # Not a dict: taking the first of one again and again gets slower with each that was taken.
        self._waiting: OrderedDict[asyncio.Future[object], float] = OrderedDict()

    @property
    def free(self) -> int:
        """The number of places that nobody holds."""
        return self._places - len(self._held)

    @property
    def waiting(self) -> int:
        """The number of those who wait for a place."""
        return len(self._waiting)

    @asynccontextmanager
    async def place(self, patience: float, longest: float) -> AsyncIterator[None]:
        """Hold a place, for which at most `patience` seconds are waited; raises `NoPlaceError`.

        A place that is held for more than `longest` seconds counts as lost: another takes its stead.
        """
        holder = await self._obtain(patience, longest)
        try:
            yield
        finally:
            self._give_back(holder)

    async def _obtain(self, patience: float, longest: float) -> object:
        if self.free > 0 and not self._waiting:
            return self._take(longest)
        turn: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = longest
        try:
            async with asyncio.timeout(patience):
                return await turn
        except BaseException as error:
            self._waiting.pop(turn, None)
            if turn.done() and not turn.cancelled():  # it was given a place just when it went away
                self._give_back(turn.result())
            if isinstance(error, TimeoutError):
                raise NoPlaceError from error
            raise

    def _take(self, longest: float) -> object:
        holder = object()
        self._held[holder] = asyncio.get_running_loop().call_later(longest, self._replace, holder)
        return holder

    def _give_back(self, holder: object) -> None:
        overdue = self._held.pop(holder, None)
        if overdue is not None:  # else it was replaced
            overdue.cancel()
            self._admit()

    def _replace(self, holder: object) -> None:
        del self._held[holder]
        self._replaced()
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self.free > 0:
            turn, longest = self._waiting.popitem(last=False)
            if not turn.done():  # a cancelled one may not have gone away yet
                turn.set_result(self._take(longest))
