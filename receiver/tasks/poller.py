"""Look for tasks that are due: to be asked about, submitted again, or ended. Any number of pollers may sweep at once.

`app` runs one in the service's loop, `receiver poll` and `POST /api/poll` run single sweeps. Each provider account is
swept by itself, its orders and its checks apart, so that what is slow holds up nothing else.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable

import structlog

from receiver.core.errors import StoreUnavailable
from receiver.outbound.client import Kind
from receiver.services import Services
from receiver.store import heartbeats, reading, tasks
from receiver.store.tasks import Claim
from receiver.tasks.workers import AT_ONCE, Report, Workers

__all__ = ["AT_ONCE", "COUNTED", "Poller", "Report", "beat", "mend_plans", "sweep"]

log = structlog.get_logger()

LOOK_EVERY = 0.5
"""Seconds between two looks for due tasks."""
BEAT_EVERY = 10.0
"""Seconds between two signs of life, whatever there is to do."""
MEND_EVERY = 60
"""Looks between two searches for plans of a clock that was set back, where it was not seen to be."""
MAX_CAUSED = 10_000
"""Checks of one account that wait for their turn where nothing sweeps; those beyond are left to the next sweep."""
COUNTED = ("submitted", "checked", "settled", "expired", "failed")


async def sweep(services: Services, report: Report, stop: asyncio.Event) -> None:
    """Look at everything that is due now, counting into `report`; after `stop`, only what was begun is finished."""
    await beat(services)
    await mend_plans(services)
    accounts = await services.store.read(lambda session: reading.due_accounts(session, services.clock()))
    working = [Workers(services, account, kind, stop) for account in accounts for kind in (Kind.ORDER, Kind.CHECK)]
    for workers in working:
        workers.report = report
    ended = await asyncio.gather(*(workers.finish() for workers in working), return_exceptions=True)
    for error in ended:
        if error is not None:
            raise error


async def beat(services: Services) -> None:
    """Write down that somebody sweeps: `receiver doctor` and `/metrics` tell when nobody does."""
    now = services.clock()
    await services.store.write(lambda tx: heartbeats.beat(tx, heartbeats.POLLER, now))


async def mend_plans(services: Services) -> None:
    """Let nothing wait for a time that only a clock has seen which was set back since."""
    now = services.clock()
    if await services.store.read(lambda session: reading.plans_of_tomorrow(session, now)):
        number = await services.store.write(lambda tx: tasks.replan(tx, now))
        log.warning("clock_was_set_back", tasks_planned_again=number)


class Poller:
    """Looks for work as long as the service runs: after each pause, and at once when a callback made a task due.

    One that does not sweep is not run: it looks only at what callbacks made due.
    """

    def __init__(self, services: Services, beat_every: float = BEAT_EVERY, *, sweeps: bool = True) -> None:
        self._services = services
        self._sweeps = sweeps
        self._beat_every = beat_every
        self._stop = services.stopping
        self._workers: dict[tuple[str, Kind], Workers] = {}
        self._caused: dict[str, Caused] = {}
        self._next_beat = 0.0
        self._looks = 0
        self._last_look = 0
        services.due_now.listen(self._hear)
        services.outbound.on_lost_place = self._tell_of_lost_place

    async def run(self) -> None:
        """Start work on every account that has due tasks, again and again, until the service stops.

        What was begun is finished by the services' background.
        """
        while not self._stop.is_set():
            try:
                await self._look_for_work()
                await self._beat()
            except StoreUnavailable as error:
                log.warning("poller_waits", reason=str(error))
            await _sleep_until(self._stop, LOOK_EVERY)

    async def _beat(self) -> None:
        passed = asyncio.get_running_loop().time()  # by a clock that nobody sets
        if passed >= self._next_beat:
            self._next_beat = passed + self._beat_every
            await beat(self._services)

    async def _look_for_work(self) -> None:
        now = self._services.clock()
        if now < self._last_look or self._looks % MEND_EVERY == 0:
            await mend_plans(self._services)
        self._looks, self._last_look = self._looks + 1, now
        for account in await self._services.store.read(lambda session: reading.due_accounts(session, now)):
            for kind in (Kind.ORDER, Kind.CHECK):
                self._of(account, kind).look()

    def _hear(self, account: str, task_id: str) -> None:
        """Look at what a callback made due."""
        workers = self._of(account, Kind.CHECK)
        if not self._sweeps:
            self._caused[account].add(task_id)
        workers.look()

    def _of(self, account: str, kind: Kind) -> Workers:
        workers = self._workers.get((account, kind))
        if workers is None:
            workers = self._workers[account, kind] = self._make(account, kind)
        return workers

    def _make(self, account: str, kind: Kind) -> Workers:
        if self._sweeps:
            return Workers(self._services, account, kind, self._stop)
        caused = self._caused[account] = Caused(self._services, lambda: self._of(account, kind).look())
        return Workers(self._services, account, kind, self._stop, claim=caused.claim, come_back=caused.come_back)

    def _tell_of_lost_place(self, account: str) -> None:
        """Write down that a place for an account's requests was lost, for `receiver doctor`."""
        name, now = heartbeats.LOST_PLACE + account, self._services.clock()
        self._services.background.start(self._services.store.write(lambda tx: heartbeats.beat(tx, name, now)))


class Caused:
    """Checks of one account that callbacks caused, and that no sweep of this process would find.

    Nothing is lost with it: what it names is due in the database.
    """

    def __init__(self, services: Services, look: Callable[[], None]) -> None:
        """Take what begins to claim anew."""
        self._services = services
        self._look = look
        self._waiting: OrderedDict[str, None] = OrderedDict()
        self._held: set[str] = set()
        self._pause: asyncio.Task[None] | None = None

    def add(self, task_id: str) -> None:
        """Remember a task that became due."""
        if len(self._waiting) < MAX_CAUSED:
            self._waiting[task_id] = None

    async def claim(self, most: int) -> list[Claim]:
        """Take leases on at most so many, and forget those that are not due any more."""
        taken: list[Claim] = []
        while self._waiting and len(taken) < most:
            try:
                taken += await self._claim_some(most - len(taken))
            except StoreUnavailable:
                if not taken:
                    raise
                break  # what is claimed is worked on
        return taken

    async def _claim_some(self, most: int) -> list[Claim]:
        now, until = self._services.clock(), self._services.lease_end()
        # Taken out before: one that becomes due once more meanwhile is to be looked at once more.
        names = [self._waiting.popitem(last=False)[0] for _ in range(min(most, len(self._waiting)))]
        try:
            claims, held = await self._services.store.write(lambda tx: tasks.claim_these(tx, names, now, until))
        except StoreUnavailable:
            self.come_back(names)
            raise
        self.come_back(held)
        return claims

    def come_back(self, names: Iterable[str]) -> None:
        """Look again, after a pause, at what could not be claimed: others work on it, or the database is away."""
        self._held.update(names)
        if self._held and (self._pause is None or self._pause.done()):
            self._pause = self._services.background.start(self._look_again())

    async def _look_again(self) -> None:
        await _sleep_until(self._services.stopping, LOOK_EVERY)
        self._waiting.update(dict.fromkeys(self._held))
        self._held.clear()
        self._look()


async def _sleep_until(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
