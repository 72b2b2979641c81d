"""Look at every task that is due: ask about it, submit it again, or end it. Any number of pollers may sweep at once.

`app` runs one in the service's loop, `receiver poll` and `POST /api/poll` run single sweeps. Leases in the database
keep two of them from one task. Each provider account is swept by itself, so that a slow one holds up no other.
"""

import asyncio
from collections import Counter

import structlog

from receiver import attempts, checks, endings
from receiver.errors import StoreUnavailable
from receiver.services import Services
from receiver.states import State
from receiver.store import heartbeats, reading, tasks
from receiver.store.tasks import Claim

log = structlog.get_logger()

AT_ONCE = 8
"""Requests under way at once to one provider account."""
LOOK_EVERY = 0.5
"""Seconds between two looks for due tasks."""
BEAT_EVERY = 10.0
"""Seconds between two signs of life, whatever there is to do."""
MEND_EVERY = 60
"""Looks between two searches for plans of a clock that was set back, where it was not seen to be."""
COUNTED = ("submitted", "checked", "settled", "expired", "failed")
UNUSABLE = frozenset({"not_sent", "busy", "unconfirmed"})
"""Ends of a try that count as failed: a refusal is an answer."""

Report = Counter[str]


async def sweep(services: Services, report: Report, stop: asyncio.Event) -> None:
    """Look at everything that is due now, counting into `report`; after `stop`, only what was begun is finished."""
    await beat(services)
    await mend_plans(services)
    accounts = await services.store.read(lambda session: reading.due_accounts(session, services.clock()))
    await asyncio.gather(*(sweep_account(services, account, report, stop) for account in accounts))


async def beat(services: Services) -> None:
    """Write down that somebody sweeps: `receiver doctor` and `/metrics` tell when nobody does."""
    now = services.clock()
    await services.store.write(lambda tx: heartbeats.beat(tx, heartbeats.POLLER, now))


async def sweep_account(services: Services, account: str, report: Report, stop: asyncio.Event) -> None:
    """Look at one account's due tasks, several at once, the longest due first."""
    due = services.clock()
    ended = await asyncio.gather(
        *(_work(services, account, due, report, stop) for _ in range(AT_ONCE)),
        return_exceptions=True,  # what was begun is finished, whatever befell the others
    )
    for error in ended:
        if error is not None:
            raise error


async def _work(services: Services, account: str, due: int, report: Report, stop: asyncio.Event) -> None:
    """Look at an account's tasks that were due at a time, one after the other, until none is left."""
    while not (stop.is_set() or services.stopping.is_set()):
        claim = await _claim(services, account, due)
        if claim is None:
            return
        await _look(services, claim, report)


async def _claim(services: Services, account: str, due: int) -> Claim | None:
    until = services.lease_end()
    # Where the clock was set back since the sweep began, what was looked at would be due again at once.
    due = min(due, services.clock())
    claims = await services.store.write(lambda tx: tasks.claim_due(tx, account, due, until, 1))
    return claims[0] if claims else None


async def _look(services: Services, claim: Claim, report: Report) -> None:
    task = await services.store.read(lambda session: reading.task(session, claim.task_id))
    if task is None:
        return
    context = services.context(task.provider)
    sendable = task.state is State.QUEUED and context.now < context.schedule.due(task.deadline_from or task.created_at)
    if sendable or task.state is State.SUBMITTING:
        tried = await attempts.attempt(services, claim)
        report["submitted"] += tried.outcome == endings.ACCEPTED
        report["failed"] += tried.outcome in UNUSABLE
        state = tried.state
    else:
        checked = await checks.check(services, claim)
        report["checked"] += checked.asked
        report["failed"] += checked.failed
        state = checked.state
    if state is not task.state:
        report["settled"] += state in (State.SUCCEEDED, State.FAILED)
        report["expired"] += state is State.EXPIRED


async def mend_plans(services: Services) -> None:
    """Let nothing wait for a time that only a clock has seen which was set back since."""
    now = services.clock()
    if await services.store.read(lambda session: reading.plans_of_tomorrow(session, now)):
        number = await services.store.write(lambda tx: tasks.replan(tx, now))
        log.warning("clock_was_set_back", tasks_planned_again=number)


class Poller:
    """Sweeps for as long as the service runs."""

    def __init__(self, services: Services, beat_every: float = BEAT_EVERY) -> None:
        self._services = services
        self._beat_every = beat_every
        self._stop = services.stopping
        self._working: dict[str, set[asyncio.Task[None]]] = {}
        self._next_beat = 0.0
        self._looks = 0
        self._last_look = 0

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
            self._start_work(account, now)

    def _start_work(self, account: str, due: int) -> None:
        """Begin with several at once; while some hang in a request, let another take what has become due since."""
        working = self._working.setdefault(account, set())
        for _ in range(min(1, AT_ONCE - len(working)) if working else AT_ONCE):
            one = self._services.background.start(_work(self._services, account, due, Counter(), self._stop))
            working.add(one)
            one.add_done_callback(working.discard)


async def _sleep_until(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
