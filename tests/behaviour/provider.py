"""A provider that tests script: a raw HTTP server on this machine, so that it can also misbehave as HTTP.

Its requests are the ledger: what it was asked to make, it would have charged for.
"""

import asyncio
import contextlib
import gzip
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from tests.behaviour.families import KNOWN, Family
from tests.measuring import HANG

TLS_HELLO = b"\x16"
Kind = Literal["create", "check"]


def family_of(account: str) -> Family:
    """The family of an account: `gateway-x` is a gateway."""
    return KNOWN[account.partition("-")[0]]


@dataclass(frozen=True)
class Received:
    """One request as it arrived. `account` is the first segment of its path, `path` the rest."""

    account: str
    kind: Kind
    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def callback_url(self) -> str | None:
        return family_of(self.account).callback_url(self.json)


@dataclass(frozen=True)
class Exchange:
    """A request that is waiting for whatever the script does to its connection."""

    request: Received
    writer: asyncio.StreamWriter
    released: asyncio.Event
    closed: asyncio.Event


Script = Callable[[Exchange], Awaitable[None]]


# --- what a script can do


def says(body: Any, status: int = 200, **headers: str) -> Script:
    """Answer with JSON; header names are written with underscores."""
    return writes(_answer(status, json.dumps(body).encode(), {"Content-Type": "application/json", **_named(headers)}))


def shows(page: str, status: int = 200, **headers: str) -> Script:
    """Answer with a page of HTML."""
    return writes(_answer(status, page.encode(), {"Content-Type": "text/html", **_named(headers)}))


def zips(body: Any) -> Script:
    """Answer with JSON that nobody asked to be compressed."""
    packed = gzip.compress(json.dumps(body).encode())
    return writes(_answer(200, packed, {"Content-Type": "application/json", "Content-Encoding": "gzip"}))


def writes(raw: bytes) -> Script:
    """Send these bytes and close the connection."""

    async def script(exchange: Exchange) -> None:
        exchange.writer.write(raw)
        await exchange.writer.drain()

    return script


def cuts(body: Any) -> Script:
    """Promise a whole answer and close the connection in the middle of it."""
    whole = _answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return writes(whole[:-5])


def slams() -> Script:
    """Reset the connection without a byte of an answer."""

    async def script(exchange: Exchange) -> None:
        exchange.writer.transport.abort()

    return script


def hangs(beginning: bytes = b"", *, stubborn: bool = False) -> Script:
    """Send at most the beginning of an answer, and then nothing until the service stops; stubbornly even then."""

    async def script(exchange: Exchange) -> None:
        exchange.writer.write(beginning)
        await (exchange.closed if stubborn else exchange.released).wait()

    return script


def drips(body: Any, seconds: float) -> Script:
    """Answer so slowly that each byte comes in time and the whole does not."""
    raw = _answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    async def script(exchange: Exchange) -> None:
        for byte in raw:
            exchange.writer.write(bytes([byte]))
            await exchange.writer.drain()
            await asyncio.sleep(seconds)

    return script


def after(action: Callable[[Received], Awaitable[Any]], then: Script) -> Script:
    """Do something else while the request is waiting for its answer."""

    async def script(exchange: Exchange) -> None:
        await action(exchange.request)
        await then(exchange)

    return script


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def _answer(status: int, body: bytes, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


# --- the server


@dataclass
class Provider:
    """All accounts of a test at one address, each below a path of its own.

    An account's scripts are used in turn, the last one again and again. Without any, a create is accepted under a new
    id (`<account>-1`, `-2` ...) and a check finds the work still waiting.
    """

    url: str = ""
    received: list[Received] = field(default_factory=list)
    scripts: dict[tuple[str, Kind], list[Script]] = field(default_factory=lambda: defaultdict(list))
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _released: asyncio.Event = field(default_factory=asyncio.Event)
    _closed: asyncio.Event = field(default_factory=asyncio.Event)
    _ids: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def on_create(self, family: Family, *scripts: Script) -> None:
        self.scripts[family.name, "create"] = list(scripts)

    def on_check(self, family: Family, *scripts: Script) -> None:
        self.scripts[family.name, "check"] = list(scripts)

    def bought(self, family: Family | None = None) -> list[Received]:
        """The create requests that arrived: the ledger."""
        return self._of("create", family)

    def asked(self, family: Family | None = None) -> list[Received]:
        """The status requests that arrived."""
        return self._of("check", family)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for requests to come in."""
        async with asyncio.timeout(HANG), self._news:
            await self._news.wait_for(condition)

    def release(self) -> None:
        """End every exchange that hangs."""
        self._released.set()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve on a free port."""
        handlers: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            handler = asyncio.create_task(self._connected(reader, writer))
            handlers.add(handler)
            handler.add_done_callback(handlers.discard)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield
        finally:
            self.release()
            self._closed.set()
            server.close()
            await server.wait_closed()
            async with asyncio.timeout(HANG):
                await asyncio.gather(*handlers)

    def _of(self, kind: Kind, family: Family | None) -> list[Received]:
        return [it for it in self.received if it.kind == kind and (family is None or it.account == family.name)]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await _read(reader)
            async with self._news:
                self.received.append(request)
                self._news.notify_all()
            await self._script(request)(Exchange(request, writer, self._released, self._closed))
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def _script(self, request: Received) -> Script:
        waiting = self.scripts[request.account, request.kind]
        if waiting:
            return waiting.pop(0) if len(waiting) > 1 else waiting[0]
        family = family_of(request.account)
        if request.kind == "create":
            self._ids[request.account] += 1
            return says(family.accepted(f"{request.account}-{self._ids[request.account]}"))
        return says(family.waiting(asked_about(request)))


def asked_about(request: Received) -> str:
    """The remote id that a status request is about."""
    named = request.query.get("taskId")
    return named[0] if named else request.path.rpartition("/")[2]


async def _read(reader: asyncio.StreamReader) -> Received:
    first = await reader.readexactly(1)
    if first == TLS_HELLO:
        raise ConnectionError("plain HTTP only")
    head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = {}
    for line in filter(None, head[1:]):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    parts = urlsplit(target)
    account, _, rest = parts.path.lstrip("/").partition("/")
    is_create = family_of(account).is_create(method, f"/{rest}")
    kind: Kind = "create" if is_create else "check"
    return Received(account, kind, method, f"/{rest}", parse_qs(parts.query), headers, body)
