"""Sends due messages: all the time beside a service, once in `receiver poll`. Any number of senders share the work.

Each receiver gets a few messages at once, so one that is slow or dead delays neither the others nor the polling.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import structlog

from receiver.core.errors import StoreUnavailable
from receiver.lifecycle.messages import host_of
from receiver.notifications.delivery import deliver, new_lease_end
from receiver.services import Services
from receiver.store import notifications
from receiver.store.notifications import Message

log = structlog.get_logger()

POLL_INTERVAL = 0.5
"""Seconds between two looks for due messages."""
POLLS_BETWEEN_CLOCK_CHECKS = 60
"""Polls between two searches for messages scheduled by a clock that was set back, where that was not noticed."""
AT_ONCE = 50
AT_ONCE_PER_HOST = 5
GATHER_SECONDS = 0.01
"""Seconds that a place which came free waits for others: what is claimed together is one write."""
SWEEP_SECONDS = 30.0
"""Seconds in which a single sweep begins to send; what is left then is for the next one."""
STOP_SECONDS = 1.0


class Sender:
    """Sends due messages from this process. `stop` ends it before the service stops."""

    def __init__(self, services: Services, stop: asyncio.Event | None = None) -> None:
        self._services = services
        self._stop = stop or services.stopping
        self._sending: dict[str, dict[int, asyncio.Task[None]]] = {}
        self._polls = 0
        self._last_poll = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send messages as they become due. On leaving, nothing more is begun; background work finishes the rest."""
        loop = asyncio.create_task(self._run())
        try:
            yield
        finally:
            await asyncio.wait({loop}, timeout=STOP_SECONDS)
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)

    async def send_due(self) -> None:
        """Send what is due now, and wait until it is sent; raises `StoreUnavailable`."""
        loop, due = asyncio.get_running_loop(), self._services.clock()
        end = loop.time() + SWEEP_SECONDS
        await self._redirect()
        await self._reschedule_after_clock_change()
        while not self._is_stopping() and loop.time() < end:
            await self._begin_due(due)
            if not self._all():
                break
            await asyncio.wait(self._all(), return_when=asyncio.FIRST_COMPLETED)
        while self._all():
            await asyncio.wait(self._all())

    async def _run(self) -> None:
        stopping: asyncio.Task[Any] = asyncio.create_task(self._stop.wait())
        redirected = crowded = False
        try:
            while not self._is_stopping():
                try:
                    if not redirected:
                        await self._redirect()
                        redirected = True
                    crowded = await self._begin_due_now()
                except StoreUnavailable as error:
                    log.warning("sender_waits", reason=str(error))
                except Exception:  # one fault must not end the messages of all tasks
                    log.exception("sender_failed")
                await self._pause(stopping, crowded=crowded)
        finally:
            stopping.cancel()

    async def _pause(self, stopping: asyncio.Task[Any], *, crowded: bool) -> None:
        """Wait for the next poll; where messages wait for room, only until one of those under way has ended."""
        ends: set[asyncio.Task[Any]] = set(self._all()) if crowded else set()
        done, _ = await asyncio.wait({stopping, *ends}, timeout=POLL_INTERVAL, return_when=asyncio.FIRST_COMPLETED)
        if done and stopping not in done:
            await asyncio.sleep(GATHER_SECONDS)

    async def _begin_due_now(self) -> bool:
        now = self._services.clock()
        if now < self._last_poll or self._polls % POLLS_BETWEEN_CLOCK_CHECKS == 0:
            await self._reschedule_after_clock_change()
        self._polls, self._last_poll = self._polls + 1, now
        return await self._begin_due(now)

    async def _begin_due(self, due: int) -> bool:
        """Begin to send what was due then, as far as there is room; returns whether some may be left for lack of it."""
        crowded = False
        for host in await self._services.store.read(lambda session: notifications.due_hosts(session, due)):
            room = self._room(host)
            crowded |= room == 0 or await self._begin(host, due, room) == room
        return crowded

    async def _begin(self, host: str, due: int, most: int) -> int:
        """Begin to send at most so many messages to a host; returns how many."""
        until = new_lease_end(self._services)
        # Where the clock was set back since it was looked at, what was sent would be due again at once.
        now = min(due, self._services.clock())
        claimed = await self._services.store.write(lambda tx: notifications.claim_due(tx, host, now, until, most))
        for message in claimed:
            self._start(host, message, until)
        return len(claimed)

    def _start(self, host: str, message: Message, until: int) -> None:
        working = self._sending.setdefault(host, {})
        if message.id in working:  # the clock jumped over its lease: the try under way goes on
            return

        def ended(_: asyncio.Task[None]) -> None:
            del working[message.id]
            if not working:
                self._sending.pop(host, None)

        one = working[message.id] = self._services.background.start(deliver(self._services, message, until))
        one.add_done_callback(ended)

    def _room(self, host: str) -> int:
        return min(AT_ONCE_PER_HOST - len(self._sending.get(host, ())), AT_ONCE - len(self._all()))

    def _all(self) -> set[asyncio.Task[None]]:
        return {one for working in self._sending.values() for one in working.values()}

    def _is_stopping(self) -> bool:
        return self._stop.is_set() or self._services.stopping.is_set()

    async def _redirect(self) -> None:
        """Let messages that wait for the URL in the settings go where it leads today."""
        url = self._services.settings.notify_url
        if url is not None:
            await self._services.store.write(lambda tx: notifications.redirect_waiting(tx, url, host_of(url)))

    async def _reschedule_after_clock_change(self) -> None:
        now = self._services.clock()
        if await self._services.store.read(lambda session: notifications.has_tries_from_the_future(session, now)):
            number = await self._services.store.write(lambda tx: notifications.reschedule_after_clock_change(tx, now))
            log.warning("clock_set_back", messages_rescheduled=number)
