"""Threads for work that may block. The process never waits for them at its end.

`asyncio.to_thread` and executors will not do: Python waits for their threads before it exits.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Call(Generic[T]):
    """One function call on its way through a thread. If its future is done before it begins, it never runs."""

    __slots__ = ("_loop", "_work", "ended", "future", "thread")

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self._loop.create_future()
        self.thread: int | None = None
        """The thread that runs it, once it has begun."""
        self.ended = False

    def run(self) -> None:
        """Run it on this thread, and pass its result to the event loop."""
        result, error = None, None
        if not self.future.done():
            self.thread = threading.get_ident()
            try:
                result = self._work()
            except BaseException as raised:  # noqa: BLE001 - handed to whoever waits
                error = raised
        self.ended = True
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits any more
            self._loop.call_soon_threadsafe(self._answer, result, error)

    def _answer(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            # No future takes a StopIteration.
            self.future.set_exception(
                RuntimeError("a query raised StopIteration") if isinstance(error, StopIteration) else error
            )
            self.future.exception()  # whoever waited may be gone


class Threads:
    """At most so many daemon threads; each is started when it is first needed."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._calls: SimpleQueue[Call[Any] | None] = SimpleQueue()
        self._running = 0
        self._counting = threading.Lock()
        self._last: Call[Any] | None = None

    def run(self, work: Callable[[], T]) -> Call[T]:
        """Run a function on a thread, as soon as one is free."""
        call = Call(work)
        self._calls.put(call)
        with self._counting:
            if self._running < self._most:
                self._running += 1
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
        return call

    def close(self, last: Callable[[], None]) -> Call[None]:
        """End all threads after the queued work; the one that ends last calls `last`."""
        self._last = Call(last)
        with self._counting:
            if self._running == 0:
                self._running = 1
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
            for _ in range(self._running):
                self._calls.put(None)
        return self._last

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call.run()
            del call  # an idle thread must not keep it alive
        with self._counting:
            self._running -= 1
            is_last = self._running == 0
        if is_last and self._last is not None:
            self._last.run()
