"""What the ways in need to work: the only wiring object. `app` and `cli` make one, everybody else is handed it."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from receiver.config.keys import known
from receiver.config.settings import Settings
from receiver.core.errors import Fault, Invalid, StoreUnavailable
from receiver.core.links import Links
from receiver.core.redaction import Redactor
from receiver.lifecycle.schedule import Schedule
from receiver.lifecycle.transition import Context
from receiver.outbound.client import Outbound
from receiver.providers import connect
from receiver.providers.base import Provider
from receiver.store import Store, Unit

log = structlog.get_logger()

T = TypeVar("T")

LEASE_MARGIN = 6.0
"""Seconds by which a lease outlives the longest request: for the commits before and after it."""

LAST_WRITES = 2.0
"""Seconds in which what a stop breaks off writes down how it ended."""


def clock() -> int:
    """Return the time in Unix milliseconds. Nothing else reads the clock."""
    return time.time_ns() // 1_000_000


class Background:
    """Work that goes on after its caller was answered. Nothing that must survive lives only here."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a piece of work; a failure of it is logged."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def drain(self, seconds: float) -> None:
        """Wait so long for everything to end, also what it begins meanwhile, then cancel the rest."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self._running and (left := end - loop.time()) > 0:
            await asyncio.wait(self._running, timeout=left)
        rest = list(self._running)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, StoreUnavailable):  # what it was about is found again by the next sweep
            log.warning("background_work_put_off", reason=str(error))
        elif error is not None:
            log.error("background_work_failed", exc_info=error)


class DueNow:
    """Tells the poller of this process that a task became due. Without one nobody is told, and its next sweep comes."""

    def __init__(self) -> None:
        self._tell: Callable[[str, str], None] | None = None

    def listen(self, tell: Callable[[str, str], None]) -> None:
        """Have each task told of by its account and its id."""
        self._tell = tell

    def tell(self, account: str, task_id: str) -> None:
        """Tell of a task that is due at once."""
        if self._tell is not None:
            self._tell(account, task_id)


@dataclass(frozen=True)
class Services:
    """Everything that is wired once and used everywhere. `clock` gives Unix milliseconds, `chance` 0 to 1."""

    settings: Settings
    store: Store
    providers: dict[str, Provider]
    outbound: Outbound
    links: Links
    redactor: Redactor
    clock: Callable[[], int] = clock
    chance: Callable[[], float] = random.random
    background: Background = field(default_factory=Background)
    due_now: DueNow = field(default_factory=DueNow)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the service is told to stop: from then on nothing new is begun, and no order leaves."""

    @classmethod
    def open(cls, settings: Settings, *, clock: Callable[[], int] = clock) -> "Services":
        """Open the database and wire everything; raises `ConfigError` and `StoreUnavailable`."""
        keys = [key.get_secret_value() for key in settings.secret_keys]
        return cls(
            settings=settings,
            store=Store(settings.database),
            providers=connect(settings.providers),
            outbound=Outbound(settings.timeout, clock),
            links=Links(keys, settings.public_url),
            redactor=Redactor(known(settings)),
            clock=clock,
        )

    async def close(self, seconds: float = 5.0) -> None:
        """Let work in flight end, at most so long, then close connections and database, whatever that does."""
        last = asyncio.get_running_loop().call_later(seconds, self.store.end_within, LAST_WRITES)
        await self.background.drain(seconds)
        last.cancel()
        await self.outbound.close()
        await self.store.close()

    def provider(self, name: str) -> Provider:
        """Return a configured provider account; raises `Invalid` naming those that there are."""
        provider = self.providers.get(name)
        if provider is None:
            words = f'"{name[:60]}" is not configured; configured are: {", ".join(self.providers)}'
            raise Invalid([Fault(("provider",), words)])
        return provider

    def context(self, account: str) -> Context:
        """Return what a change of one of this account's tasks depends on, as of now."""
        provider = self.providers.get(account)
        return Context(
            now=self.clock(),
            schedule=Schedule.of(self.settings, provider.first_check_after if provider else None),
            output_ttl_seconds=provider.output_ttl_seconds if provider else None,
            chance=self.chance(),
            redact=self.redactor.text,
        )

    async def insist(self, unit: Unit[T]) -> T:
        """Write what must not be lost, a paid answer: try again while the database is unavailable.

        Gives up with `StoreUnavailable` after the deadline of a task, by the time that really passed: a jump of the
        clock must not lose it. That a lease ran out meanwhile does not matter, for an answer counts whoever brings it.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self.settings.deadline
        while True:
            try:
                return await self.store.write(unit)
            except StoreUnavailable:
                if loop.time() >= until:
                    raise
                await asyncio.sleep(0.2)

    def lease_end(self) -> int:
        """Return until when a lease taken now lasts: longer than the longest request."""
        return self.clock() + round((self.settings.timeout + LEASE_MARGIN) * 1000)
