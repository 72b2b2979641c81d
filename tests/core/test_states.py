"""The whole machine is the table of the public interface, written out once more."""

import pytest

from receiver.core.states import FINAL, MOVES, SETTLED, State, Via, may_move

TABLE = {
    "queued": {"submitting", "cancelled", "expired", "submitted", "running", "succeeded", "failed"},
    "submitting": {"queued", "unconfirmed", "submitted", "running", "succeeded", "failed"},
    "unconfirmed": {"submitted", "running", "succeeded", "failed", "expired"},
    "submitted": {"running", "succeeded", "failed", "expired"},
    "running": {"succeeded", "failed", "expired"},
    "succeeded": set(),
    "failed": {"succeeded"},
    "cancelled": set(),
    "expired": {"succeeded", "failed", "submitted"},
}

LIMITED = {
    ("queued", "submitting"): {"submission"},
    ("queued", "cancelled"): {"hand"},
    ("queued", "expired"): {"clock"},
    ("queued", "submitted"): {"callback"},
    ("queued", "running"): {"callback"},
    ("queued", "succeeded"): {"callback"},
    ("queued", "failed"): {"callback"},
    ("unconfirmed", "expired"): {"clock"},
    ("submitted", "expired"): {"clock"},
    ("running", "expired"): {"clock"},
    ("failed", "succeeded"): {"check"},
    ("expired", "submitted"): {"hand"},
}
"""Moves that only one kind of ways may make."""

TOLD = {"submitted", "running", "succeeded", "failed"}


def test_the_states_are_those_of_the_interface() -> None:
    assert [state.value for state in State] == list(TABLE)
    assert {state.value for state in FINAL} == {"succeeded", "failed", "cancelled"}
    assert {state.value for state in SETTLED} == {"succeeded", "failed", "cancelled", "expired"}


@pytest.mark.parametrize("source", TABLE)
def test_a_task_may_become_what_the_table_says_and_nothing_else(source: str) -> None:
    possible = {target.value for target in State for via in Via if may_move(State(source), target, via)}
    assert possible == TABLE[source]


@pytest.mark.parametrize(("source", "target"), LIMITED, ids="-".join)
def test_some_moves_are_made_in_one_way_only(source: str, target: str) -> None:
    assert {via.value for via in MOVES[State(source)][State(target)]} == LIMITED[source, target]


@pytest.mark.parametrize("source", ["submitting", "unconfirmed", "submitted", "running"])
def test_an_open_task_is_settled_by_callbacks_and_checks_alike_and_never_by_the_clock(source: str) -> None:
    for target in TABLE[source] & TOLD:
        ways = {via.value for via in MOVES[State(source)][State(target)]}
        assert {"callback", "check"} <= ways
        assert "clock" not in ways


def test_an_expired_lease_leaves_a_task_unconfirmed() -> None:
    assert may_move(State.SUBMITTING, State.UNCONFIRMED, Via.CLOCK)
    assert may_move(State.SUBMITTING, State.UNCONFIRMED, Via.SUBMISSION)


def test_only_the_answer_to_its_own_submission_brings_a_task_back_to_the_queue() -> None:
    for via in (Via.CALLBACK, Via.CHECK, Via.HAND):
        assert not any(may_move(state, State.QUEUED, via) for state in State)


def test_an_expired_task_still_takes_its_result() -> None:
    for via in (Via.CALLBACK, Via.CHECK):
        assert may_move(State.EXPIRED, State.SUCCEEDED, via)
        assert may_move(State.EXPIRED, State.FAILED, via)
        assert not may_move(State.EXPIRED, State.RUNNING, via)
