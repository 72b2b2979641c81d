"""What the result of an attempt means for its task: the table "How an order is submitted" of the docs, in one place.

`tasks.attempts` hands over how a request ended; `record_result` makes of it a new state, a further attempt, or
`unconfirmed`. What an attempt learned decides even where another process has taken over its lease: the provider's
answer is true whoever waits for it. Who may send is decided here too, in the transaction that commits the attempt.
"""

from dataclasses import dataclass

import httpx

from receiver.core.errors import Busy, KeyConflict, NotSent, ProviderError, Refused, Unconfirmed
from receiver.core.messages import Event, Problem, Source
from receiver.core.states import State, Via
from receiver.lifecycle.apply import apply
from receiver.lifecycle.schedule import Plan
from receiver.lifecycle.transition import (
    Context,
    add_notices,
    deadline_counts_from,
    queue_deadline_counts_from,
    transition,
    write_changes,
)
from receiver.store import Transaction, journal, tasks
from receiver.store.journal import Purchase
from receiver.store.reading import CLOCK_TOLERANCE
from receiver.store.task_row import TaskChanges, TaskRow
from receiver.store.tasks import Claim

ACCEPTED = "accepted"
REPEATS_END = 15 * 60 * 1000
"""Milliseconds after an unclear attempt's departure during which it is repeated under its key."""
SAME_ANSWER = frozenset({400, 413, 415, 422})
"""Refusals of what a request says: on a repeat they hold for the first attempt too. Others may be new since then."""
STOPPED = "The service stopped while the request was on its way; whether it was received is not known."

FREE = "Its turn has come; it is sent as soon as there is room."
EXPIRES_UNCONFIRMED = (
    "Its deadline: without the provider's id nobody can be asked. A callback or a person may settle it before."
)

_WAITING = (State.QUEUED, State.SUBMITTING)
_UNCLEAR = (State.UNCONFIRMED, State.EXPIRED)
_AT_THE_PROVIDER = (State.SUBMITTED, State.RUNNING, State.SUCCEEDED)


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """How one attempt ended: its answer, and what the provider's adapter made of it. `repeats` is the purchase that it
    repeats; without an `attempt_id` it ended before the request that buys could leave."""

    claim: Claim
    attempt_id: int | None
    repeats: Purchase | None
    supports_idempotency_keys: bool
    answer: httpx.Response | None = None
    event: Event | None = None
    error: ProviderError | None = None


def record_result(tx: Transaction, result: AttemptResult, context: Context) -> State | None:
    """Keep the answer and let it change the task, once; returns the state that the task is left in."""
    task = tasks.current(tx, result.claim.task_id)
    if task is None:
        return None
    is_ours = task.claim == result.claim.number
    if result.attempt_id is None:
        if is_ours:
            _change_task(tx, task, result, context)
    elif result.attempt_id in journal.open_attempts(tx, task.id).values():  # else it was recorded, and nobody was told
        _keep_answer(tx, result.attempt_id, result, context)
        _change_task(tx, task, result, context)
    if is_ours:
        write_changes(tx, task, context, {"leased_until": None})
    return task.state


def _keep_answer(tx: Transaction, attempt_id: int, result: AttemptResult, context: Context) -> None:
    error, answer = result.error, result.answer
    journal.end_attempt(
        tx,
        attempt_id,
        ended_at=context.now,
        outcome=outcome_of(error),
        may_have_bought=not isinstance(error, NotSent | Busy | Refused),
        http_status=answer.status_code if answer else None,
        message=context.redact(error.message) if error else None,
        answer=answer.content[: journal.KEPT_BYTES] if answer else None,
    )


def _change_task(tx: Transaction, task: TaskRow, result: AttemptResult, context: Context) -> None:
    if result.event is not None:
        apply(tx, task, result.event, Source(Via.SUBMISSION), context)
        return
    if result.error is None:
        return
    if task.state in _WAITING:
        _end_waiting(tx, task, result, result.error, context)
    elif task.state in _UNCLEAR:
        _resolve_unclear(tx, task, result, result.error, context)
    else:
        message = result.error.message.rstrip(" .")
        words = f"The submission failed ({message}), but a callback had already shown that the order was accepted."
        write_changes(tx, task, context, add_notices(task.notices, words))
    if journal.purchase(tx, task.id) is None and task.state not in _AT_THE_PROVIDER:
        write_changes(tx, task, context, {"may_have_cost": False})


def _end_waiting(tx: Transaction, task: TaskRow, result: AttemptResult, error: ProviderError, context: Context) -> None:
    """Change a task that waits for its attempt by the error that ended it."""
    may_repeat = result.supports_idempotency_keys or result.attempt_id is None
    if isinstance(error, NotSent | Busy) or (isinstance(error, Unconfirmed) and may_repeat):
        _try_later(tx, task, result, error, context)
    elif isinstance(error, Unconfirmed):
        unconfirm(tx, task, Problem(error.code, error.message), context)
    elif result.repeats is not None and not _holds_for_first(error):
        words = f"An earlier attempt got no usable answer, and its repeat failed: {error.message}"
        unconfirm(tx, task, Problem(_why_unclear(result.repeats), words), context)
    else:
        _refuse(tx, task, Problem(error.code, error.message), context)


def _resolve_unclear(
    tx: Transaction, task: TaskRow, result: AttemptResult, error: ProviderError, context: Context
) -> None:
    """Resolve a task by the end of an attempt that was taken for lost.

    It does not go back to the queue: somebody may have ordered the same again, since it was unclear.
    """
    if isinstance(error, Unconfirmed):
        if task.state is State.UNCONFIRMED and result.repeats is None:
            write_changes(tx, task, context, {"error_code": error.code, "error_message": error.message})
    elif result.repeats is None or (isinstance(error, Refused) and _holds_for_first(error)):
        words = (
            "" if isinstance(error, Refused) else " The provider did not accept it; nothing was bought. Order it again."
        )
        _refuse(tx, task, Problem(error.code, error.message + words), context)


def _refuse(tx: Transaction, task: TaskRow, why: Problem, context: Context) -> None:
    journal.bought_nothing(tx, task.id)
    if task.state is State.QUEUED:  # it was refused before the request that buys
        transition(tx, task, State.SUBMITTING, Via.SUBMISSION, context)
    apply(tx, task, Event(State.FAILED, error=why), Source(Via.SUBMISSION), context)


def _try_later(tx: Transaction, task: TaskRow, result: AttemptResult, error: ProviderError, context: Context) -> None:
    """Postpone the next attempt. Only one that provably was not received goes back to the queue."""
    goes_back = task.state is State.QUEUED or (result.repeats is None and not isinstance(error, Unconfirmed))
    sent_at = task.submitted_at or context.now
    counts_from = queue_deadline_counts_from(task) if goes_back else sent_at
    why = "The provider did not accept it yet" if goes_back else "Its attempt got no usable answer"
    later = context.schedule.next_try(context.now, counts_from, task.gaps, context.chance, error.retry_after, why=why)
    changes = later.changes() | TaskChanges(gaps=task.gaps + 1)
    if not goes_back:
        first = result.repeats.departed_at if result.repeats else sent_at
        changes["next_check_at"] = min(later.at, first + REPEATS_END)
        words = f"An attempt got no usable answer ({error.message}). It is repeated with the same idempotency key."
        write_changes(tx, task, context, changes | add_notices(task.notices, words))
        return
    changes |= add_notices(task.notices, f"Not accepted yet: {error.message}")
    if not transition(tx, task, State.QUEUED, Via.SUBMISSION, context, changes=changes):
        write_changes(tx, task, context, changes)  # it failed before the request that buys: still queued


def unconfirm(tx: Transaction, task: TaskRow, why: Problem, context: Context, *, via: Via = Via.SUBMISSION) -> None:
    """Mark a task `unconfirmed` because the answer to its order was lost.

    Only its callback, a check, a person or the deadline settles it; it is never sent again.
    """
    deadline = Plan(context.schedule.due(deadline_counts_from(task)), EXPIRES_UNCONFIRMED)
    changes = deadline.changes() | TaskChanges(leased_until=None)
    transition(tx, task, State.UNCONFIRMED, via, context, changes=changes, why=why)


def resolve(
    tx: Transaction, task: TaskRow, context: Context, *, supports_idempotency_keys: bool | None
) -> Purchase | None:
    """Return the purchase of a claimed `submitting` task that may be repeated under its key; else resolve the task.

    `supports_idempotency_keys` is None where the provider is not configured. A request without an end may still be on
    its way, in a process that is only suspended: its task is `unconfirmed`, whatever the provider supports.
    """
    purchase = journal.purchase(tx, task.id)
    if purchase is None:  # each of its attempts provably bought nothing
        changes = Plan(context.now, FREE).changes() | TaskChanges(leased_until=None)
        transition(tx, task, State.QUEUED, Via.SUBMISSION, context, changes=changes)
    elif journal.open_attempts(tx, task.id):
        unconfirm(tx, task, Problem("crashed", STOPPED), context, via=Via.CLOCK)
    elif supports_idempotency_keys is False:
        unconfirm(tx, task, Problem(_why_unclear(purchase), str(purchase.message)), context)
    elif _repeats_are_over(purchase, context.now):
        words = f"No usable answer to the order or its repeats. First answer: {purchase.message}"
        unconfirm(tx, task, Problem(_why_unclear(purchase), words), context)
    else:
        return purchase
    return None


def may_depart(
    tx: Transaction,
    task: TaskRow,
    repeated: Purchase | None,
    context: Context,
    *,
    supports_idempotency_keys: bool,
) -> bool:
    """Return whether a request for this task may leave: as its only purchase, or as a repeat where keys are supported.

    Asked in the transaction that commits the attempt, by whoever holds the claim. Where it may not, the task is
    resolved, since something may have been bought already.
    """
    if repeated is None and journal.purchase(tx, task.id) is None:
        return True
    if task.state is State.QUEUED:
        transition(tx, task, State.SUBMITTING, Via.SUBMISSION, context)
    found = resolve(tx, task, context, supports_idempotency_keys=supports_idempotency_keys)
    return found is not None and found == repeated


def outcome_of(error: ProviderError | None) -> str:
    """Return how an attempt ended: accepted, refused, not_sent, busy or unconfirmed."""
    kinds = ((Refused, "refused"), (NotSent, "not_sent"), (Busy, "busy"), (Unconfirmed, "unconfirmed"))
    return next((word for kind, word in kinds if isinstance(error, kind)), ACCEPTED)


def _holds_for_first(error: ProviderError) -> bool:
    return not isinstance(error, KeyConflict) and error.http_status in SAME_ANSWER


def _why_unclear(unclear: Purchase) -> str:
    """Return our code for what went wrong with an attempt whose answer is not known."""
    if unclear.http_status is None:
        return "timeout"
    return "server_error" if unclear.http_status >= 500 else "broken_answer"


def _repeats_are_over(first: Purchase, now: int) -> bool:
    """Return whether an unclear attempt must not be repeated any more: its key may be forgotten.

    A departure in the future tells of a clock that was set back, and of nothing else: it may have been long ago.
    """
    return not first.departed_at - CLOCK_TOLERANCE <= now < first.departed_at + REPEATS_END
