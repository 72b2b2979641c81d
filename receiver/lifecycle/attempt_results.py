"""What the end of a try means for its task: "Sent or not" of the README, in one place.

`attempts` hands over how a request ended; here it becomes a move, a further try, or the state `unconfirmed`. What a
try learned decides even where another process has taken over its lease: the provider's answer is true whoever waits
for it. Who may send is decided here too, in the transaction that commits the attempt.
"""

from collections.abc import Callable
from dataclasses import dataclass

import httpx

from receiver.core.errors import Busy, KeyConflict, NotSent, ProviderError, Refused, Unconfirmed
from receiver.core.messages import Event, Problem, Source
from receiver.core.states import State, Via
from receiver.lifecycle.apply import apply
from receiver.lifecycle.transition import Context, Row, departed, move, notice, queued_from, write
from receiver.store import Transaction, journal, tasks
from receiver.store.journal import Purchase
from receiver.store.reading import AHEAD
from receiver.store.tasks import Claim

ACCEPTED = "accepted"
REPEATS_END = 15 * 60 * 1000
"""Milliseconds after an unclear try's departure during which it is repeated under its key."""
SAME_ANSWER = frozenset({400, 413, 415, 422})
"""Refusals of what a request says: on a repeat they hold for the first try too. Others may be news of the meantime."""
STOPPED = "The service stopped while the request was on its way; whether it was received is not known."

_WAITING = (State.QUEUED, State.SUBMITTING)
_UNCLEAR = (State.UNCONFIRMED, State.EXPIRED)
_AT_THE_PROVIDER = (State.SUBMITTED, State.RUNNING, State.SUCCEEDED)


def unconfirm(tx: Transaction, row: Row, why: Problem, context: Context, *, via: Via = Via.SUBMISSION) -> State:
    """Leave a submission to its callback, to a person, or to its deadline."""
    deadline = context.schedule.due(departed(row))
    move(tx, row, State.UNCONFIRMED, via, context, why=why, next_check_at=deadline, leased_until=None)
    return State(row["state"])


def resolve(tx: Transaction, row: Row, context: Context, *, supports_idempotency_keys: bool | None) -> Purchase | None:
    """Return the purchase of a claimed `submitting` task that may be repeated under its key; else resolve the task.

    `supports_idempotency_keys` is None where the provider is not configured. A request without an end may still be on
    its way, in a process that is only suspended: its task is `unconfirmed`, whatever the provider supports.
    """
    purchase = journal.purchase(tx, row["id"])
    if purchase is None:  # each of its tries provably bought nothing
        move(tx, row, State.QUEUED, Via.SUBMISSION, context, next_check_at=context.now, leased_until=None)
    elif journal.open_attempts(tx, row["id"]):
        unconfirm(tx, row, Problem("crashed", STOPPED), context, via=Via.CLOCK)
    elif supports_idempotency_keys is False:
        unconfirm(tx, row, Problem(_why_unclear(purchase), str(purchase.message)), context)
    elif _repeats_are_over(purchase, context.now):
        words = f"No usable answer came, also to repeats under the same key. First: {purchase.message}"
        unconfirm(tx, row, Problem(_why_unclear(purchase), words), context)
    else:
        return purchase
    return None


def may_depart(
    tx: Transaction, row: Row, repeated: Purchase | None, context: Context, *, supports_idempotency_keys: bool
) -> bool:
    """Return whether a request for this task may leave: as its only purchase, or as a repeat where keys are taken.

    Asked in the transaction that commits the attempt, by whoever holds the claim. Where it may not, the task is
    resolved, since something may have been bought already.
    """
    if repeated is None and journal.purchase(tx, row["id"]) is None:
        return True
    if row["state"] == State.QUEUED:
        move(tx, row, State.SUBMITTING, Via.SUBMISSION, context)
    found = resolve(tx, row, context, supports_idempotency_keys=supports_idempotency_keys)
    return found is not None and found == repeated


def _why_unclear(unclear: Purchase) -> str:
    """Return our code for what went wrong with a try whose answer is not known."""
    if unclear.http_status is None:
        return "timeout"
    return "server_error" if unclear.http_status >= 500 else "broken_answer"


def _repeats_are_over(first: Purchase, now: int) -> bool:
    """Return whether an unclear try must not be repeated any more: its key may be forgotten.

    A departure in the future tells of a clock that was set back, and of nothing else: it may have been long ago.
    """
    return not first.departed_at - AHEAD <= now < first.departed_at + REPEATS_END


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of one try: its answer, and what the provider made of it. `repeats` is the purchase it repeats.

    Without an `attempt_id` it ended before the request that buys could leave.
    """

    claim: Claim
    attempt_id: int | None
    repeats: Purchase | None
    supports_idempotency_keys: bool
    answer: httpx.Response | None
    event: Event | None
    error: ProviderError | None
    context: Callable[[], Context]

    def write_down(self, tx: Transaction) -> State | None:
        """Keep the answer and let it change the task; returns the state that the task is left in."""
        context = self.context()
        row = tasks.current(tx, self.claim.task_id)
        if row is None:
            return None
        is_ours = row["claim"] == self.claim.number
        if self.attempt_id is None:
            if is_ours:
                self._change_task(tx, row, context)
        elif self.attempt_id in journal.open_attempts(tx, row["id"]).values():  # else it was written down, and not told
            self._keep_answer(tx, self.attempt_id, context)
            self._change_task(tx, row, context)
        if is_ours:
            write(tx, row, context, {"leased_until": None})
        return State(row["state"])

    def _keep_answer(self, tx: Transaction, attempt_id: int, context: Context) -> None:
        journal.end_attempt(
            tx,
            attempt_id,
            ended_at=context.now,
            outcome=outcome_of(self.error),
            may_have_bought=not _bought_nothing(self.error),
            http_status=self.answer.status_code if self.answer else None,
            message=context.redact(self.error.message) if self.error else None,
            answer=self.answer.content[: journal.KEPT_BYTES] if self.answer else None,
        )

    def _change_task(self, tx: Transaction, row: Row, context: Context) -> None:
        if self.event is not None:
            apply(tx, row, self.event, Source(Via.SUBMISSION), context)
        elif self.error is not None:
            self._apply_error(tx, row, self.error, context)
            if journal.purchase(tx, row["id"]) is None and row["state"] not in _AT_THE_PROVIDER:
                write(tx, row, context, {"may_have_cost": False})

    def _apply_error(self, tx: Transaction, row: Row, error: ProviderError, context: Context) -> None:
        if row["state"] in _WAITING:
            self._fail(tx, row, error, context)
        elif row["state"] in _UNCLEAR:
            self._settle_unclear(tx, row, error, context)
        else:
            words = f"The submission ended with: {error.message} A callback had told otherwise before."
            write(tx, row, context, notice(row, words))

    def _fail(self, tx: Transaction, row: Row, error: ProviderError, context: Context) -> None:
        why = Problem(error.code, error.message)
        repeatable = self.supports_idempotency_keys or self.attempt_id is None
        if isinstance(error, NotSent | Busy) or (isinstance(error, Unconfirmed) and repeatable):
            self._later(tx, row, error, context)
        elif isinstance(error, Unconfirmed):
            unconfirm(tx, row, why, context)
        elif self.repeats is not None and not _holds_for_first(error):
            words = f"The answer to an earlier try is not known, and its repeat ended with: {error.message}"
            unconfirm(tx, row, Problem(_why_unclear(self.repeats), words), context)
        else:
            self._refuse(tx, row, why, context)

    def _settle_unclear(self, tx: Transaction, row: Row, error: ProviderError, context: Context) -> None:
        """Let the end of a try that was taken for lost resolve its task.

        It does not go back to the queue: somebody may have ordered the same again, since it was unclear.
        """
        if isinstance(error, Unconfirmed):
            if row["state"] == State.UNCONFIRMED and self.repeats is None:
                write(tx, row, context, {"error_code": error.code, "error_message": error.message})
        elif self.repeats is None or (isinstance(error, Refused) and _holds_for_first(error)):
            words = "" if isinstance(error, Refused) else " It was not taken, so nothing was bought: order it again."
            self._refuse(tx, row, Problem(error.code, error.message + words), context)

    def _refuse(self, tx: Transaction, row: Row, why: Problem, context: Context) -> None:
        journal.bought_nothing(tx, row["id"])
        if row["state"] == State.QUEUED:  # it was refused before the request that buys
            move(tx, row, State.SUBMITTING, Via.SUBMISSION, context)
        apply(tx, row, Event(State.FAILED, error=why), Source(Via.SUBMISSION), context)

    def _later(self, tx: Transaction, row: Row, error: ProviderError, context: Context) -> None:
        """Put the next try off. Only a try that provably was not taken goes back to the queue."""
        queued = row["state"] == State.QUEUED or (self.repeats is None and not isinstance(error, Unconfirmed))
        since = queued_from(row) if queued else row["submitted_at"]
        later = context.schedule.next_try(context.now, since, row["gaps"], context.chance, error.retry_after)
        values = {"next_check_at": later, "gaps": row["gaps"] + 1}
        if not queued:
            first = self.repeats.departed_at if self.repeats else row["submitted_at"]
            values["next_check_at"] = min(later, first + REPEATS_END)
            words = f"The answer to a try is not known ({error.message}); it is repeated under the same key."
            write(tx, row, context, values | notice(row, words))
            return
        values |= notice(row, f"Not taken yet: {error.message}")
        if not move(tx, row, State.QUEUED, Via.SUBMISSION, context, **values):
            write(tx, row, context, values)  # it failed before the request that buys: still queued


def _holds_for_first(error: ProviderError) -> bool:
    return not isinstance(error, KeyConflict) and error.http_status in SAME_ANSWER


def _bought_nothing(error: ProviderError | None) -> bool:
    return isinstance(error, NotSent | Busy | Refused)


def outcome_of(error: ProviderError | None) -> str:
    """Return how a try ended: accepted, refused, not_sent, busy or unconfirmed."""
    kinds = ((Refused, "refused"), (NotSent, "not_sent"), (Busy, "busy"), (Unconfirmed, "unconfirmed"))
    return next((word for kind, word in kinds if isinstance(error, kind)), ACCEPTED)
