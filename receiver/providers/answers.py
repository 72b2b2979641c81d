"""What an answer to one of our requests means: the readings that several families share. Pure.

Only the provider files call this. HTTP statuses and envelopes become the errors that say what to do next; a family's
own words are in its own file.
"""

import re
from collections.abc import Mapping
from typing import Any

import httpx

from receiver import wire
from receiver.errors import Busy, ProviderError, Refused, Unconfirmed, Unreadable
from receiver.messages import Event, Problem
from receiver.states import State

_CLIENT_FAULTS = frozenset({400, 401, 402, 403, 404, 405, 406, 409, 410, 413, 415, 422, 433, 451, 455, 505})
"""Codes inside an HTTP 2xx that say no: the client errors, quota (433), maintenance (455), disabled feature (505)."""
_SUCCESS = frozenset({"200", "0", "success", "ok"})
_SAYS_NO = re.compile(
    r"paused|disabled|not[ _-]?found|required|not supported|not exist|insufficient|invalid|validation|denied",
    re.IGNORECASE,
)


def read_answer(response: httpx.Response) -> Mapping[str, Any]:
    """Read an answer to a submission as a JSON object.

    An HTTP error raises what it means: 429 `Busy`, any other 4xx `Refused`, everything else `Unconfirmed`. So does
    a success that cannot be read: `Unconfirmed`.
    """
    try:
        body: Mapping[str, Any] = wire.read_object(response.content)
    except Unreadable:
        body = {}
    if not response.is_success:
        raise http_error(response, problem_in(body) or Problem(f"http_{response.status_code}", glimpse(response)))
    if not body:
        raise Unconfirmed("broken_answer", f"no usable answer: {glimpse(response)}", http_status=response.status_code)
    return body


def http_error(response: httpx.Response, problem: Problem) -> ProviderError:
    """Say what an HTTP status outside 2xx means for a request that may have bought something."""
    status = response.status_code
    if status == 429:
        return Busy(problem.code, problem.message, retry_after=retry_after(response), http_status=status)
    if response.is_client_error:
        return Refused(problem.code, problem.message, http_status=status)
    if response.is_redirect:
        words = "redirected, which is not followed; check the base URL"
        return Unconfirmed("broken_answer", f"HTTP {status}: {words}", http_status=status)
    words = f"HTTP {status}: {problem.message}"
    return Unconfirmed("server_error", words, http_status=status, retry_after=retry_after(response), told=problem.code)


def refuse_envelope(response: httpx.Response, body: Mapping[str, Any], refusals: frozenset[int] = frozenset()) -> None:
    """Raise what an envelope's own code means inside an HTTP 2xx; success, or no code at all, passes.

    429 is `Busy`; a client fault, by number or in words like "paused", "disabled", "not found", "required", is
    `Refused`, and so are the family's own `refusals`. Any other code passes too, since only an id, read next, tells
    whether the order was taken.
    """
    problem = problem_in(body)
    if problem is None or _succeeded(body) or not wire.first(body, "code", "error"):
        return
    numbers = {wire.whole(body.get("code")), wire.whole(problem.code)}
    if 429 in numbers:
        raise Busy(problem.code, problem.message, retry_after=retry_after(response), http_status=response.status_code)
    if numbers & (_CLIENT_FAULTS | refusals) or _SAYS_NO.search(f"{problem.code} {problem.message}"):
        raise Refused(problem.code, problem.message, http_status=response.status_code)


def accepted(response: httpx.Response, body: Mapping[str, Any], remote_id: str | None, event: Event) -> Event:
    """Return the event of an accepted submission: accepted means that an id was read; else `Unconfirmed`."""
    if remote_id is not None:
        return event
    problem = problem_in(body)
    if problem is not None and not _succeeded(body):
        raise Unconfirmed("server_error", problem.message, http_status=response.status_code, told=problem.code)
    raise Unconfirmed(
        "broken_answer", f"an answer without an id: {glimpse(response)}", http_status=response.status_code
    )


def read_amount(response: httpx.Response, key: str) -> float:
    """Read an answer that tells an amount of credits under this key.

    Raises what `read_answer` and `refuse_envelope` raise, and `Unreadable` where there is no amount.
    """
    body = read_answer(response)
    refuse_envelope(response, body)
    amount = wire.credit(body.get(key))
    if amount is None:
        raise Unreadable(f"an answer without an amount: {glimpse(response)}")
    return amount


def _succeeded(body: Mapping[str, Any]) -> bool:
    return (wire.text(body.get("code")) or "").lower() in _SUCCESS


def problem_in(body: Mapping[str, Any]) -> Problem | None:
    """Find the provider's own code and words in an error answer of any of the families' shapes."""
    error = body.get("error")
    inner = wire.mapping(error) or wire.mapping(wire.mapping(body.get("data")).get("error"))
    detail = wire.text(error) or wire.text(wire.mapping(body.get("data")).get("error"))
    code = wire.text(wire.first(inner, "code", "type")) or wire.text(body.get("code"))
    words = wire.text(inner.get("message")) or wire.text(wire.first(body, "msg", "message"))
    message = ": ".join(dict.fromkeys(part for part in (words, detail) if part))
    return Problem(code or "error", message or f"code {code}") if code or message else None


LONGEST_PAUSE = 3600.0


def retry_after(response: httpx.Response) -> float | None:
    """Read `Retry-After`, seconds or a date, as seconds from now, 1 to 3600; None where it makes no sense.

    A date is read against the answer's own `Date`, so that a wrong clock on either side does not matter.
    """
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit() and len(value) < 16:
        return min(max(float(value), 1.0), LONGEST_PAUSE)
    until, now = wire.http_date(value), wire.http_date(response.headers.get("Date", ""))
    if until is None:
        return None
    if now is None and "received_at" in response.extensions:
        now = response.extensions["received_at"] / 1000
    return None if now is None else min(max(until - now, 1.0), LONGEST_PAUSE)


def state_of(word: str | None, states: Mapping[str, State]) -> tuple[State | None, tuple[str, ...]]:
    """Translate a provider's state word, whatever its case; an unknown word counts as running and leaves a notice."""
    if word is None:
        return None, ()
    known = states.get(word.lower())
    if known is not None:
        return known, ()
    return State.RUNNING, (
        f'The provider says "{wire.cut(word, 80)}", a state this service does not know; taken as running.',
    )


def failure(code: Any, reason: Any, word: str | None) -> Problem:
    """Read why a task failed; a reason that is JSON itself gives its own code and message."""
    found = wire.text(code)
    message = wire.text(reason)
    if message and message.startswith("{"):
        try:
            inner = problem_in(wire.mapping(wire.read_nested(reason)))
        except Unreadable:
            inner = None
        if inner is not None:
            found, message = found or (inner.code if inner.code != "error" else None), inner.message
    return Problem(found or wire.text(word) or "failed", message or "The provider gave no reason.")


def glimpse(response: httpx.Response) -> str:
    """Show the beginning of an answer as one line of text, for people; tags of HTML are left out."""
    shown = response.content[:4000].decode("utf-8", "replace")
    if "<" in shown:
        shown = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", shown, flags=re.DOTALL | re.IGNORECASE)
    return wire.cut(wire.clean(" ".join(shown.split())), 200) or "an empty body"
