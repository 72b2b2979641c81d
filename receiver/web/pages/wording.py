"""What states and outcomes mean, in plain words for whoever looks at a page. Pure.

The templates and `page_history` show them. A sentence here promises nothing that `states.MOVES` does not hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from receiver.core.amounts import to_credits
from receiver.core.messages import Outcome
from receiver.core.states import SETTLED, State, Via
from receiver.core.times import MINUTE, relative, span
from receiver.store.tables import Task


@dataclass(frozen=True, slots=True)
class Meaning:
    """A state for people: a headline, what it means and what happens next, and what to do where something is to do.

    `called` is what else is true where the task named a callback address, `uncalled` where it named none.
    """

    headline: str
    says: str
    advice: str = ""
    called: str = ""
    uncalled: str = ""


_BOTH = "A callback or a status check brings the news."
_ASKED = "A status check brings the news; it named no callback address."

MEANINGS: Mapping[State, Meaning] = {
    State.QUEUED: Meaning(
        "Waiting to be sent",
        "It is stored here and nothing was bought yet. It is sent when its turn comes; until then it can be cancelled.",
    ),
    State.SUBMITTING: Meaning(
        "Being sent",
        "The request that buys it is on its way and its answer is awaited. Should the answer get lost, it is not simply"
        " sent again: that could buy it twice.",
    ),
    State.UNCONFIRMED: Meaning(
        "It may have been bought",
        "The request went out and no usable answer came back, so nobody here knows whether the provider took it. It may"
        " be costing money, and it is never sent again by itself.",
        "Look for it in the provider's own list of tasks, and resolve it by hand: follow it under the id that you find,"
        " or close it as not bought. Only then order it again.",
        called="If it was taken, its callback still settles it.",
        uncalled="It named no callback address, so no callback will settle it.",
    ),
    State.SUBMITTED: Meaning(
        "Accepted, waiting there",
        "The provider took it and has not begun.",
        called=_BOTH,
        uncalled=_ASKED,
    ),
    State.RUNNING: Meaning(
        "Being worked on",
        "The provider works on it, or is done and has not given its result yet.",
        called=_BOTH,
        uncalled=_ASKED,
    ),
    State.SUCCEEDED: Meaning("Done", "The provider finished it. Nothing more happens to it."),
    State.FAILED: Meaning(
        "Failed",
        "It came to nothing, for the reason given here. It is not sent again by itself.",
        "Once the reason is dealt with, order it again: that buys it anew.",
    ),
    State.CANCELLED: Meaning("Withdrawn", "It was cancelled before it was sent, so nothing was bought."),
    State.EXPIRED: Meaning(
        "No end was heard of",
        "The deadline passed without news of an end. It may have been made and paid for all the same.",
        "Look for it at the provider before you order it again; where its remote id is known, “Check now” asks there.",
        called="A late callback still counts.",
    ),
}

NEVER_TAKEN = Meaning(
    "Never taken",
    "The deadline passed before the provider took it, so nothing was bought. It is not sent any more.",
    "Once the reason is dealt with, order it again.",
)
"""An expired task that was still queued."""

VIA: Mapping[str, str] = {
    Via.SUBMISSION: "by the submission",
    Via.CALLBACK: "by a callback",
    Via.CHECK: "by a status check",
    Via.HAND: "by a person",
    Via.CLOCK: "by the clock",
}
SETTLED_BY: Mapping[str, str] = {
    Via.SUBMISSION: "The answer to the submission",
    Via.CALLBACK: "A callback",
    Via.CHECK: "A status check",
    Via.HAND: "A person",
}
ATTEMPTS: Mapping[str | None, str] = {
    "accepted": "The provider took it.",
    "refused": "The provider refused it; the same request will not work unchanged.",
    "not_sent": "It provably never reached the provider, so it is tried again later.",
    "busy": "The provider turned it away for now, so it is tried again later.",
    "unconfirmed": "It may have been received; no usable answer came.",
    None: "It left, and no answer to it is known yet.",
}
DELIVERIES: Mapping[str, str] = {
    Outcome.APPLIED: "It brought news, and the task was changed.",
    Outcome.REPEATED: "It said the same as before; nothing was changed.",
    Outcome.LATE: "It told older news than is known here; nothing was changed.",
    Outcome.CONFIRMING: "It alone is weak evidence, so the provider was asked to confirm it.",
    Outcome.HELD: "It names an id that no task had yet; it was kept until one does.",
    Outcome.UNMATCHED: "It names another task, so it was not applied.",
    Outcome.UNREADABLE: "It could not be understood; its bytes were kept and the provider was asked.",
    Outcome.FORGED: "Its signature is missing, wrong or too old, so it was not believed; the provider was asked.",
}
CHECKS: Mapping[str, str] = {
    Outcome.APPLIED: "It brought news, and the task was changed.",
    Outcome.REPEATED: "Nothing new.",
    Outcome.LATE: "It told older news than is known here; nothing was changed.",
    Outcome.CONFIRMING: "The answer names the task and tells no state; it is asked again.",
    Outcome.UNMATCHED: "The answer names another task, so it was not applied.",
    "failed": "No usable answer. That says nothing about the task; it is asked again.",
}
DONE: Mapping[str, str] = {
    "check": "The provider was asked. What it said stands at the end of the history.",
    "cancel": "The task was withdrawn. It is never sent.",
}
"""What a button did, told once on the page that follows."""

OVERDUE = MINUTE
"""Milliseconds by which a look may be late before the page wonders whether anybody looks at all."""
_LOOKS: Mapping[State, str] = {
    State.QUEUED: "next try",
    State.UNCONFIRMED: "expires",
    State.SUBMITTED: "next check",
    State.RUNNING: "next check",
    State.EXPIRED: "next check",
}


def next_look(task: Task, now: int) -> str | None:
    """Say when a task is looked at next, and that nobody seems to look where that is long overdue."""
    if task.state is State.SUBMITTING:
        return "awaiting the answer"
    if task.next_check_at is None or task.state not in _LOOKS:
        return None
    what, late = _LOOKS[task.state], now - task.next_check_at
    if late > OVERDUE:
        return f"{what} overdue by {span(late)}; is the poller running?"
    return f"{what} {relative(task.next_check_at, now)}" if late < 0 else f"{what} due now"


def why(task: Task, now: int) -> str:
    """Say in one line why a task stands where it stands."""
    if task.error_code:
        return f"{task.error_code}: {task.error_message}" if task.error_message else task.error_code
    look = None if task.state in SETTLED else next_look(task, now)
    if task.notices or look:
        return " · ".join(filter(None, (*task.notices[-1:], look)))
    return f"settled {VIA[task.settled_by]}" if task.settled_by is not None and task.settled_by in VIA else ""


def cost(task: Task) -> tuple[str, str] | None:
    """Return the credits of a task as far as they are known, and how well that is known."""
    if not task.may_have_cost and task.state in SETTLED:
        return "0", "not bought" if task.attempts else "bought elsewhere" if task.remote_id else "never sent"
    for name in ("charged", "reserved", "estimated"):
        if (value := getattr(task, name)) is not None:
            return credits_(to_credits(value)), name
    return None


def credits_(value: float) -> str:
    """Write an amount of credits."""
    return f"{value:,.6f}".rstrip("0").rstrip(".")
