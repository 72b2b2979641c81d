"""Check one task: ask its provider, and let the answer change it; after the deadline in the late watch.

The poller calls it for due tasks, the inbox when evidence is weak, the API when a person wants to know. A check that
fails says nothing about the task: only the state field of a status answer does.
"""

import asyncio
from dataclasses import dataclass

import httpx
import structlog

from receiver.core.attention import Reason
from receiver.core.errors import Conflict, NotFound, NotSent, ProviderError, StoreUnavailable, Unreadable
from receiver.core.messages import Event, Problem, Remote, Source
from receiver.core.states import SETTLED, State, Via
from receiver.core.times import format_duration
from receiver.lifecycle.apply import apply
from receiver.lifecycle.attempt_results import EXPIRES_UNCONFIRMED
from receiver.lifecycle.measuring import CHECK_FAILED
from receiver.lifecycle.pending import came_during, read_pending
from receiver.lifecycle.plans import plan_after_check, plan_late_check
from receiver.lifecycle.schedule import Checked as LastCheck
from receiver.lifecycle.schedule import Plan
from receiver.lifecycle.spending_limits import never_sent
from receiver.lifecycle.transition import Context, add_notices, deadline_counts_from, transition, write_changes
from receiver.services import Services
from receiver.store import Transaction, attention, journal, reading, tasks
from receiver.store.tables import Task
from receiver.store.task_row import TaskChanges, TaskRow
from receiver.store.tasks import Claim
from receiver.tasks import leases

log = structlog.get_logger()

UNDECIDED = (
    "The provider reported two different results, and no check decided before the deadline."
    " Look at the provider's task list."
)


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of a check: the state that the task was left in, and whether the request brought no usable answer."""

    state: State | None
    asked: bool = False
    failed: bool = False


async def check_now(services: Services, task_id: str) -> None:
    """Check one task at once, unless somebody else is checking it. Raises `NotFound` and `Conflict`.

    The check goes on even if its caller is cancelled.
    """
    task = await services.store.read(lambda session: reading.task(session, task_id))
    if task is None:
        raise NotFound(f"There is no task {task_id}.")
    if task.remote_id is None:
        raise Conflict("This task has no remote id yet, so it cannot be checked.")
    now, until = services.clock(), services.new_lease_end()
    claim = await services.store.write(lambda tx: tasks.claim_one(tx, task_id, now, until))
    if claim is not None:
        await asyncio.shield(services.background.start(check(services, claim)))


async def check(services: Services, claim: Claim, task: Task | None = None) -> Checked:
    """Check a claimed task, record what came of it, and give the lease back.

    `task` is its row where that was read since it was claimed.
    """
    try:
        return await _check(services, claim, task)
    except StoreUnavailable:
        leases.give_back(services, [claim])
        raise


async def _check(services: Services, claim: Claim, known: Task | None) -> Checked:
    task = known or await services.store.read(lambda session: reading.task(session, claim.task_id))
    if task is None:
        return Checked(None)
    if task.remote_id is None:
        return await services.store.write(lambda tx: _StatusRequest(services, claim, task).record(tx))
    request = _StatusRequest(services, claim, task)
    try:
        await request.send(task.remote_id)
    except asyncio.CancelledError:
        await asyncio.shield(services.store.write(request.give_back))
        raise
    try:
        checked = await services.store.write(request.record)
    except StoreUnavailable:
        raise
    except Exception as fault:  # noqa: BLE001 - what the adapter made of the answer cannot be stored
        request.fail(fault)
        checked = await services.store.write(request.record)
    log.info("check", task=task.id, provider=task.provider, state=checked.state, failed=checked.failed)
    return checked


@dataclass(slots=True)
class _StatusRequest:
    """One status request, or none where there is no id to ask about, and what follows from it."""

    services: Services
    claim: Claim
    task: Task
    asked_at: int | None = None
    event: Event | None = None
    error: ProviderError | Unreadable | None = None
    answer: httpx.Response | None = None
    notices: tuple[str, ...] = ()

    async def send(self, remote_id: str) -> None:
        """Send the request and read its answer; whatever goes wrong becomes the check's error."""
        self.asked_at = self.services.clock()
        provider = self.services.providers.get(self.task.provider)
        if provider is None:
            self.error = NotSent("not_configured", f"{self.task.provider} is not configured; set its API key.")
            return
        try:
            flow = provider.status(Remote(remote_id, self.task.model))
            event = await self.services.outbound.run(provider.name, flow, on_answer=self._answered)
        except (ProviderError, Unreadable) as error:
            self.error = error
        except Exception as fault:  # noqa: BLE001 - a fault of the adapter's code is a check that failed
            self.fail(fault)
        else:
            self.event = event
            if event.state is None:
                self.event, self.error = None, Unreadable("The answer has no state.")

    def fail(self, fault: Exception) -> None:
        """Count a fault of the adapter's code as a check without a usable answer."""
        log.error("adapter_failed", task=self.task.id, provider=self.task.provider, exc_info=fault)
        words = (
            f"The {self.task.provider} adapter failed on an answer ({type(fault).__name__}); the log has the details."
        )
        self.event, self.error, self.notices = None, Unreadable(words), (words,)

    def _answered(self, response: httpx.Response) -> None:
        self.answer = response

    def record(self, tx: Transaction) -> Checked:
        """Apply the answer, schedule the next check or end the task, and release the lease."""
        context = self.services.context(self.task.provider)
        row = tasks.current(tx, self.task.id)
        if row is None:
            return Checked(None)
        has_missed_event = came_during(row, self.claim.number)
        is_planned = has_missed_event or row.next_check_at != self.task.next_check_at
        planned = Plan.of(row.next_check_at, row.next_check_because) if is_planned else None
        history_id = None if self.asked_at is None else journal.note(tx, row.id, context.now, "check")
        outcome = CHECK_FAILED
        ours = row.claim == self.claim.number
        if self.event is not None and ours:
            outcome = apply(tx, row, self.event, Source(Via.CHECK, claim=self.claim.number), context).value
        if history_id is not None:
            self._record_check(tx, row, context, history_id, outcome)
        if ours:
            write_changes(tx, row, context, self._next_check(tx, row, context, planned) | {"leased_until": None})
        return Checked(row.state, asked=history_id is not None, failed=self.error is not None)

    def give_back(self, tx: Transaction) -> None:
        """Release the lease of a check that was broken off: the task is due as before."""
        row = tasks.current(tx, self.task.id)
        if row is not None and row.claim == self.claim.number:
            write_changes(tx, row, self.services.context(self.task.provider), {"leased_until": None})

    def _record_check(self, tx: Transaction, row: TaskRow, context: Context, history_id: int, outcome: str) -> None:
        if self.event is not None and self.event.found_at is not None:
            journal.complete_note(tx, history_id, {"found_at": self.event.found_at})
        journal.add_check(
            tx,
            history_id=history_id,
            task_id=row.id,
            asked_at=self.asked_at,
            ended_at=context.now,
            outcome=outcome,
            http_status=self.answer.status_code if self.answer else None,
            message=context.redact(str(self.error)) if self.error else None,
            answer=self.answer.content[: journal.KEPT_BYTES] if self.answer else None,
        )
        changes: TaskChanges = {"checks": row.checks + 1}
        write_changes(tx, row, context, changes | add_notices(row.notices, *self.notices))

    def _next_check(self, tx: Transaction, row: TaskRow, context: Context, planned: Plan | None) -> TaskChanges:
        """Return when the task is checked next; ends one whose deadline has passed.

        `planned` is what somebody else scheduled while this check was under way, because of a message that it missed.
        """
        until = awaited_until(row, context)
        if until is not None and context.now >= until and _watched_since(row, context) is None:
            expire(tx, row, context)
            until = awaited_until(row, context)
        if until is None or context.now >= until:
            return {"next_check_at": None}
        if planned is not None and planned.at <= context.now and row.remote_id is not None:
            return planned.changes()
        retry_after = self.error.retry_after if isinstance(self.error, ProviderError) else None
        if (since := _watched_since(row, context)) is not None:
            return plan_late_check(context, since, retry_after)
        if row.remote_id is None:
            return Plan(until, EXPIRES_UNCONFIRMED).changes()
        is_empty = row.state is State.SUCCEEDED or (self.event is not None and self.event.is_empty_success)
        checked = LastCheck(self.error is not None, is_empty, bool(row.callback_url), retry_after)
        return plan_after_check(tx, row, context, checked, until, scheduled=planned)


def awaited_until(row: TaskRow, context: Context) -> int | None:
    """Return until when a task is still checked; None where nothing is left to be learned.

    A task under way is checked until its deadline; an expired one, and a success without a result, in the late watch,
    too. A contradiction of a final state has as long as a deadline from when it came; an event for an expired task is
    believed after one check. A success whose links are dead is checked for new ones.
    """
    state, due = row.state, context.schedule.due(deadline_counts_from(row))
    if state not in SETTLED:
        return due
    if state is State.CANCELLED or row.remote_id is None:
        return None
    if (pending := read_pending(row.pending)) is not None:
        return due if state is State.EXPIRED else max(due, context.schedule.due(pending.since))
    if state is State.SUCCEEDED and row.fresh_links_until is not None:
        return row.fresh_links_until
    if state is State.EXPIRED:
        return context.schedule.watched_until(row.finished_at or due)
    return context.schedule.watched_until(due) if state is State.SUCCEEDED and row.empties else None


def _watched_since(row: TaskRow, context: Context) -> int | None:
    """Return since when a task is in the late watch, if it is: since it expired, or since the deadline of a success
    without a result. What awaits its confirmation is no part of that."""
    if row.remote_id is None or row.pending is not None or row.fresh_links_until is not None:
        return None
    due = context.schedule.due(deadline_counts_from(row))
    if row.state is State.EXPIRED:
        return row.finished_at or due
    return due if row.state is State.SUCCEEDED and row.empties and context.now >= due else None


def expire(tx: Transaction, row: TaskRow, context: Context) -> None:
    """End a task at its deadline: a pending event is believed now, a success without a result counts, and anything
    else expires."""
    pending = read_pending(row.pending)
    if pending is not None:
        apply(tx, row, pending.event, pending.source, context)
        if row.pending is not None and (undecided := add_notices(row.notices, UNDECIDED)):
            # It contradicts an end that only the provider itself can undo.
            write_changes(tx, row, context, undecided)
            attention.raise_reason(tx, row.id, Reason.CONTRADICTION, context.now)
    elif row.empties and row.state not in SETTLED:
        apply(tx, row, Event(State.SUCCEEDED), Source(Via.CHECK), context)
    if row.state not in SETTLED:
        words = f"No result arrived within {format_duration(round(context.schedule.deadline * 1000))}."
        transition(tx, row, State.EXPIRED, Via.CLOCK, context, why=never_sent(row) or Problem("deadline", words))
