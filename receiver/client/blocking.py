"""`Client`: the API for programs that wait. It does the steps of a call and decides nothing."""

import contextlib
import time
from collections.abc import Generator, Iterator
from typing import Any, Self, TypeVar

import httpx

from receiver.client.calls import Calls
from receiver.client.connection import PATIENCE, TIMEOUT, Connection
from receiver.client.kinds import Blocking
from receiver.client.steps import Course, Item, Pause, Read, Request, Step, Steps, StepsWithItems, Work

S = TypeVar("S")
T = TypeVar("T")


class Client(Calls, Blocking):
    """A client of one Receiver service. Several threads may use it at once.

    `url` is the service's, `token` an API token. `timeout` is how many seconds may pass without a byte, `patience` for
    how many a service that is unreachable or unavailable is tried again.
    """

    def __init__(self, url: str, token: str, *, timeout: float = TIMEOUT, patience: float = PATIENCE) -> None:
        super().__init__(patience)
        self._connection = Connection(url, token, timeout)
        self._http = httpx.Client(**self._connection.options())

    def __repr__(self) -> str:
        return f"Client({str(self._connection.url)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def _run(self, steps: Steps[T]) -> T:
        course = Course(steps)
        with contextlib.closing(course), _Exchange(self._http, self._connection) as exchange:
            step = course.begin()
            while step is not None:
                step = exchange.advance(course, step)
        return course.result

    def _iterate(self, steps: StepsWithItems[T]) -> Generator[T]:
        course = Course(steps)
        with contextlib.closing(course), _Exchange(self._http, self._connection) as exchange:
            step = course.begin()
            while step is not None:
                if isinstance(step, Item):
                    yield step.value
                    step = course.go_on()
                else:
                    step = exchange.advance(course, step)


class _Exchange:
    """Does the steps of one call. At most one answer is open at a time."""

    def __init__(self, http: httpx.Client, connection: Connection) -> None:
        self._http = http
        self._connection = connection
        self._response: httpx.Response | None = None
        self._pieces: Iterator[bytes]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def advance(self, course: Course[S, T], step: Step) -> S | None:
        """Do a step, and return the one after it."""
        try:
            answer = self._do(step)
        except httpx.TransportError as error:
            return course.fail(error)
        return course.go_on(answer)

    def _do(self, step: Step) -> Any:
        match step:
            case Request():
                return self._send(step)
            case Read():
                return next(self._pieces, None)
            case Pause():
                return time.sleep(step.seconds)
            case Work():
                return step.function()

    def _send(self, request: Request) -> httpx.Response:
        self._close()
        built = self._http.build_request(**self._connection.arguments(request))
        self._response = response = self._http.send(built, stream=True)
        self._pieces = response.iter_bytes()
        if not (request.stream and response.is_success):
            response.read()
        return response

    def _close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None
