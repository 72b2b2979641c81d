"""`AsyncClient`: the API for asyncio and trio. It does the steps of a call and decides nothing."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Self, TypeVar

import anyio
import anyio.to_thread
import httpx

from receiver.client.calls import Calls
from receiver.client.connection import PATIENCE, TIMEOUT, Connection
from receiver.client.kinds import Asynchronous
from receiver.client.steps import Course, Item, Pause, Read, Request, Step, Steps, StepsWithItems, Work

S = TypeVar("S")
T = TypeVar("T")


class AsyncClient(Calls, Asynchronous):
    """A client of one Receiver service, whose calls are awaited. Several tasks of one event loop may use it at once.

    `url` is the service's, `token` an API token. `timeout` is how many seconds may pass without a byte, `patience` for
    how many a service that is unreachable or unavailable is tried again.
    """

    def __init__(self, url: str, token: str, *, timeout: float = TIMEOUT, patience: float = PATIENCE) -> None:
        super().__init__(patience)
        self._connection = Connection(url, token, timeout)
        self._http = httpx.AsyncClient(**self._connection.options())

    def __repr__(self) -> str:
        return f"AsyncClient({str(self._connection.url)!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def _run(self, steps: Steps[T]) -> T:
        course = Course(steps)
        with contextlib.closing(course):
            async with _Exchange(self._http, self._connection) as exchange:
                step = course.begin()
                while step is not None:
                    step = await exchange.advance(course, step)
        return course.result

    async def _iterate(self, steps: StepsWithItems[T]) -> AsyncGenerator[T]:
        course = Course(steps)
        with contextlib.closing(course):
            async with _Exchange(self._http, self._connection) as exchange:
                step = course.begin()
                while step is not None:
                    if isinstance(step, Item):
                        yield step.value
                        step = course.go_on()
                    else:
                        step = await exchange.advance(course, step)


class _Exchange:
    """Does the steps of one call. At most one answer is open at a time."""

    def __init__(self, http: httpx.AsyncClient, connection: Connection) -> None:
        self._http = http
        self._connection = connection
        self._response: httpx.Response | None = None
        self._pieces: AsyncIterator[bytes]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def advance(self, course: Course[S, T], step: Step) -> S | None:
        """Do a step, and return the one after it."""
        try:
            answer = await self._do(step)
        except httpx.TransportError as error:
            return course.fail(error)
        return course.go_on(answer)

    async def _do(self, step: Step) -> Any:
        match step:
            case Request():
                return await self._send(step)
            case Read():
                return await anext(self._pieces, None)
            case Pause():
                return await anyio.sleep(step.seconds)
            case Work():
                return await anyio.to_thread.run_sync(step.function)

    async def _send(self, request: Request) -> httpx.Response:
        await self._close()
        built = self._http.build_request(**self._connection.arguments(request))
        self._response = response = await self._http.send(built, stream=True)
        self._pieces = response.aiter_bytes()
        if not (request.stream and response.is_success):
            await response.aread()
        return response

    async def _close(self) -> None:
        if self._response is not None:
            await self._response.aclose()
            self._response = None
