"""The states of a task and every move between them: the whole machine on one screen.

`lifecycle.apply` is the only caller that acts on it; the README's table is checked against it by a test.
"""

from enum import StrEnum


class State(StrEnum):
    """Where a task stands. The order is the one of the README's table."""

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
    """Who brings the news that moves a task."""

    SUBMISSION = "submission"  # the answer to our own request, or our own hand-over of the task
    CALLBACK = "callback"
    CHECK = "check"
    HAND = "hand"  # a person
    CLOCK = "clock"  # a deadline, or a lease that ran out


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})
SETTLED = FINAL | {State.EXPIRED}
"""What `?wait=` waits for. An expired task may still hear the truth."""

NEWS = frozenset({Via.SUBMISSION, Via.CALLBACK, Via.CHECK})
"""A provider's word."""
RESOLVED = NEWS | {Via.HAND}
"""A provider's word, or that of a person who looked there."""

_TAKEN = (State.SUBMITTED, State.RUNNING, State.SUCCEEDED, State.FAILED)
_SUBMISSION = frozenset({Via.SUBMISSION})
_CLOCK = frozenset({Via.CLOCK})

MOVES: dict[State, dict[State, frozenset[Via]]] = {
    State.QUEUED: {
        State.SUBMITTING: _SUBMISSION,
        State.CANCELLED: frozenset({Via.HAND}),
        State.EXPIRED: _CLOCK,
        **dict.fromkeys(_TAKEN, frozenset({Via.CALLBACK})),  # it had arrived after all, and is then never sent
    },
    State.SUBMITTING: {
        State.QUEUED: _SUBMISSION,  # never by the clock: a lease that ran out may mean that it was received
        State.UNCONFIRMED: _SUBMISSION | _CLOCK,
        **dict.fromkeys(_TAKEN, NEWS),
    },
    State.UNCONFIRMED: {**dict.fromkeys(_TAKEN, RESOLVED), State.EXPIRED: _CLOCK},
    State.SUBMITTED: {State.RUNNING: NEWS, State.SUCCEEDED: NEWS, State.FAILED: NEWS, State.EXPIRED: _CLOCK},
    State.RUNNING: {State.SUCCEEDED: NEWS, State.FAILED: NEWS, State.EXPIRED: _CLOCK},
    State.SUCCEEDED: {},
    State.FAILED: {State.SUCCEEDED: frozenset({Via.CHECK})},  # done there, failed here
    State.CANCELLED: {},
    State.EXPIRED: {State.SUCCEEDED: RESOLVED, State.FAILED: RESOLVED, State.SUBMITTED: frozenset({Via.HAND})},
}


def may_move(source: State, target: State, via: Via) -> bool:
    """Say whether this kind of news may move a task from one state to the other."""
    return via in MOVES[source].get(target, frozenset())


def sources(target: State, via: Via) -> frozenset[State]:
    """Name every state from which this kind of news may move a task to `target`."""
    return frozenset(state for state in State if may_move(state, target, via))
