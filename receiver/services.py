"""The one object that holds what everything uses: settings, store, providers, clients. `app` and `cli` create it."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from receiver.config.keys import list_secrets
from receiver.config.settings import Settings
from receiver.core.errors import Fault, Invalid, StoreUnavailable
from receiver.core.links import Links
from receiver.core.redaction import Redactor
from receiver.lifecycle.messages import FOR_OWN_URLS, MessageSettings
from receiver.lifecycle.schedule import Schedule
from receiver.lifecycle.transition import Context
from receiver.outbound.client import Outbound
from receiver.outbound.download import Downloads
from receiver.outbound.heartbeat import HeartbeatURL
from receiver.outbound.webhooks import Webhooks
from receiver.providers import connect
from receiver.providers.base import Provider
from receiver.storage import Storage, open_storage
from receiver.store import Store, Unit

log = structlog.get_logger()

T = TypeVar("T")

LEASE_MARGIN_SECONDS = 6.0
"""Seconds that a lease lasts longer than the longest request: for the commits before and after it."""

SHUTDOWN_WRITE_SECONDS = 2.0
"""Seconds that cancelled work has to record how it ended when the service stops."""


def clock() -> int:
    """Return the time in Unix milliseconds. Nothing else reads the clock."""
    return time.time_ns() // 1_000_000


class Background:
    """Work that continues after its caller was answered. What must survive a crash is in the database, too."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a coroutine; if it fails, that is logged."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._log_failure)
        return task

    async def drain(self, seconds: float) -> None:
        """Wait so long for all work to end, also what it starts meanwhile, then cancel the rest."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self._running and (left := end - loop.time()) > 0:
            await asyncio.wait(self._running, timeout=left)
        rest = list(self._running)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def _log_failure(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, StoreUnavailable):  # the next sweep finds its task again
            log.warning("background_work_postponed", reason=str(error))
        elif error is not None:
            log.error("background_work_failed", exc_info=error)


class DueNow:
    """Notifies this process's poller of tasks that are due at once. Without a poller, the next sweep finds them."""

    def __init__(self) -> None:
        self._callback: Callable[[str, str], None] | None = None

    def subscribe(self, callback: Callable[[str, str], None]) -> None:
        """Register the function that is called with the account and the id of each task."""
        self._callback = callback

    def notify(self, account: str, task_id: str) -> None:
        """Report a task that is due at once."""
        if self._callback is not None:
            self._callback(account, task_id)


@dataclass(frozen=True)
class Services:
    """Everything that is created once and used everywhere. `clock` returns Unix milliseconds, `chance` 0 to 1."""

    settings: Settings
    store: Store
    providers: dict[str, Provider]
    outbound: Outbound
    links: Links
    redactor: Redactor
    downloads: Downloads
    storage: Storage | None = None
    """Where results are archived; None if only their links are kept."""
    messages: MessageSettings = FOR_OWN_URLS
    webhooks: Webhooks = field(default_factory=Webhooks)
    clock: Callable[[], int] = clock
    chance: Callable[[], float] = random.random
    background: Background = field(default_factory=Background)
    due_now: DueNow = field(default_factory=DueNow)
    heartbeat: HeartbeatURL | None = None
    """Where a dead man's switch is told of each sweep, if anywhere."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the service is stopping: from then on nothing new is started, and no order is sent."""

    @classmethod
    def open(cls, settings: Settings, *, clock: Callable[[], int] = clock) -> "Services":
        """Return the services for these settings, the database open. Raises `ConfigError` and `StoreUnavailable`."""
        place = settings.archive_place
        keys = [key.get_secret_value() for key in settings.secret_keys]
        return cls(
            settings=settings,
            store=Store(settings.database),
            providers=connect(settings.providers),
            outbound=Outbound(settings.timeout, clock),
            links=Links(keys, settings.public_url),
            redactor=Redactor(list_secrets(settings)),
            downloads=Downloads(),
            storage=None if place is None else open_storage(place, settings.archive_keep_free),
            messages=MessageSettings(settings.notify_url, frozenset(settings.notify_events)),
            clock=clock,
            heartbeat=HeartbeatURL(settings.heartbeat_url) if settings.heartbeat_url else None,
        )

    async def close(self, seconds: float = 5.0) -> None:
        """Wait at most so long for work to end, then close connections and database."""
        last = asyncio.get_running_loop().call_later(seconds, self.store.end_within, SHUTDOWN_WRITE_SECONDS)
        await self.background.drain(seconds)
        last.cancel()
        await self.outbound.close()
        await self.downloads.close()
        await self.webhooks.close()
        await self.store.close()

    def provider(self, name: str) -> Provider:
        """Return the provider of a configured account. Raises `Invalid` with the names of all accounts."""
        provider = self.providers.get(name)
        if provider is None:
            words = f'"{name[:60]}" is not configured; use one of: {", ".join(self.providers)}'
            raise Invalid([Fault(("provider",), words)])
        return provider

    def context(self, account: str) -> Context:
        """Return what a change of one of this account's tasks depends on now."""
        provider = self.providers.get(account)
        return Context(
            now=self.clock(),
            schedule=Schedule.of(self.settings, provider.first_check_after if provider else None),
            output_ttl_seconds=provider.output_ttl_seconds if provider else None,
            chance=self.chance(),
            redact=self.redactor.redact_text,
            archives=self.storage is not None,
            messages=self.messages,
        )

    async def write_until_deadline(self, unit: Unit[T]) -> T:
        """Return the result of a unit that must not be lost, retrying while the database is unavailable.

        Raises `StoreUnavailable` after the deadline of a task, measured without the clock, which may jump. An expired
        lease does not matter: an answer counts whoever brings it.
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

    def new_lease_end(self) -> int:
        """Return when a lease that is taken now ends: after the longest request."""
        return self.clock() + round((self.settings.timeout + LEASE_MARGIN_SECONDS) * 1000)
