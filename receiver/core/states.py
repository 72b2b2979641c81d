"""The states of a task and the permitted moves between them: the whole state machine on one screen.

A test checks the table in `docs/concepts/life-of-a-task.md` against it.
"""

from enum import StrEnum


class State(StrEnum):
    """The state of a task, in the order of the documentation's table."""

    QUEUED = "queued"
    SUBMITTING = "submitting"
    UNCONFIRMED = "unconfirmed"
    SUBMITTED = "submitted"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Via(StrEnum):
    """What changes the state of a task."""

    SUBMISSION = "submission"  # our own request, or the answer to it
    CALLBACK = "callback"
    CHECK = "check"
    HAND = "hand"  # a person
    CLOCK = "clock"  # a deadline, or an expired lease


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})
SETTLED = FINAL | {State.EXPIRED}
"""What `?wait=` waits for. An expired task may still get its result."""

_REPORT = frozenset({Via.SUBMISSION, Via.CALLBACK, Via.CHECK})
"""The provider reports it."""
_REPORT_OR_HAND = _REPORT | {Via.HAND}
"""The provider reports it, or a person who looked there."""

_ACCEPTED = (State.SUBMITTED, State.RUNNING, State.SUCCEEDED, State.FAILED)
_SUBMISSION = frozenset({Via.SUBMISSION})
_CLOCK = frozenset({Via.CLOCK})

MOVES: dict[State, dict[State, frozenset[Via]]] = {
    State.QUEUED: {
        State.SUBMITTING: _SUBMISSION,
        State.CANCELLED: frozenset({Via.HAND}),
        State.EXPIRED: _CLOCK,
        **dict.fromkeys(_ACCEPTED, frozenset({Via.CALLBACK})),  # it had arrived after all, and is then never sent
    },
    State.SUBMITTING: {
        State.QUEUED: _SUBMISSION,  # never by the clock: when a lease expires, the request may have arrived
        State.UNCONFIRMED: _SUBMISSION | _CLOCK,
        **dict.fromkeys(_ACCEPTED, _REPORT),
    },
    State.UNCONFIRMED: {**dict.fromkeys(_ACCEPTED, _REPORT_OR_HAND), State.EXPIRED: _CLOCK},
    State.SUBMITTED: {State.RUNNING: _REPORT, State.SUCCEEDED: _REPORT, State.FAILED: _REPORT, State.EXPIRED: _CLOCK},
    State.RUNNING: {State.SUCCEEDED: _REPORT, State.FAILED: _REPORT, State.EXPIRED: _CLOCK},
    State.SUCCEEDED: {},
    State.FAILED: {State.SUCCEEDED: frozenset({Via.CHECK})},  # done there, failed here
    State.CANCELLED: {},
    State.EXPIRED: {
        **dict.fromkeys((State.SUCCEEDED, State.FAILED), _REPORT_OR_HAND),
        State.SUBMITTED: frozenset({Via.HAND}),
    },
}


def may_move(source: State, target: State, via: Via) -> bool:
    """Return whether a task may move from one state to the other in this way."""
    return via in MOVES[source].get(target, frozenset())
