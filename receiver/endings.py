"""How a try to hand a task over ended, and what follows: taken, refused, queued again, repeated or unconfirmed.

`attempts` makes one of every try; it is written down in one transaction. This is the paragraph "Sent or not" of the
interface.
"""

from collections.abc import Callable
from dataclasses import dataclass

import httpx

from receiver.errors import Busy, KeyConflict, NotSent, ProviderError, Refused, Unconfirmed
from receiver.lifecycle import apply
from receiver.messages import Event, Problem, Source
from receiver.moves import Context, Row, departed, move, notice, write
from receiver.states import FINAL, State, Via
from receiver.store import Transaction, journal, tasks
from receiver.store.reading import AHEAD
from receiver.store.tasks import Claim
from receiver.tables import Attempt

ACCEPTED = "accepted"
REPEATS_END = 15 * 60 * 1000
"""Milliseconds after an unclear try's departure during which it is repeated under its key."""
SAME_ANSWER = frozenset({400, 413, 415, 422})
"""Refusals of what a request says: on a repeat they hold for the first try too. Others may be news of the meantime."""


def unconfirm(tx: Transaction, row: Row, why: Problem, context: Context, *, via: Via = Via.SUBMISSION) -> State:
    """Leave a submission to its callback, to a person, or to its deadline."""
    deadline = context.schedule.due(departed(row))
    move(tx, row, State.UNCONFIRMED, via, context, why=why, next_check_at=deadline, leased_until=None)
    return State(row["state"])


def why_unclear(unclear: Attempt) -> str:
    """Name what went wrong with a try whose answer is not known."""
    if unclear.http_status is None:
        return "timeout"
    return "server_error" if unclear.http_status >= 500 else "broken_answer"


def repeats_are_over(first: Attempt, now: int) -> bool:
    """Tell whether an unclear try must not be repeated any more: its key may be forgotten.

    A departure in the future tells of a clock that was set back, and of nothing else: it may have been long ago.
    """
    return not first.departed_at - AHEAD <= now < first.departed_at + REPEATS_END


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of one try: its answer, and what the provider made of it. `repeats` is the first try under its key."""

    claim: Claim
    attempt_id: int | None
    repeats: Attempt | None
    takes_keys: bool
    answer: httpx.Response | None
    event: Event | None
    error: ProviderError | None
    context: Callable[[], Context]

    def write_down(self, tx: Transaction) -> State | None:
        """Keep the answer and let it change the task; returns the state that it is left in."""
        context, error = self.context(), self.error
        if self.attempt_id is not None:
            self._keep_answer(tx, self.attempt_id, context)
        row = tasks.current(tx, self.claim.task_id)
        if row is None:
            return None
        if row["claim"] != self.claim.number:
            self._fill_in(tx, row, context)
            return State(row["state"])
        if self.event is not None:
            apply(tx, row, self.event, Source(Via.SUBMISSION), context)
        elif error is not None and row["state"] in (State.QUEUED, State.SUBMITTING):
            self._fail(tx, row, error, context)
        elif error is not None:
            words = f"The submission ended with: {error.message} A callback had told otherwise before."
            write(tx, row, context, notice(row, words))
        write(tx, row, context, {"leased_until": None})
        return State(row["state"])

    def _keep_answer(self, tx: Transaction, attempt_id: int, context: Context) -> None:
        journal.end_attempt(
            tx,
            attempt_id,
            ended_at=context.now,
            outcome=outcome_of(self.error),
            http_status=self.answer.status_code if self.answer else None,
            message=context.redact(self.error.message) if self.error else None,
            answer=self.answer.content[: journal.KEPT_BYTES] if self.answer else None,
        )

    def _fill_in(self, tx: Transaction, row: Row, context: Context) -> None:
        """Let a claimant that was overtaken add only what is still empty; with a remote id the provider is asked."""
        event = self.event
        if event is None:
            return
        told = {"remote_id": event.remote_id, "reserved": event.reserved, "charged": event.charged}
        empty = {name: value for name, value in told.items() if value is not None and row[name] is None}
        if "remote_id" in empty and tasks.by_remote(tx, row["provider"], str(event.remote_id)) is not None:
            del empty["remote_id"]
        if "remote_id" in empty and row["state"] not in FINAL:
            empty["next_check_at"] = context.now
        if empty:
            write(tx, row, context, empty)

    def _fail(self, tx: Transaction, row: Row, error: ProviderError, context: Context) -> None:
        why = Problem(error.code, error.message)
        if isinstance(error, NotSent | Busy) or (isinstance(error, Unconfirmed) and self.takes_keys):
            self._later(tx, row, error, context)
        elif isinstance(error, Unconfirmed):
            unconfirm(tx, row, why, context)
        elif self.repeats is not None and not _holds_for_first(error):
            words = f"The answer to an earlier try is not known, and its repeat ended with: {error.message}"
            unconfirm(tx, row, Problem(why_unclear(self.repeats), words), context)
        else:
            apply(tx, row, Event(State.FAILED, error=why), Source(Via.SUBMISSION), context)

    def _later(self, tx: Transaction, row: Row, error: ProviderError, context: Context) -> None:
        """Put the next try off. Only a try that provably was not taken goes back to the queue."""
        queued = row["state"] == State.QUEUED or (self.repeats is None and not isinstance(error, Unconfirmed))
        since = row["created_at"] if queued else row["submitted_at"]
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


def outcome_of(error: ProviderError | None) -> str:
    """Name how a try ended: accepted, refused, not_sent, busy or unconfirmed."""
    kinds = ((Refused, "refused"), (NotSent, "not_sent"), (Busy, "busy"), (Unconfirmed, "unconfirmed"))
    return next((word for kind, word in kinds if isinstance(error, kind)), ACCEPTED)
