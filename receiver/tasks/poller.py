"""Find tasks that are due: to be checked, submitted again, or ended. Any number of pollers may sweep at once.

`app` runs one in the service's loop, `receiver poll` and `POST /api/poll` run single sweeps. Each provider account is
swept by itself, its orders and its checks apart, so that what is slow holds up nothing else.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable

import structlog

from receiver.core.errors import StoreUnavailable
from receiver.core.times import MINUTE
from receiver.outbound.client import Kind
from receiver.services import Services
from receiver.store import Transaction, feed, heartbeats, reading, tasks
from receiver.store.tasks import Claim
from receiver.tasks.workers import AT_ONCE, Report, Workers

__all__ = ["AT_ONCE", "COUNTED", "Poller", "Report", "record_heartbeat", "reschedule_after_clock_change", "sweep"]

log = structlog.get_logger()

POLL_INTERVAL = 0.5
"""Seconds between two polls of the database for due tasks."""
HEARTBEAT_INTERVAL = 10.0
"""Seconds between two heartbeats, whatever there is to do."""
POLLS_BETWEEN_CLOCK_CHECKS = 60
"""Polls between two searches for tasks scheduled by a clock that was set back, where that was not noticed."""
MAX_WAITING_CHECKS = 10_000
"""Checks of one account that wait where this process does not sweep; further ones are left to the next sweep."""
COUNTED = ("submitted", "checked", "settled", "expired", "failed")


async def sweep(services: Services, report: Report, stop: asyncio.Event) -> None:
    """Work on everything that is due now, counting into `report`; after `stop`, only what was begun is finished."""
    await record_heartbeat(services)
    await reschedule_after_clock_change(services)
    accounts = await services.store.read(lambda session: reading.due_accounts(session, services.clock()))
    working = [Workers(services, account, kind, stop) for account in accounts for kind in (Kind.ORDER, Kind.CHECK)]
    for workers in working:
        workers.report = report
    ended = await asyncio.gather(*(workers.finish() for workers in working), return_exceptions=True)
    for error in ended:
        if error is not None:
            raise error
    await fetch_heartbeat_url(services)


async def record_heartbeat(services: Services) -> None:
    """Record that somebody sweeps: `receiver doctor` and `/metrics` report when nobody does."""
    now = services.clock()

    def unit(tx: Transaction) -> None:
        heartbeats.record_heartbeat(tx, heartbeats.POLLER, now)
        feed.remove_past(tx)

    await services.store.write(unit)


async def fetch_heartbeat_url(services: Services) -> None:
    """Tell a dead man's switch that a sweep did its work, at most once a minute; nobody waits for its answer.

    Whoever is the one to tell it has written that first, so nothing is told while the database cannot be written.
    """
    if services.heartbeat is None:
        return
    now = services.clock()
    if await services.store.write(lambda tx: heartbeats.claim(tx, heartbeats.HEARTBEAT_URL, now, MINUTE)):
        services.background.start(services.heartbeat.fetch())


async def reschedule_after_clock_change(services: Services) -> None:
    """Reschedule the tasks that a clock scheduled which has since been set back."""
    now = services.clock()
    if await services.store.read(lambda session: reading.has_checks_from_the_future(session, now)):
        number = await services.store.write(lambda tx: tasks.reschedule_after_clock_change(tx, now))
        log.warning("clock_set_back", tasks_rescheduled=number)


class Poller:
    """Starts due work as long as the service runs: after each interval, and at once when a callback made a task due.

    One that does not sweep is not run: it works only on what callbacks made due.
    """

    def __init__(
        self, services: Services, heartbeat_interval: float = HEARTBEAT_INTERVAL, *, sweeps: bool = True
    ) -> None:
        self._services = services
        self._sweeps = sweeps
        self._heartbeat_interval = heartbeat_interval
        self._stop = services.stopping
        self._workers: dict[tuple[str, Kind], Workers] = {}
        self._callback_checks: dict[str, CallbackChecks] = {}
        self._next_heartbeat = 0.0
        self._polls = 0
        self._last_poll = 0
        services.due_now.subscribe(self._check_due_task)
        services.outbound.on_lost_slot = self._record_lost_slot

    async def run(self) -> None:
        """Start work on every account that has due tasks, at each interval, until the service stops.

        The services' background tasks finish what was begun.
        """
        while not self._stop.is_set():
            try:
                await self._start_due_work()
                await self._record_heartbeat()
            except StoreUnavailable as error:
                log.warning("poller_waits", reason=str(error))
            await _sleep_until(self._stop, POLL_INTERVAL)

    async def _record_heartbeat(self) -> None:
        passed = asyncio.get_running_loop().time()  # by a clock that nobody sets
        if passed >= self._next_heartbeat:
            self._next_heartbeat = passed + self._heartbeat_interval
            await record_heartbeat(self._services)
            await fetch_heartbeat_url(self._services)

    async def _start_due_work(self) -> None:
        now = self._services.clock()
        if now < self._last_poll or self._polls % POLLS_BETWEEN_CLOCK_CHECKS == 0:
            await reschedule_after_clock_change(self._services)
        self._polls, self._last_poll = self._polls + 1, now
        for account in await self._services.store.read(lambda session: reading.due_accounts(session, now)):
            for kind in (Kind.ORDER, Kind.CHECK):
                self._of(account, kind).wake()

    def _check_due_task(self, account: str, task_id: str) -> None:
        """Start the check that a callback made due."""
        workers = self._of(account, Kind.CHECK)
        if not self._sweeps:
            self._callback_checks[account].add(task_id)
        workers.wake()

    def _of(self, account: str, kind: Kind) -> Workers:
        workers = self._workers.get((account, kind))
        if workers is None:
            workers = self._workers[account, kind] = self._make(account, kind)
        return workers

    def _make(self, account: str, kind: Kind) -> Workers:
        if self._sweeps:
            return Workers(self._services, account, kind, self._stop)
        checks = self._callback_checks[account] = CallbackChecks(self._services, lambda: self._of(account, kind).wake())
        return Workers(self._services, account, kind, self._stop, claim=checks.claim, retry_later=checks.retry_later)

    def _record_lost_slot(self, account: str) -> None:
        """Record that an account lost one of its connections, for `receiver doctor`."""
        name, now = heartbeats.LOST_SLOT + account, self._services.clock()
        self._services.background.start(
            self._services.store.write(lambda tx: heartbeats.record_heartbeat(tx, name, now))
        )


class CallbackChecks:
    """Checks of one account that callbacks made due, where no sweep of this process would find them.

    It holds no state of its own: each of these tasks is due in the database, too.
    """

    def __init__(self, services: Services, wake: Callable[[], None]) -> None:
        """Begin with nothing; `wake` starts claiming."""
        self._services = services
        self._wake = wake
        self._waiting: OrderedDict[str, None] = OrderedDict()
        self._held: set[str] = set()
        self._pause: asyncio.Task[None] | None = None

    def add(self, task_id: str) -> None:
        """Add a task that became due."""
        if len(self._waiting) < MAX_WAITING_CHECKS:
            self._waiting[task_id] = None

    async def claim(self, most: int) -> list[Claim]:
        """Claim at most so many, and drop those that are not due any more."""
        taken: list[Claim] = []
        while self._waiting and len(taken) < most:
            try:
                taken += await self._claim_some(most - len(taken))
            except StoreUnavailable:
                if not taken:
                    raise
                break  # work on what is claimed
        return taken

    async def _claim_some(self, most: int) -> list[Claim]:
        now, until = self._services.clock(), self._services.new_lease_end()
        # Taken out before the claim: one that becomes due once more meanwhile is claimed once more.
        names = [self._waiting.popitem(last=False)[0] for _ in range(min(most, len(self._waiting)))]
        try:
            claims, held = await self._services.store.write(lambda tx: tasks.claim_these(tx, names, now, until))
        except StoreUnavailable:
            self.retry_later(names)
            raise
        self.retry_later(held)
        return claims

    def retry_later(self, names: Iterable[str]) -> None:
        """Claim these again after an interval: others work on them, or the database is unavailable."""
        self._held.update(names)
        if self._held and (self._pause is None or self._pause.done()):
            self._pause = self._services.background.start(self._wake_again())

    async def _wake_again(self) -> None:
        await _sleep_until(self._services.stopping, POLL_INTERVAL)
        self._waiting.update(dict.fromkeys(self._held))
        self._held.clear()
        self._wake()


async def _sleep_until(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
