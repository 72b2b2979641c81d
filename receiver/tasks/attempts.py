"""Attempt to submit one claimed task: attempt row -> request -> submitted, refused, queued or unconfirmed.

`submission` calls it for a new task, the poller for one that waits. The attempt is committed before its request
leaves. A request that may have been received is never sent again, unless the provider takes an idempotency key: then
its bytes are repeated under the same key for a quarter of an hour. `attempt_results.may_depart` holds to that, in the
transaction that commits the attempt, and so does an index of the database.
"""

import asyncio
from dataclasses import dataclass, replace

import httpx
import structlog

from receiver.core.errors import NotSent, ProviderError, StoreUnavailable, Unconfirmed
from receiver.core.messages import Event, Order
from receiver.core.states import State, Via
from receiver.lifecycle.attempt_results import (
    REPEATS_END,
    STOPPED,
    AttemptResult,
    may_depart,
    outcome_of,
    record_result,
    resolve,
)
from receiver.lifecycle.spending_limits import hold, let_go, reason_to_wait
from receiver.lifecycle.transition import (
    Context,
    add_notices,
    deadline_counts_from,
    queue_deadline_counts_from,
    transition,
    write_changes,
)
from receiver.providers.base import Provider
from receiver.services import Services
from receiver.store import Transaction, Unit, journal, reading, tasks
from receiver.store.journal import Purchase
from receiver.store.tables import Task
from receiver.store.task_row import TaskChanges, TaskRow
from receiver.store.tasks import Claim
from receiver.tasks import leases

log = structlog.get_logger()

_BODY_HEADERS = frozenset({"host", "content-length"})
"""Headers that follow from the repeated address and body."""


class _NoLongerOursError(Exception):
    """The task was moved or claimed by somebody else before the request left."""


@dataclass(frozen=True, slots=True)
class Attempted:
    """What came of an attempt: the state that the task was left in, and how its request ended, if one was sent:
    accepted, refused, not_sent, busy or unconfirmed."""

    state: State | None = None
    outcome: str | None = None


async def attempt(services: Services, claim: Claim) -> Attempted:
    """Make one attempt, or repeat an unclear one under its key. What became of it is in the database."""
    try:
        return await _attempt(services, claim)
    except StoreUnavailable:
        leases.give_back(services, [claim])
        raise


async def _attempt(services: Services, claim: Claim) -> Attempted:
    task = await services.store.read(lambda session: reading.task(session, claim.task_id))
    if task is None:
        return Attempted()
    provider = services.providers.get(task.provider)
    repeats = None
    if task.state is State.SUBMITTING:
        resolved = await services.store.write(lambda tx: resolve_interrupted(tx, services, claim))
        if isinstance(resolved, Attempted):
            return resolved
        repeats = resolved
    if provider is None:
        return await services.store.write(lambda tx: _wait(tx, claim, repeats, services.context(task.provider)))
    return await _RunningAttempt(services, claim, provider, task, repeats).run()


def resolve_interrupted(tx: Transaction, services: Services, claim: Claim) -> Purchase | Attempted:
    """Return the purchase to repeat under its key; else what became of a submission that somebody left."""
    row = claimed_task(tx, claim)
    if row is None:
        return Attempted()
    context, provider = services.context(row.provider), services.providers.get(row.provider)
    purchase = None
    if row.state == State.SUBMITTING:
        purchase = resolve(
            tx, row, context, supports_idempotency_keys=provider.supports_idempotency_keys if provider else None
        )
    if purchase is not None:
        return purchase
    write_changes(tx, row, context, {"leased_until": None})
    return Attempted(row.state)


def _wait(tx: Transaction, claim: Claim, repeats: Purchase | None, context: Context) -> Attempted:
    """Postpone a task whose provider is not configured; `repeats` is its unclear purchase, if any."""
    row = claimed_task(tx, claim)
    if row is None:
        return Attempted()
    words = f"Not sent: {row.provider} is not configured; set its API key."
    since = deadline_counts_from(row) if repeats is None else context.now
    later = context.schedule.next_try(
        context.now, since, row.gaps, context.chance, why=f"{row.provider} is not configured"
    )
    changes = later.changes() | TaskChanges(leased_until=None, gaps=row.gaps + 1)
    if repeats is not None:
        changes["next_check_at"] = min(later.at, repeats.departed_at + REPEATS_END)
    changes |= let_go(row, context.now) | add_notices(row.notices, words)
    write_changes(tx, row, context, changes)
    return Attempted(row.state)


def claimed_task(tx: Transaction, claim: Claim) -> TaskRow | None:
    """Return the row of a claimed task; None where somebody else has claimed it since."""
    row = tasks.current(tx, claim.task_id)
    return row if row is not None and row.claim == claim.number else None


@dataclass(slots=True)
class _RunningAttempt:
    """One request that buys, from before it leaves until after its answer. `repeats` is the purchase it repeats."""

    services: Services
    claim: Claim
    provider: Provider
    task: Task
    repeats: Purchase | None
    attempt_id: int | None = None
    answer: httpx.Response | None = None

    async def run(self) -> Attempted:
        """Send the request and record how it ended, also where this process is being stopped."""
        result: AttemptResult | None = None
        try:
            event, error = await self._send()
            result = self._result(event, error)
            state = await self._record(result)
        except _NoLongerOursError:
            return Attempted()
        except StoreUnavailable:
            # The attempt may have been committed all the same, and its request has not left.
            await self.services.write_until_deadline(self._give_back)
            raise
        except asyncio.CancelledError:
            stopped = result or self._result(None, Unconfirmed("crashed", STOPPED))
            unit = self._give_back if self.attempt_id is None else self._recording(stopped)
            await asyncio.shield(self.services.store.write(unit))
            raise
        log.info("attempt", task=self.task.id, provider=self.provider.name, outcome=outcome_of(error))
        return Attempted(state, outcome_of(error))

    async def _send(self) -> tuple[Event | None, ProviderError | None]:
        key = self.repeats.key if self.repeats else f"{self.task.id}-{self.task.attempts + 1}"
        order = Order(self.task.id, self.task.model, self.task.input, fill_defaults=self.task.validated)

        async def depart(request: httpx.Request) -> httpx.Request:
            return await self._depart(request, key)

        try:
            flow = self.provider.submit(order, self._callback_url(), key)
            event = await self.services.outbound.run(
                self.provider.name, flow, on_answer=self._answered, before_paid=depart
            )
        except ProviderError as error:
            return None, error
        except (StoreUnavailable, _NoLongerOursError):
            raise
        except Exception as fault:  # noqa: BLE001 - an adapter's own fault must not leave a purchase without its end
            return None, self._adapter_fault(fault)
        return event, None

    def _adapter_fault(self, fault: Exception) -> ProviderError:
        """Return what a fault of the adapter's code means: before the request left, nothing was bought."""
        log.error("adapter_failed", task=self.task.id, provider=self.provider.name, exc_info=fault)
        words = f"The {self.provider.family} adapter failed ({type(fault).__name__}); the log has the details."
        status = self.answer.status_code if self.answer else None
        if self.attempt_id is None:
            return NotSent("adapter_fault", words, http_status=status)
        return Unconfirmed("broken_answer", words, http_status=status)

    async def _record(self, result: AttemptResult) -> State | None:
        try:
            return await self.services.write_until_deadline(self._recording(result))
        except StoreUnavailable:
            return None  # not stored for as long as the task had: its open attempt says that it is unclear
        except Exception as fault:  # noqa: BLE001 - what the adapter made of the answer cannot be stored
            return await self.services.write_until_deadline(
                self._recording(self._result(None, self._adapter_fault(fault)))
            )

    def _recording(self, result: AttemptResult) -> Unit[State | None]:
        def record(tx: Transaction) -> State | None:
            return record_result(tx, result, self.services.context(self.provider.name))

        return record

    def _give_back(self, tx: Transaction) -> State | None:
        """Give the lease back without having sent anything, and end the attempt if it was committed."""
        row = claimed_task(tx, self.claim)  # first, since it waits for a commit of ours that PostgreSQL may still be at
        context = self.services.context(self.provider.name)
        attempt_id = journal.open_attempts(tx, self.claim.task_id).get(self.claim.number)
        if attempt_id is not None:
            unsent = self._result(None, NotSent("not_sent", "the request was not sent."))
            return record_result(tx, replace(unsent, attempt_id=attempt_id), context)
        if row is not None:
            write_changes(tx, row, context, leases.given_back(row, context.now))
        return None

    def _result(self, event: Event | None, error: ProviderError | None) -> AttemptResult:
        return AttemptResult(
            claim=self.claim,
            attempt_id=self.attempt_id,
            repeats=self.repeats,
            supports_idempotency_keys=self.provider.supports_idempotency_keys,
            answer=self.answer,
            event=event,
            error=error,
        )

    def _callback_url(self) -> str | None:
        if not self.provider.takes_callbacks:
            return None
        return self.services.links.callback_url(self.provider.name, self.task.id)

    def _answered(self, response: httpx.Response) -> None:
        self.answer = response

    async def _depart(self, request: httpx.Request, key: str) -> httpx.Request:
        """Commit the attempt; only then may its request leave. A repeat sends the very bytes of the first attempt."""
        if self.repeats is not None:
            request = httpx.Request(
                self.repeats.method,
                self.repeats.url,
                headers={name: value for name, value in request.headers.items() if name not in _BODY_HEADERS},
                content=self.repeats.body,
                extensions=request.extensions,
            )
        until = self.services.new_lease_end()
        self.attempt_id = await self.services.store.write(lambda tx: self._begin(tx, request, key, until))
        if self.attempt_id is None:
            raise _NoLongerOursError
        if self.services.clock() >= until:
            # We were delayed for longer than the lease: somebody may have resolved the task as unclear by now.
            raise NotSent("not_sent", "it waited past its lease and was not sent.")
        return request

    def _begin(self, tx: Transaction, request: httpx.Request, key: str, until: int) -> int | None:
        """Commit the attempt with the lease that covers it; None where the task is not ours to send, or must wait."""
        context = self.services.context(self.provider.name)
        row = claimed_task(tx, self.claim)
        if row is None:
            return None
        if self.services.stopping.is_set():
            write_changes(tx, row, context, leases.given_back(row, context.now))
            return None
        if (
            row.state not in (State.QUEUED, State.SUBMITTING)  # a callback was faster
            or not may_depart(
                tx, row, self.repeats, context, supports_idempotency_keys=self.provider.supports_idempotency_keys
            )
            or (row.state == State.QUEUED and self._has_to_wait(tx, row, context))
        ):
            write_changes(tx, row, context, {"leased_until": None})
            return None
        number = row.attempts + 1
        changes: TaskChanges = {
            "attempts": number,
            "submitted_at": context.now,
            "callback_url": self._callback_url() is not None,
            "may_have_cost": True,
            "leased_until": until,
            "next_check_at": until,  # if we die, whoever looks then finds the lease run out
            "next_check_because": "It is being sent; if its answer is lost, that is noticed then.",
        }
        changes |= let_go(row, context.now)
        if row.state is State.QUEUED:
            transition(tx, row, State.SUBMITTING, Via.SUBMISSION, context, changes=changes)
        else:
            write_changes(tx, row, context, changes)
        return journal.add_attempt(
            tx,
            history_id=journal.note(tx, row.id, context.now, "attempt"),
            task_id=row.id,
            number=number,
            key=key,
            method=request.method,
            url=str(request.url),
            body=request.content,
            departed_at=context.now,
            claim=self.claim.number,
            may_have_bought=True,
            repeats=self.repeats is not None,
        )

    def _has_to_wait(self, tx: Transaction, row: TaskRow, context: Context) -> bool:
        """Keep the task queued where a limit says so; in the transaction that would have committed the attempt."""
        config = self.services.settings.providers[self.provider.name]
        wait = reason_to_wait(tx, row, config, self.provider.create_rate, context.now)
        if wait is None:
            return False
        held = hold(row, wait, context)
        since = held.get("deadline_from") or queue_deadline_counts_from(row)
        later = context.schedule.next_try(
            context.now, since, row.gaps, context.chance, wait.seconds, why=f"{wait.limit} holds it back"
        )
        changes = later.changes() | TaskChanges(gaps=row.gaps + (wait.seconds is None))
        write_changes(tx, row, context, changes | held | add_notices(row.notices, wait.why))
        return True
