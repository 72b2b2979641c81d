"""Every exception of the client, named after the problem that the service reports.

ClientError
├── Unreachable         the service did not answer, and was tried again until the client's patience was over
├── BadAnswer           the answer is not one that Receiver gives: the URL may be wrong
├── BrokenDownload      a file arrived twice with another checksum than the task names
└── Problem             the service answered with an error
    ├── BadRequest          400
    ├── Unauthorized        401: the API token is missing or not valid
    ├── NotFound            404: no such task, or no archived file, and why
    ├── Conflict            409: the task's state does not permit it, or the key was used for another order
    ├── Invalid             422: `errors` names each wrong field
    └── Unavailable         502, 503, 504: try again after `retry_after` seconds
"""

import json
import math
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, TypedDict, cast

import httpx

SHOWN = 200
"""Characters of an answer that is no problem document which its exception shows."""


class FieldError(TypedDict):
    """One wrong field of an order: where it is, and what is wrong."""

    loc: list[str | int]
    msg: str


class ClientError(Exception):
    """The base class of all errors that the client raises."""


class Unreachable(ClientError):
    """The service did not answer. An order whose answer was lost is safe to repeat with the same key."""


class BadAnswer(ClientError):
    """The answer is not one that Receiver gives."""


class BrokenDownload(ClientError):
    """A file arrived twice with another checksum than the task names; nothing was kept of it."""


class Problem(ClientError):
    """The service answered with an error: its `status`, `title` and `detail`."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(f"{status} {title}: {detail}" if detail else f"{status} {title}")
        self.status = status
        self.title = title
        self.detail = detail


class BadRequest(Problem):
    """400: the request cannot be read."""


class Unauthorized(Problem):
    """401: the API token is missing or not valid; `receiver token` prints it."""


class NotFound(Problem):
    """404: there is no such task, or no archived file; `detail` says why."""


class Conflict(Problem):
    """409: the task's state does not permit this, or the key was used for another order."""


class Invalid(Problem):
    """422: a field is wrong, unknown or missing; `errors` names each."""

    def __init__(self, status: int, title: str, detail: str, errors: list[FieldError]) -> None:
        super().__init__(status, title, detail)
        self.errors = errors


class Unavailable(Problem):
    """502, 503 or 504: not available just now. `retry_after` is in seconds, None if the service does not say."""

    def __init__(self, status: int, title: str, detail: str, retry_after: float | None) -> None:
        super().__init__(status, title, detail)
        self.retry_after = retry_after


_NAMED: dict[int, type[Problem]] = {400: BadRequest, 401: Unauthorized, 404: NotFound, 409: Conflict}


def problem_of(response: httpx.Response) -> Problem:
    """Return the exception for an answer that is no success; its body has been read."""
    document = _document(response)
    status, detail = response.status_code, document.get("detail")
    title = document.get("title")
    if not isinstance(title, str):
        title = response.reason_phrase or _phrase(status)
    if not isinstance(detail, str):
        detail = _describe(response)
    if status == 422:
        return Invalid(status, title, detail, _errors(document.get("errors")))
    if status in (502, 503, 504):
        return Unavailable(status, title, detail, _retry_after(response))
    return _NAMED.get(status, Problem)(status, title, detail)


def _document(response: httpx.Response) -> dict[str, Any]:
    try:
        found = json.loads(response.content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _describe(response: httpx.Response) -> str:
    """Return what an answer without a problem document says: such answers come from proxies."""
    if response.is_redirect:
        return f"it redirects to {response.headers.get('location', '')[:SHOWN]}; use the service's own URL"
    return " ".join(response.text.split())[:SHOWN]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _errors(given: Any) -> list[FieldError]:
    return [cast("FieldError", each) for each in given if isinstance(each, dict)] if isinstance(given, list) else []


def _retry_after(response: httpx.Response) -> float | None:
    """Return `Retry-After` in seconds; a date counts from that of the answer, as the clocks may differ."""
    given = response.headers.get("retry-after")
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        try:
            until, now = (parsedate_to_datetime(text) for text in (given, response.headers["date"]))
            seconds = (until - now).total_seconds()
        except (KeyError, TypeError, ValueError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
