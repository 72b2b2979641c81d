"""What states and outcomes mean, in sentences for the pages. Pure.

The templates and `history` show them. A sentence here promises nothing that `states.MOVES` does not hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from receiver.core.amounts import to_credits
from receiver.core.attention import Reason
from receiver.core.messages import Outcome
from receiver.core.states import SETTLED, State, Via
from receiver.core.times import MINUTE, format_duration, format_relative
from receiver.store.tables import Task


@dataclass(frozen=True, slots=True)
class Meaning:
    """A state in words: a headline, what it means and what happens next, and what a person should do, if anything.

    `with_callback` is added where the task has a callback URL, `without_callback` where it has none.
    """

    headline: str
    text: str
    advice: str = ""
    with_callback: str = ""
    without_callback: str = ""


_BY_CALLBACK_OR_CHECK = "A callback or a status check will bring the result."
_BY_CHECK = "It has no callback URL, so a status check will bring the result."

MEANINGS: Mapping[State, Meaning] = {
    State.QUEUED: Meaning(
        "Waiting to be sent",
        "The order is stored here; nothing has been bought yet. It is sent when its turn comes. Until then, you can"
        " cancel it.",
    ),
    State.SUBMITTING: Meaning(
        "Being sent",
        "The order is on its way to the provider. If the answer is lost, the order is not simply sent again: that could"
        " buy it twice.",
    ),
    State.UNCONFIRMED: Meaning(
        "It may have been bought",
        "The order was sent, but no usable answer came back. It is unknown whether the provider accepted it. It may be"
        " costing money, so it is never sent again automatically.",
        "Look for it in the provider's own list of tasks. Then resolve it by hand: enter the id that you find, or close"
        " it as not bought. Only then order again.",
        with_callback="If the provider accepted it, its callback still settles it.",
        without_callback="It has no callback URL, so no callback will settle it.",
    ),
    State.SUBMITTED: Meaning(
        "Accepted, not started",
        "The provider accepted it and has not started.",
        with_callback=_BY_CALLBACK_OR_CHECK,
        without_callback=_BY_CHECK,
    ),
    State.RUNNING: Meaning(
        "In progress",
        "The provider is working on it, or has finished and not delivered the result yet.",
        with_callback=_BY_CALLBACK_OR_CHECK,
        without_callback=_BY_CHECK,
    ),
    State.SUCCEEDED: Meaning("Done", "The provider finished it."),
    State.FAILED: Meaning(
        "Failed",
        "The provider could not make it. It is not sent again automatically.",
        "Fix the cause, then order again. This buys a new task.",
    ),
    State.CANCELLED: Meaning("Cancelled", "It was cancelled before it was sent, so nothing was bought."),
    State.EXPIRED: Meaning(
        "No result in time",
        "The deadline passed and no result arrived. It may still have been made and paid for.",
        "Look for it at the provider before you order again. If its remote id is known, the provider is still asked for"
        " a while, in growing pauses, and “Check now” asks at once.",
        with_callback="A late callback still counts.",
    ),
}

NEVER_ACCEPTED = Meaning(
    "Never accepted",
    "The deadline passed before the provider accepted it, so nothing was bought. It will not be sent.",
    "Fix the cause, then order again.",
)
"""An expired task that was still queued."""

VIA: Mapping[str, str] = {
    Via.SUBMISSION: "by the submission",
    Via.CALLBACK: "by a callback",
    Via.CHECK: "by a status check",
    Via.HAND: "by a person",
    Via.CLOCK: "by a timer",
}
SETTLED_BY: Mapping[str, str] = {
    Via.SUBMISSION: "The answer to the submission",
    Via.CALLBACK: "A callback",
    Via.CHECK: "A status check",
    Via.HAND: "A person",
}
ATTEMPTS: Mapping[str | None, str] = {
    "accepted": "The provider accepted it.",
    "refused": "The provider refused it. The same request will not work unchanged.",
    "not_sent": "It did not reach the provider, so it will be tried again.",
    "busy": "The provider turned it away for now (too many requests), so it will be tried again.",
    "unconfirmed": "It may have been received; no usable answer came back.",
    None: "It was sent; its answer is not known yet.",
}
DELIVERIES: Mapping[str, str] = {
    Outcome.APPLIED: "New information; the task was updated.",
    Outcome.REPEATED: "Nothing new.",
    Outcome.LATE: "It is older than what is already known; nothing was changed.",
    Outcome.CONFIRMING: "By itself it is weak evidence, so the task is checked at the provider.",
    Outcome.HELD: "It names an id that no task had yet; it is kept until a task has that id.",
    Outcome.UNMATCHED: "It names another task, so it was not applied.",
    Outcome.UNREADABLE: "It could not be read. Its bytes are stored, and the task is checked.",
    Outcome.FORGED: "Its signature is missing, wrong or too old, so it was not believed. The task is checked.",
}
CHECKS: Mapping[str, str] = {
    Outcome.APPLIED: "New information; the task was updated.",
    Outcome.REPEATED: "Nothing new.",
    Outcome.LATE: "The answer is older than what is already known; nothing was changed.",
    Outcome.CONFIRMING: "The answer names the task but no state, so it will be checked again.",
    Outcome.UNMATCHED: "The answer names another task, so it was not applied.",
    "failed": "No usable answer came back. That says nothing about the task; it will be checked again.",
}
ACTION_RESULTS: Mapping[str, str] = {
    "check": "The task was checked. See the latest check in its history.",
    "cancel": "The task was cancelled. It will not be sent.",
}
"""What a button did, shown once on the page that follows."""
REASONS: Mapping[str, str] = {
    Reason.UNCONFIRMED: "It may have been bought",
    Reason.EXPIRED: "No result in time",
    Reason.PAID_WITHOUT_RESULT: "Success without a result",
    Reason.RESULT_LOST: "A file was lost",
    Reason.NOT_ARCHIVED: "A file is not archived",
    Reason.CONTRADICTION: "Two different ends",
    Reason.CHARGED_BUT_FAILED: "Charged, but failed",
    Reason.NOTIFICATION_FAILED: "Your application was not told",
}
"""Why a task is on the attention list."""
ATTENTION_RESULTS: Mapping[str, str] = {
    "acknowledged": "The task was acknowledged. It is listed again when something new happens to it.",
    "closed": "The task was closed as not bought.",
}

OVERDUE = MINUTE
"""Milliseconds by which a check may be late before the page suspects that no poller is running."""
_NEXT_STEPS: Mapping[State, str] = {
    State.QUEUED: "next attempt",
    State.UNCONFIRMED: "expiry",
    State.SUBMITTED: "next check",
    State.RUNNING: "next check",
    State.EXPIRED: "next check",
}


def describe_next_check(task: Task, now: int) -> str | None:
    """Return when a task is due next, with a hint where that is long overdue; None where nothing is due."""
    if task.state is State.SUBMITTING:
        return "waiting for the answer"
    if task.next_check_at is None or task.state not in _NEXT_STEPS:
        return None
    step, late = _NEXT_STEPS[task.state], now - task.next_check_at
    if late > OVERDUE:
        return f"{step} overdue by {format_duration(late)}; is the poller running?"
    return f"{step} {format_relative(task.next_check_at, now)}" if late < 0 else f"{step} due now"


def describe_reason(task: Task, now: int) -> str:
    """Return in one line why a task is in its state."""
    if task.error_code:
        return f"{task.error_code}: {task.error_message}" if task.error_message else task.error_code
    next_check = None if task.state in SETTLED else describe_next_check(task, now)
    if task.notices or next_check:
        return " · ".join(filter(None, (*task.notices[-1:], next_check)))
    return f"settled {VIA[task.settled_by]}" if task.settled_by is not None and task.settled_by in VIA else ""


def known_cost(task: Task) -> tuple[str, str] | None:
    """Return the credits of a task as far as they are known, and how well they are known."""
    if not task.may_have_cost and task.state in SETTLED:
        return "0", "not bought" if task.attempts else "bought elsewhere" if task.remote_id else "never sent"
    for name in ("charged", "reserved", "estimated"):
        if (value := getattr(task, name)) is not None:
            return format_credits(to_credits(value)), name
    return None


def format_credits(value: float) -> str:
    """Return an amount of credits as text."""
    return f"{value:,.6f}".rstrip("0").rstrip(".")
