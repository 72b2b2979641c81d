"""Runs queries on their own threads, and answers callers in time even if the database does not."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Engine

from receiver.core.errors import StoreUnavailable
from receiver.store.abort import ConnectionAborter
from receiver.store.threads import Call, Threads

T = TypeVar("T")

PATIENCE = 3.5
"""Seconds that PostgreSQL has for one query, with the wait for a thread. SQLite may be slow, but always answers."""
CLOSE_SECONDS = 1.0
"""How long a close waits for queries under way."""
NO_ANSWER = "the database does not answer"


class Readers:
    """Runs at most so many queries at once, on the connections of one engine."""

    def __init__(self, engine: Engine, most: int, name: str) -> None:
        self.engine = engine
        self._threads = Threads(most, name)
        self._aborter = ConnectionAborter(engine) if engine.dialect.name == "postgresql" else None
        self._closed = False

    async def run(self, work: Callable[[], T]) -> T:
        """Return the result of a function, run on a thread.

        Raises what it raises, and `StoreUnavailable` after too long.
        """
        call = self.start(work)
        if self._aborter is None:
            return await call.future
        alarm = asyncio.get_running_loop().call_later(PATIENCE, self._give_up, call)
        try:
            return await call.future
        finally:
            if call.ended:  # else its caller is gone, and its thread may be stuck
                alarm.cancel()

    def start(self, work: Callable[[], T]) -> Call[T]:
        """Start a function on a thread without waiting for it."""
        if self._closed:
            raise StoreUnavailable("the database is closed: this process is ending")
        return self._threads.run(work)

    async def close(self) -> None:
        """Finish queries under way and close all connections; a blocked thread is left behind."""
        if self._closed:
            return
        self._closed = True
        closed = self._threads.close(self.engine.dispose)
        await asyncio.wait({closed.future}, timeout=CLOSE_SECONDS)

    def _give_up(self, call: Call[Any]) -> None:
        if call.ended:
            return
        if not call.future.done():
            call.future.set_exception(StoreUnavailable(NO_ANSWER))
        if self._aborter is not None:
            self._aborter.abort(call.thread)
