"""What an answer to one of our requests means, for several families. Pure; the provider files call it.

HTTP statuses and envelopes become the errors that say what happens next.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx

from receiver.core import wire
from receiver.core.errors import Busy, ProviderError, Refused, Unconfirmed, Unreadable
from receiver.core.messages import Event, Problem
from receiver.providers.refusals import is_rate_limit, is_refusal, is_upstream_error
from receiver.providers.remote_ids import find_task_id

_CLIENT_FAULTS = frozenset({400, 401, 402, 403, 404, 405, 406, 409, 410, 413, 415, 422, 433, 451, 455, 505})
"""Codes inside an HTTP 2xx that refuse: client errors, quota (433), maintenance (455), disabled feature (505)."""
_SUCCESS = frozenset({"200", "0", "success", "ok", "succeed", "succeeded", "201", "202", "accepted"})
_ACCEPTED = _SUCCESS | {"1", "22"}
"""Also those of Midjourney proxies for accepted and queued, which mean errors in other APIs."""
NO_CODE = "error"
"""The code of an error that has none."""
_SOFTWARE = re.compile(r"[a-z]+_api_error")
"""Types of error that name the relay's software (`new_api_error`) and say nothing about the error."""
_SAYS_NO = re.compile(
    r"paused|disabled|not[ _-]?found|required|not supported|not exist|insufficient|invalid|validation|denied",
    re.IGNORECASE,
)


def read_answer(response: httpx.Response) -> Mapping[str, Any]:
    """Return the JSON object in an answer to a submission.

    An HTTP error raises what it means: `Busy` for 429, `Refused` for another 4xx, else `Unconfirmed`, unless its code
    or message says more. A success that cannot be read is `Unconfirmed`, too.
    """
    try:
        body: Mapping[str, Any] = wire.read_message(response.content)
    except Unreadable:
        body = {}
    if not response.is_success:
        raise _http_error(response, body)
    if not body:
        raise Unconfirmed("broken_answer", f"no usable answer: {excerpt(response)}", http_status=response.status_code)
    return body


def _http_error(response: httpx.Response, body: Mapping[str, Any]) -> ProviderError:
    """Return what an HTTP status outside 2xx means for a request that may have bought something.

    An error that says that the order reached no upstream outranks the status: a relay without a channel answers 503,
    and an empty account 429, although waiting does not help.
    """
    status, told = response.status_code, find_problem(body)
    code = told.code if told is not None and told.code != NO_CODE else f"http_{status}"
    message = told.message if told is not None else excerpt(response)
    busy = Busy(code, message, retry_after=retry_after(response), http_status=status)
    if told is not None and response.is_client_error and is_rate_limit(told):
        return busy
    if told is not None and is_refusal(told, _error_type(body)):
        return Refused(code, message, http_status=status)
    if status == 429:
        return busy
    if response.is_client_error:
        return Refused(code, message, http_status=status)
    if response.is_redirect:
        words = "a redirect, which is not followed; check the base URL"
        return Unconfirmed("broken_answer", f"HTTP {status}: {words}", http_status=status)
    words = f"HTTP {status}: {message}"
    return Unconfirmed("server_error", words, http_status=status, retry_after=retry_after(response), provider_code=code)


def refuse_envelope(response: httpx.Response, body: Mapping[str, Any], refusals: frozenset[int] = frozenset()) -> None:
    """Raise what an envelope's error means inside an HTTP 2xx; a success, or no code at all, passes.

    429 is `Busy`. A client fault is `Refused`, by its code or by words such as "paused", "disabled", "not found" or
    "required", and so are the family's own `refusals`. Other codes pass, as only the id, which is read next, says
    whether the order was accepted; so do an upstream's errors that a relay passes on.
    """
    problem = find_problem(body)
    if problem is None or not is_error(body):
        return
    status = response.status_code
    numbers = {wire.parse_integer(body.get("code")), wire.parse_integer(problem.code)}
    if is_rate_limit(problem):
        raise Busy(problem.code, problem.message, retry_after=retry_after(response), http_status=status)
    if is_refusal(problem, _error_type(body)):
        raise Refused(problem.code, problem.message, http_status=status)
    if 429 in numbers:
        raise Busy(problem.code, problem.message, retry_after=retry_after(response), http_status=status)
    if is_upstream_error(problem, _error_type(body)):
        return
    if numbers & (_CLIENT_FAULTS | refusals) or _SAYS_NO.search(f"{problem.code} {problem.message}"):
        raise Refused(problem.code, problem.message, http_status=status)


def is_error(body: Mapping[str, Any]) -> bool:
    """Return whether an answer's envelope, by its code, its error or its flag, is not a success."""
    if _is_success(body):
        return False
    return bool(wire.first_value(body, "code", "error", "errors")) or body.get("success") is False


def accepted_event(response: httpx.Response, body: Mapping[str, Any], remote_id: str | None, event: Event) -> Event:
    """Return the event of an accepted submission, which has an id. Raises `Unconfirmed` if there is none.

    If it is not where the family puts it, it is searched for wherever relays put it, unless the answer is an error.
    """
    if remote_id is not None:
        return event
    if not is_error(body) or (wire.read_text(body.get("code")) or "").lower() in _ACCEPTED:
        remote_id = find_task_id(body)
        if remote_id is not None:
            return replace(event, remote_id=remote_id)
    problem = find_problem(body)
    if problem is not None and not _is_success(body):
        raise Unconfirmed("server_error", problem.message, http_status=response.status_code, provider_code=problem.code)
    raise Unconfirmed(
        "broken_answer", f"an answer without an id: {excerpt(response)}", http_status=response.status_code
    )


def read_amount(response: httpx.Response, key: str) -> float:
    """Return the amount of credits under this key.

    Raises what `read_answer` and `refuse_envelope` raise, and `Unreadable` if there is no amount.
    """
    body = read_answer(response)
    refuse_envelope(response, body)
    amount = wire.parse_credits(body.get(key))
    if amount is None:
        raise Unreadable(f"an answer without an amount: {excerpt(response)}")
    return amount


def _is_success(body: Mapping[str, Any]) -> bool:
    return (wire.read_text(body.get("code")) or "").lower() in _SUCCESS


def find_problem(body: Mapping[str, Any]) -> Problem | None:
    """Return the provider's code and message in an error answer, in any family's format."""
    inner, detail = _error_object(body), wire.read_text(_error_value(body))
    kind = wire.read_text(inner.get("type"))
    code = wire.read_text(inner.get("code")) or (kind if kind and not _SOFTWARE.fullmatch(kind) else None)
    code = code or wire.read_text(body.get("code"))
    words = wire.read_text(wire.first_value(inner, "message", "msg", "detail"))
    words = words or wire.read_text(wire.first_value(body, "msg", "message", "detail", "title", "description"))
    message = ": ".join(dict.fromkeys(part for part in (words, detail) if part))
    return Problem(code or NO_CODE, message or f"code {code}") if code or message else None


def _error_value(body: Mapping[str, Any]) -> Any:
    errors = body.get("errors")
    listed = errors[0] if isinstance(errors, list) and errors else errors
    return wire.first_value(body, "error") or wire.first_value(wire.as_mapping(body.get("data")), "error") or listed


def _error_object(body: Mapping[str, Any]) -> Mapping[str, Any]:
    return wire.as_mapping(_error_value(body))


def _error_type(body: Mapping[str, Any]) -> str | None:
    return wire.read_text(wire.first_value(_error_object(body), "type") or body.get("type"))


MAX_RETRY_AFTER = 3600.0


def retry_after(response: httpx.Response) -> float | None:
    """Return `Retry-After`, seconds or a date, as seconds from now, 1 to 3600; None if it cannot be read.

    A date is compared with the answer's own `Date`, so that a wrong clock on either side does not matter.
    """
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit() and len(value) < 16:
        return min(max(float(value), 1.0), MAX_RETRY_AFTER)
    until, now = wire.parse_http_date(value), wire.parse_http_date(response.headers.get("Date", ""))
    if until is None:
        return None
    if now is None and "received_at" in response.extensions:
        now = response.extensions["received_at"] / 1000
    return None if now is None else min(max(until - now, 1.0), MAX_RETRY_AFTER)


def excerpt(response: httpx.Response) -> str:
    """Return the beginning of an answer as one line of text for people, without HTML tags."""
    shown = response.content[:4000].decode("utf-8", "replace")
    if "<" in shown:
        shown = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", shown, flags=re.DOTALL | re.IGNORECASE)
    return wire.truncate(wire.clean_text(" ".join(shown.split())), 200) or "an empty body"
