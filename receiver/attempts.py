"""Try to hand one claimed task to its provider: attempt row -> request -> submitted, refused, queued or unconfirmed.

`submission` calls it for a new task, the poller for one that waits. The attempt is committed before its request
leaves. A request that may have been received is never sent again, unless the provider takes an idempotency key: then
its bytes are repeated under the same key for a quarter of an hour.
"""

import asyncio
from dataclasses import dataclass

import httpx
import structlog

from receiver.endings import REPEATS_END, Ending, outcome_of, repeats_are_over, unconfirm, why_unclear
from receiver.errors import ProviderError, Unconfirmed
from receiver.limits import reason_to_wait
from receiver.messages import Event, Order, Problem
from receiver.moves import Context, Row, departed, move, notice, write
from receiver.providers.base import Provider
from receiver.services import Services
from receiver.states import State, Via
from receiver.store import Transaction, journal, reading, tasks
from receiver.store.tasks import Claim
from receiver.tables import Attempt, Task

log = structlog.get_logger()

_OF_THE_BYTES = frozenset({"host", "content-length"})
"""Headers that follow from the repeated address and body."""
STOPPED = "The service stopped while the request was on its way; whether it was received is not known."


class _NoLongerOursError(Exception):
    """The task was moved or claimed by somebody else before the request left."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a look at a task that is to be sent: the state it was left in, and how its request ended, if one
    left: accepted, refused, not_sent, busy or unconfirmed."""

    state: State | None = None
    outcome: str | None = None


async def attempt(services: Services, claim: Claim) -> Tried:
    """Make one try, or repeat an unclear one under its key. What became of it is in the database."""
    task, last = await services.store.read(
        lambda session: (reading.task(session, claim.task_id), reading.last_attempt(session, claim.task_id))
    )
    if task is None:
        return Tried()
    first = None
    if task.state is State.SUBMITTING:
        if last is None or last.ended_at is None:
            return await services.store.write(lambda tx: _crashed(tx, claim, services.context(task.provider)))
        first = await services.store.read(lambda session: reading.first_attempt(session, claim.task_id, last.key))
        if first is not None and repeats_are_over(first, services.clock()):
            return await services.store.write(lambda tx: _give_up(tx, claim, first, services.context(task.provider)))
    provider = services.providers.get(task.provider)
    if provider is None:
        return await services.store.write(lambda tx: _wait(tx, claim, first, services.context(task.provider)))
    return await _Try(services, claim, provider, task, repeats=first).run()


def _wait(tx: Transaction, claim: Claim, first: Attempt | None, context: Context) -> Tried:
    """Put a task off whose provider is not configured; `first` is the first of its unclear tries, if any."""
    row = _claimed(tx, claim)
    if row is None:
        return Tried()
    words = f"Not sent: {row['provider']} is not configured; set its API key."
    since = departed(row) if first is None else context.now
    later = context.schedule.next_try(context.now, since, row["gaps"], context.chance)
    if first is not None:
        later = min(later, first.departed_at + REPEATS_END)
    changes = {"leased_until": None, "next_check_at": later, "gaps": row["gaps"] + 1}
    write(tx, row, context, notice(row, words) | changes)
    return Tried(State(row["state"]))


def _crashed(tx: Transaction, claim: Claim, context: Context) -> Tried:
    """Resolve a submission whose process died with the request possibly on the wire."""
    row = _claimed(tx, claim)
    if row is None:
        return Tried()
    return Tried(unconfirm(tx, row, Problem("crashed", STOPPED), context, via=Via.CLOCK))


def _give_up(tx: Transaction, claim: Claim, first: Attempt, context: Context) -> Tried:
    """Leave a submission to its callback or a person: its key may be forgotten by now."""
    row = _claimed(tx, claim)
    if row is None:
        return Tried()
    words = f"No usable answer came, also to repeats under the same key. First: {first.message}"
    return Tried(unconfirm(tx, row, Problem(why_unclear(first), words), context))


def _claimed(tx: Transaction, claim: Claim) -> Row | None:
    row = tasks.current(tx, claim.task_id)
    return row if row is not None and row["claim"] == claim.number else None


@dataclass(slots=True)
class _Try:
    """One request that buys, from before it leaves until after its answer. `repeats` is the first try under its key."""

    services: Services
    claim: Claim
    provider: Provider
    task: Task
    repeats: Attempt | None
    attempt_id: int | None = None
    answer: httpx.Response | None = None

    async def run(self) -> Tried:
        key = self.repeats.key if self.repeats else f"{self.task.id}-{self.task.attempts + 1}"
        order = Order(self.task.id, self.task.model, self.task.input, complete=self.task.validated)
        flow = self.provider.submit(order, self._callback_url(), key)
        event, error = None, None

        async def depart(request: httpx.Request) -> httpx.Request:
            return await self._depart(request, key)

        try:
            event = await self.services.outbound.run(
                self.provider.name, flow, answered=self._answered, before_paid=depart
            )
        except ProviderError as failed:
            error = failed
        except _NoLongerOursError:
            return Tried()
        except asyncio.CancelledError:
            # The service stops: what was on the wire may have been received, and the lease is given back.
            stopped = Unconfirmed("crashed", STOPPED)
            await asyncio.shield(self.services.store.write(lambda tx: self._ending(None, stopped).write_down(tx)))
            raise
        state = await self.services.insist(self._ending(event, error).write_down)
        log.info("attempt", task=self.task.id, provider=self.provider.name, outcome=outcome_of(error))
        return Tried(state, outcome_of(error))

    def _ending(self, event: Event | None, error: ProviderError | None) -> Ending:
        return Ending(
            claim=self.claim,
            attempt_id=self.attempt_id,
            repeats=self.repeats,
            takes_keys=self.provider.takes_keys,
            answer=self.answer,
            event=event,
            error=error,
            context=lambda: self.services.context(self.provider.name),
        )

    def _callback_url(self) -> str | None:
        if not self.provider.takes_callbacks:
            return None
        return self.services.links.callback_url(self.provider.name, self.task.id)

    def _answered(self, response: httpx.Response) -> None:
        self.answer = response

    def _has_to_wait(self, tx: Transaction, row: Row, context: Context) -> bool:
        """Keep the task queued where a limit says so; in the transaction that would have committed the attempt."""
        config = self.services.settings.providers[self.provider.name]
        wait = reason_to_wait(tx, row, config, self.provider.creates, context.now)
        if wait is None:
            return False
        later = context.schedule.next_try(context.now, row["created_at"], row["gaps"], context.chance, wait.seconds)
        gaps = row["gaps"] + (wait.seconds is None)
        write(tx, row, context, notice(row, wait.why) | {"next_check_at": later, "gaps": gaps, "leased_until": None})
        return True

    async def _depart(self, request: httpx.Request, key: str) -> httpx.Request:
        """Commit the attempt; only then may its request leave. A repeat says byte for byte what the first try said."""
        if self.repeats is not None:
            request = httpx.Request(
                self.repeats.method,
                self.repeats.url,
                headers={name: value for name, value in request.headers.items() if name not in _OF_THE_BYTES},
                content=self.repeats.body,
                extensions=request.extensions,
            )
        self.attempt_id = await self.services.store.write(lambda tx: self._begin(tx, request, key))
        if self.attempt_id is None:
            raise _NoLongerOursError
        return request

    def _begin(self, tx: Transaction, request: httpx.Request, key: str) -> int | None:
        context, until = self.services.context(self.provider.name), self.services.lease_end()
        row = _claimed(tx, self.claim)
        if row is None or row["state"] not in (State.QUEUED, State.SUBMITTING):
            return None
        if self.services.stopping.is_set():
            write(tx, row, context, {"leased_until": None})  # due as before, for whoever starts next
            return None
        if row["state"] == State.QUEUED and self._has_to_wait(tx, row, context):
            return None
        number = row["attempts"] + 1
        values = {
            "attempts": number,
            "submitted_at": context.now,
            "callback_url": self._callback_url() is not None,
            "leased_until": until,
            "next_check_at": until,  # if we die, whoever looks then finds the lease run out
        }
        if row["state"] == State.QUEUED:
            move(tx, row, State.SUBMITTING, Via.SUBMISSION, context, **values)
        else:
            write(tx, row, context, values)
        return journal.add_attempt(
            tx,
            history_id=journal.note(tx, row["id"], context.now, "attempt"),
            task_id=row["id"],
            number=number,
            key=key,
            method=request.method,
            url=str(request.url),
            body=request.content,
            departed_at=context.now,
        )
