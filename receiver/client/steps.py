"""What a call is made of: requests, reading, pausing and work on files, yielded by generators that do none of it.

Each public call is one generator in `calls`, `feed` or `files`. It yields steps and is sent what comes of them.
`Client` and `AsyncClient` do the steps and know nothing else, so that both behave the same. No module here may import
another part of Receiver.
"""

import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx

from receiver.client.errors import BadAnswer, ClientError, Unavailable, Unreachable, problem_of

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0
"""Seconds before the first repetition, and at most before one; `Retry-After` may ask for more."""
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True)
class Request:
    """Send this, and return the answer; with `stream` its body is not read yet, unless it is an error."""

    method: str
    path: str
    params: Sequence[tuple[str, str]] = ()
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    silence: float | None = None
    """Seconds without a byte after which it is given up; None: the client's own."""
    may_repeat: bool = True
    """Whether it may be sent again although it may have arrived."""
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """Return the next bytes of the answer that streams; None at its end."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """Call this function, which reads or writes files, and return what it returns."""

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """Give this value to the caller."""

    value: T


Step = Request | Read | Pause | Work
Steps = Generator[Step, Any, T]
StepsWithItems = Generator[Step | Item[T], Any, None]
S = TypeVar("S")


class Course(Generic[S, T]):
    """The steps of one call, one after the other; `result` is there when no step is left."""

    def __init__(self, steps: Generator[S, Any, T]) -> None:
        self._steps = steps
        self.result: T

    def begin(self) -> S | None:
        """Return the first step."""
        return self._resume(lambda: next(self._steps))

    def go_on(self, answer: Any = None) -> S | None:
        """Return the step after one that gave this."""
        return self._resume(lambda: self._steps.send(answer))

    def fail(self, error: httpx.TransportError) -> S | None:
        """Return the step after one that failed."""
        return self._resume(lambda: self._steps.throw(error))

    def close(self) -> None:
        """Give up: what the steps have begun is cleaned up."""
        self._steps.close()

    def _resume(self, resume: Callable[[], S]) -> S | None:
        try:
            return resume()
        except StopIteration as end:
            self.result = end.value
            return None


class Outage:
    """Decides how long to go on trying while the service does not answer, and how long to pause in between."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._began: float | None = None
        self._failures = 0

    def end(self) -> None:
        """Note that the service answers again."""
        self._began, self._failures = None, 0

    def pause(self, failure: ClientError) -> Pause:
        """Return the pause before the next try; raises the failure if the patience would end before it."""
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        longest = min(FIRST_PAUSE * 2 ** min(self._failures, 20), LONGEST_PAUSE)
        seconds = longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads clients, hides nothing
        if isinstance(failure, Unavailable) and failure.retry_after is not None:
            seconds = max(seconds, failure.retry_after)
        self._failures += 1
        if now + seconds > self._began + self._patience:
            raise failure
        return Pause(seconds)


def exchange(request: Request, outage: Outage) -> Steps[httpx.Response]:
    """Return a good answer, repeating what may be repeated; raises `Unreachable` or the answer's `Problem`.

    The outage is not over yet: a stream may break before its first byte.
    """
    while True:
        try:
            response: httpx.Response = yield request
        except httpx.TransportError as error:
            failure: ClientError = unreachable(error)
            if not (request.may_repeat or isinstance(error, NEVER_SENT)):
                raise failure from error
        else:
            if response.is_success:
                return response
            failure = problem_of(response)
            if not (request.may_repeat and isinstance(failure, Unavailable)):
                raise failure
        yield outage.pause(failure)


def unreachable(error: httpx.TransportError) -> Unreachable:
    """Return the exception for a request without an answer."""
    failure = Unreachable(f"The service did not answer: {str(error) or type(error).__name__}.")
    failure.__cause__ = error
    return failure


def fetch_object(request: Request, outage: Outage) -> Steps[dict[str, Any]]:
    """Return the JSON object of a good answer."""
    response = yield from exchange(request, outage)
    try:
        document = response.json()
    except (ValueError, RecursionError) as error:
        raise bad_answer(response) from error
    if not isinstance(document, dict):
        raise bad_answer(response)
    return document


def bad_answer(response: httpx.Response) -> BadAnswer:
    """Return the exception for an answer that Receiver does not give."""
    place = str(response.request.url.copy_with(query=None))
    return BadAnswer(f"The answer of {place} is not one of Receiver's. Is the URL that of the service?")
