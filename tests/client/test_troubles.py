"""What the client does when the service errs, is not there, or its answer is lost."""

import threading
from typing import Any

import httpx
import pytest

from receiver.client import (
    BadRequest,
    Conflict,
    Invalid,
    NotFound,
    Problem,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from receiver.client.connection import Connection
from receiver.client.feed import follow
from receiver.client.steps import LONGEST_PAUSE, Outage, Pause, Request, Steps, exchange
from receiver.client.tasks import wait_for
from tests.measuring import HANG, Stopwatch

from .rig import LOST, TASK, Answer, Either, Fake, answer, head, in_turn, problem, raw

ORDER = ("revid", "sora-2-text-to-video", {"prompt": "A paper boat"})


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 Bad Request", BadRequest),
        ("401 Unauthorized", Unauthorized),
        ("404 Not Found", NotFound),
        ("409 Conflict", Conflict),
        ("413 Content Too Large", Problem),
        ("500 Internal Server Error", Problem),
    ],
)
def test_a_problem_is_raised_under_its_name(call: Either, fake: Fake, status: str, kind: type[Problem]) -> None:
    fake.behave = in_turn(problem(status, "It says why."))
    with pytest.raises(Problem, match=r"It says why\.") as raised:
        call(fake, "get", "tsk_1")
    assert type(raised.value) is kind
    assert f"{raised.value.status} {raised.value.title}: {raised.value.detail}" == f"{status}: It says why."
    assert len(fake.asked) == 1, "asking again would not help"


def test_every_wrong_field_of_an_order_is_named(call: Either, fake: Fake) -> None:
    errors = [{"loc": ["input", "n_frames"], "msg": "must be one of: 10, 15"}]
    fake.behave = in_turn(problem("422 Unprocessable Entity", "input.n_frames: must be ...", errors=errors))
    with pytest.raises(Invalid) as raised:
        call(fake, "submit", *ORDER)
    assert raised.value.errors == errors
    assert len(fake.asked) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (raw(b"<h1>502</h1>\n\n  nginx", "404 Not Found"), "404 Not Found: <h1>502</h1> nginx"),
        (raw(b"", "418 I'm a teapot"), "418 I'm a teapot"),
        (raw(b"[1]", "400 "), "400 Bad Request: [1]"),
        (raw(b"?", "599 "), "599 Error: ?"),
        (raw(b"", "301 Moved", Location="https://new.example/api"), "it redirects to https://new.example/api"),
        (raw(b'{"title": 1, "detail": [], "errors": 3}', "422 Unprocessable"), "422 Unprocessable"),
    ],
)
def test_an_error_of_a_proxy_is_a_problem_too(call: Either, fake: Fake, given: Answer, words: str) -> None:
    fake.behave = in_turn(given)
    with pytest.raises(Problem) as raised:
        call(fake, "get", "tsk_1")
    assert words in str(raised.value)


def test_a_redirect_is_not_followed_so_that_the_token_goes_nowhere_else(call: Either, fake: Fake) -> None:
    with Fake(in_turn(answer())).serving() as elsewhere:
        fake.behave = in_turn(raw(b"", "307 Temporary Redirect", Location=f"{elsewhere.url}/api/tasks"))
        with pytest.raises(Problem, match="use the service's own URL"):
            call(fake, "submit", *ORDER)
    assert elsewhere.asked == []


@pytest.mark.parametrize("trouble", [LOST, problem("503 Service Unavailable", "Later."), raw(b"", "502 Bad Gateway")])
def test_an_order_whose_answer_was_lost_is_repeated_under_the_same_key(
    call: Either, fake: Fake, trouble: Answer
) -> None:
    fake.behave = in_turn(trouble, [*answer()[:1], b"{"], trouble, answer())
    assert call(fake, "submit", *ORDER) == TASK
    assert len(fake.asked) == 4
    assert len({asked.headers["idempotency-key"] for asked in fake.asked}) == 1
    assert len({asked.body for asked in fake.asked}) == 1


@pytest.mark.parametrize("method", ["cancel", "not_bought"])
def test_what_would_fail_the_second_time_is_not_repeated_once_it_may_have_arrived(
    call: Either, fake: Fake, method: str
) -> None:
    for trouble, kind in ((LOST, Unreachable), (problem("503 Service Unavailable", "Later."), Unavailable)):
        fake.asked.clear()
        fake.behave = in_turn(trouble, answer())
        with pytest.raises(kind):
            call(fake, method, "tsk_1")
        assert len(fake.asked) == 1


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ConnectTimeout("")])
def test_what_was_never_sent_is_always_sent_again(error: httpx.TransportError) -> None:
    request = Request("POST", "/api/tasks/tsk_1/cancel", may_repeat=False)
    steps = exchange(request, Outage(60))
    assert next(steps) is request
    assert isinstance(steps.throw(error), Pause)
    assert next(steps) is request
    with pytest.raises(Unreachable):
        steps.throw(httpx.ReadError("reset"))


def test_patience_ends_with_the_reason(call: Either, fake: Fake) -> None:
    nobody = Fake(in_turn(answer()))
    with nobody.serving():
        pass
    with pytest.raises(Unreachable, match="did not answer") as unreachable:
        call(nobody, "get", "tsk_1", patience=0.3)
    assert unreachable.value.__cause__ is not None
    fake.behave = in_turn(problem("503 Service Unavailable", "The database is locked."))
    with pytest.raises(Unavailable, match="The database is locked"):
        call(fake, "get", "tsk_1", patience=0.3)
    assert len(fake.asked) > 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "Fri, 20 Nov 2026 12:00:30 GMT", "Date": "Fri, 20 Nov 2026 12:00:00 GMT"}, 30.0),
        ({"Retry-After": "Fri, 20 Nov 2026 12:00:30 GMT"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, 0.0),
        ({"Retry-After": "inf"}, None),
    ],
)
def test_when_to_come_again_is_told(call: Either, fake: Fake, headers: dict[str, str], seconds: float | None) -> None:
    fake.behave = in_turn(problem("503 Service Unavailable", "Later.", headers))
    with pytest.raises(Unavailable) as raised:
        call(fake, "get", "tsk_1", patience=0)
    assert raised.value.retry_after == seconds
    assert len(fake.asked) == 1


def test_the_service_is_left_alone_for_as_long_as_it_asks(call: Either, fake: Fake) -> None:
    fake.behave = in_turn(problem("503 Service Unavailable", "Later.", {"Retry-After": "0.8"}), answer())
    watch = Stopwatch()
    assert call(fake, "get", "tsk_1") == TASK
    assert watch.read().at_least(0.8)


def test_pauses_grow_to_a_bound_and_begin_anew_after_an_answer() -> None:
    outage, failure = Outage(1e9), Unreachable("")
    pauses = [outage.pause(failure).seconds for _ in range(12)]
    assert all(0.125 * 2**number <= pause <= 0.25 * 2**number for number, pause in enumerate(pauses[:5]))
    assert all(LONGEST_PAUSE / 2 <= pause <= LONGEST_PAUSE for pause in pauses[6:])
    outage.end()
    assert outage.pause(failure).seconds <= 0.25


def test_waiting_goes_on_over_answers_that_come_too_early_or_not_at_all(call: Either, fake: Fake) -> None:
    running = answer(TASK | {"state": "running"})
    fake.behave = in_turn(LOST, problem("503 Service Unavailable", "Stopping."), LOST, running, answer())
    assert call(fake, "wait", "tsk_1")["state"] == "succeeded"
    assert [dict(asked.query)["wait"] for asked in fake.asked] == ["60.000"] * 5


@pytest.mark.parametrize(("steps", "seconds"), [(wait_for("tsk_1", None, 60), 90), (follow(None, 60), 45)])
def test_an_answer_that_takes_its_time_may_be_silent_for_longer(steps: Steps[Any], seconds: float) -> None:
    request = next(steps)
    assert isinstance(request, Request)
    timeout = Connection("http://x.example", "token", 5).arguments(request)["timeout"]
    assert (timeout.read, timeout.connect) == (seconds, 5)


def test_waiting_ends_with_the_task_as_it_is_after_its_time(call: Either, fake: Fake) -> None:
    fake.behave = in_turn(answer(TASK | {"state": "running"}))
    watch = Stopwatch()
    assert call(fake, "wait", "tsk_1", 0.5)["state"] == "running"
    assert watch.read().at_least(0.5)
    asked = [float(dict(asked.query)["wait"]) for asked in fake.asked]
    assert asked == sorted(asked, reverse=True)
    assert asked[0] <= 0.5
    assert len(asked) <= 3, "early answers are no reason to ask without end"
    fake.asked.clear()
    assert call(fake, "wait", "tsk_1", 0)["state"] == "running"
    assert [dict(asked.query)["wait"] for asked in fake.asked] == ["0.000"]


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "expired"])
def test_waiting_ends_with_every_settled_state(call: Either, fake: Fake, state: str) -> None:
    fake.behave = in_turn(answer(TASK | {"state": state}))
    assert call(fake, "wait", "tsk_1")["state"] == state
    assert len(fake.asked) == 1


def test_an_answer_that_stops_in_the_middle_is_given_up(fake: Fake, call: Either) -> None:
    hanging = threading.Event()

    def behave(_: Any, number: int) -> Any:
        if number:
            yield from answer()
            return
        yield head(Content_Length="100")
        hanging.wait(HANG)

    fake.behave = behave
    try:
        assert call(fake, "get", "tsk_1", timeout=0.1) == TASK
    finally:
        hanging.set()
    assert len(fake.asked) == 2
