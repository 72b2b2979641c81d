"""Clients that are in the middle of something when the service stops: each notes what came back."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from tests.behaviour.families import FAMILIES
from tests.measuring import HANG
from tests.torture.driver import TOKEN, Letter

BEARER = {"Authorization": f"Bearer {TOKEN}"}
STUCK = (
    b"",
    b"POST /callbacks/revid/x HTTP/1.1\r\nHost: a\r\nX-Slow: ",
    b"POST /api/tasks HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\nContent-Length: 9\r\n\r\n{" % TOKEN.encode(),
    b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
)
"""What connections said that say no more: nothing, half a head, half a body, a whole request."""


@dataclass
class Load:
    """Requests from many connections at once, each sent once, and what came back for each."""

    url: str
    answers: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    async def call_back(self, letters: list[Letter]) -> None:
        """Send callbacks, until the service is gone."""
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=HANG) as client:
            while letters:
                one = letters.pop()
                try:
                    answer = await client.post(one.path, content=one.body)
                except httpx.TransportError:
                    self.broken.append(one.mark)
                    return
                self.answers[one.mark] = answer.status_code

    async def order(self, marks: list[str]) -> None:
        """Submit orders, until the service is gone."""
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=HANG, headers=BEARER) as client:
            while marks:
                mark = marks.pop()
                try:
                    answer = await client.post("/api/tasks", json=FAMILIES["apixo"].order(mark))
                except httpx.TransportError:
                    self.broken.append(mark)
                    return
                self.answers[mark] = answer.status_code

    async def sweep(self) -> None:
        """Have the service look at everything that is due, until it is gone."""
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=HANG, headers=BEARER) as client:
            with contextlib.suppress(httpx.TransportError):
                await client.post("/api/poll")

    async def until(self, number: int) -> None:
        """Wait until so many requests were answered."""
        async with asyncio.timeout(5 * HANG):
            while len(self.answers) < number:  # noqa: ASYNC110 - another process answers
                await asyncio.sleep(0.01)


@contextmanager
def stuck(url: str, number: int) -> Iterator[None]:
    """Hold connections open on which nothing comes any more."""
    with contextlib.ExitStack() as stack:
        for n in range(number):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0)))
            connection.sendall(STUCK[n % len(STUCK)])
        yield


class ComingIn:
    """A request whose head was read, and whose body is still missing."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
        self._reader = reader
        self._writer = writer
        self._body = body

    async def finish(self) -> bytes:
        """Send the body; returns the whole answer."""
        self._writer.write(self._body)
        await self._writer.drain()
        return await self._reader.read()


@contextlib.asynccontextmanager
async def coming_in(url: str, body: bytes) -> AsyncIterator[ComingIn]:
    """Begin an order, and wait until the service asks for its body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
    head = f"POST /api/tasks HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"{head}Expect: 100-continue\r\n\r\n".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    try:
        yield ComingIn(reader, writer, body)
    finally:
        writer.close()


async def refuses_connections(url: str) -> None:
    """Wait until nobody listens there any more: the stop has begun."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
        except OSError:
            return
        writer.close()
        await asyncio.sleep(0.01)
