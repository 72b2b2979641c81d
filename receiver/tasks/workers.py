"""Work on one account's due orders, or on its due checks: so many at once, the longest due first.

`poller` decides when there is something to look for. Leases in the database keep two workers from one task, also those
of other processes; a task is claimed when its request can leave, so that no lease runs out while it waits.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from receiver.core.states import State
from receiver.lifecycle import attempt_results
from receiver.lifecycle.transition import queue_deadline_counts_from
from receiver.outbound.client import MAX_REQUESTS, Kind
from receiver.services import Services
from receiver.store import reading, tasks
from receiver.store.tables import Task
from receiver.store.tasks import Claim
from receiver.tasks import attempts, checks, leases

AT_ONCE = MAX_REQUESTS
"""Requests of a kind under way at once to one provider account."""
GATHER_SECONDS = 0.01
"""Seconds that a place which came free waits for others: what is claimed together is one write."""
UNUSABLE = frozenset({"not_sent", "busy", "unconfirmed"})
"""Ends of a try that count as failed: a refusal is an answer."""

Report = Counter[str]
Claims = Callable[[int], Awaitable[list[Claim]]]
"""Takes leases on at most so many tasks."""


class Workers:
    """What is done at once of one kind for one account."""

    def __init__(
        self,
        services: Services,
        account: str,
        kind: Kind,
        stop: asyncio.Event,
        *,
        claim: Claims | None = None,
        retry_later: Callable[[list[str]], object] = list,
    ) -> None:
        """Begin with nothing under way; after `stop` nothing more is claimed.

        `claim` takes the leases where not all that is due is to be worked on; `retry_later` is called with the tasks
        that were claimed in vain.
        """
        self.report: Report = Counter()
        self._services = services
        self._account = account
        self._kind = kind
        self._stop = stop
        self._claim = claim or self._claim_due
        self._come_back = retry_later
        self._due = 0
        self._more = False
        self._claiming: asyncio.Task[None] | None = None
        self._working: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None

    def wake(self) -> None:
        """See to it that what is due now is begun as soon as there is room for it."""
        self._mark_due()
        if self._claiming is None or self._claiming.done():
            self._claiming = self._services.background.start(self._claim_all())

    async def finish(self) -> None:
        """Work on what is due now until none of it is left. What was begun is finished, whatever befell the others;
        then raises what went wrong."""
        self._mark_due()
        try:
            await self._claim_all()
        finally:
            while self._working:
                await asyncio.wait(self._working)
        if self._error is not None:
            raise self._error

    def _mark_due(self) -> None:
        self._due = self._services.clock()
        self._more = True

    async def _claim_all(self) -> None:
        while self._more and not (self._stop.is_set() or self._services.stopping.is_set()):
            room = self._free_places()
            if room == 0:
                await asyncio.wait(self._working, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(GATHER_SECONDS)
                continue
            self._more = False
            claims = await self._claim(room)
            if len(claims) == room:
                self._more = True
            if claims:
                await self._begin(claims)

    def _free_places(self) -> int:
        """Return how many may be begun. Where others hold all places, one at least waits in line with them."""
        least = 0 if self._working else 1
        return max(
            min(AT_ONCE - len(self._working), self._services.outbound.free_slots(self._account, self._kind)), least
        )

    async def _claim_due(self, most: int) -> list[Claim]:
        until = self._services.new_lease_end()
        # Where the clock was set back since it was looked at, what was worked on would be due again at once.
        due = min(self._due, self._services.clock())
        orders = self._kind is Kind.ORDER
        return await self._services.store.write(
            lambda tx: tasks.claim_due(tx, self._account, due, until, most, orders=orders)
        )

    async def _begin(self, claims: Sequence[Claim]) -> None:
        try:
            known = await self._services.store.read(
                lambda session: reading.tasks(session, [it.task_id for it in claims])
            )
        except BaseException:  # the database is away, or the service stops
            leases.give_back(self._services, claims)
            self._come_back([claim.task_id for claim in claims])
            raise
        for claim in claims:
            if claim.task_id in known:
                work = work_on(self._services, claim, known[claim.task_id], self.report)
                one = self._services.background.start(work)
                self._working.add(one)
                one.add_done_callback(self._ended)

    def _ended(self, one: asyncio.Task[None]) -> None:
        self._working.discard(one)
        if not one.cancelled():
            self._error = self._error or one.exception()


async def work_on(services: Services, claim: Claim, task: Task, report: Report) -> None:
    """Do for a claimed task what it is due for, counting into `report`."""
    context = services.context(task.provider)
    sendable = task.state is State.QUEUED and context.now < context.schedule.due(queue_deadline_counts_from(task))
    if sendable or task.state is State.SUBMITTING:
        tried = await attempts.attempt(services, claim)
        report["submitted"] += tried.outcome == attempt_results.ACCEPTED
        report["failed"] += tried.outcome in UNUSABLE
        state = tried.state
    else:
        checked = await checks.check(services, claim, task)
        report["checked"] += checked.asked
        report["failed"] += checked.failed
        state = checked.state
    if state is not task.state:
        report["settled"] += state in (State.SUCCEEDED, State.FAILED)
        report["expired"] += state is State.EXPIRED
