"""A service that answers each request as a test says, over real HTTP, and both clients behind one face."""

import contextlib
import json
import socket
import socketserver
import struct
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

import anyio

from receiver.client import AsyncClient, Client
from tests.measuring import HANG

TOKEN = "the-token-of-the-tests"
TASK: dict[str, Any] = {"id": "tsk_1", "state": "succeeded", "outputs": []}


@dataclass(frozen=True)
class Asked:
    """One request as it came in."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Break:
    """In an answer: the connection is reset here."""


Answer = Iterable[bytes | Break]
Behave = Callable[[Asked, int], Answer]
"""What to answer to a request, whose number from 0 is given, too."""


def answer(document: Any = None, status: str = "200 OK", **headers: str) -> list[bytes | Break]:
    """Answer with JSON."""
    body = json.dumps(TASK if document is None else document).encode()
    return raw(body, status, **{"Content-Type": "application/json"} | headers)


def problem(status: str, detail: str, headers: dict[str, str] | None = None, **more: Any) -> list[bytes | Break]:
    """Answer with a problem document."""
    number, _, title = status.partition(" ")
    body = json.dumps({"type": "about:blank", "title": title, "status": int(number), "detail": detail, **more})
    return raw(body.encode(), status, **{"Content-Type": "application/problem+json"} | (headers or {}))


def raw(body: bytes, status: str = "200 OK", **headers: str) -> list[bytes | Break]:
    """Answer with these bytes, announced by their length."""
    return [head(status, **{"Content-Length": str(len(body))} | headers), body]


def head(status: str = "200 OK", **headers: str) -> bytes:
    """Begin an answer, which ends where the connection does unless a length is given. An underscore is a hyphen."""
    lines = [f"HTTP/1.1 {status}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


LOST: list[bytes | Break] = [Break()]
"""The request arrived, and its answer never comes."""


class Place(Protocol):
    """Where a service is, and its token."""

    @property
    def url(self) -> str: ...

    def token(self) -> str: ...


@dataclass
class Fake:
    """The service; `behave` may be changed at any time."""

    behave: Behave
    asked: list[Asked] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def token(self) -> str:
        return TOKEN

    @contextlib.contextmanager
    def serving(self) -> Iterator["Fake"]:
        """Serve on the same port as the last time."""
        fake = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):
                    fake.answer(self)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = False

        with Server(("127.0.0.1", self.port), Handler) as server:
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join(HANG)

    def answer(self, connection: socketserver.StreamRequestHandler) -> None:
        """Read one request and answer it."""
        method, target, _ = connection.rfile.readline().decode("latin-1").split(" ")
        headers = {}
        while line := connection.rfile.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        body = connection.rfile.read(int(headers.get("content-length", "0")))
        parts = urlsplit(target)
        asked = Asked(method, parts.path, parse_qsl(parts.query), headers, body)
        number = len(self.asked)
        self.asked.append(asked)
        for piece in self.behave(asked, number):
            if isinstance(piece, Break):
                # Without lingering, closing resets the connection instead of ending it.
                connection.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.request.close()
                return
            connection.wfile.write(piece)
            connection.wfile.flush()


def in_turn(*answers: Answer) -> Behave:
    """Give one answer after the other, and the last one again and again."""
    return lambda _, number: answers[min(number, len(answers) - 1)]


@dataclass(frozen=True)
class Either:
    """One of the two clients, used as if it were the blocking one."""

    kind: type[Client] | type[AsyncClient]

    def __call__(
        self, place: Place, method: str, *given: Any, patience: float = HANG, timeout: float = HANG, **named: Any
    ) -> Any:
        """Call a method of a client that is made for it; of an iterator, return all items."""
        return self.first(None, place, method, *given, patience=patience, timeout=timeout, **named)

    def first(
        self,
        most: int | None,
        place: Place,
        method: str,
        *given: Any,
        patience: float = HANG,
        timeout: float = HANG,
        **named: Any,
    ) -> Any:
        """Call a method as above; of an iterator, return so many items and leave it."""
        if self.kind is Client:
            with Client(place.url, place.token(), patience=patience, timeout=timeout) as client:
                made = getattr(client, method)(*given, **named)
                return _take(made, most) if hasattr(made, "__next__") else made

        async def go() -> Any:
            async with AsyncClient(place.url, place.token(), patience=patience, timeout=timeout) as client:
                made = getattr(client, method)(*given, **named)
                return await _take_awaited(made, most) if isinstance(made, AsyncGenerator) else await made

        return anyio.run(go)


def _take(items: Any, most: int | None) -> list[Any]:
    with contextlib.closing(items):
        return [item for _, item in zip(range(10**9 if most is None else most), items, strict=False)]


async def _take_awaited(items: AsyncGenerator[Any], most: int | None) -> list[Any]:
    found: list[Any] = []
    async with contextlib.aclosing(items):
        while most is None or len(found) < most:
            try:
                found.append(await anext(items))
            except StopAsyncIteration:
                break
    return found
