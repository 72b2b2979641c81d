"""Installations that are examined, and small HTTP servers that answer instead of them."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from receiver.config.settings import Settings
from receiver.doctor import Finding, Report, examine
from receiver.providers import CONFIG_TYPES
from tests.measuring import HANG, move_on, until

TLS_HELLO = b"\x16"


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


Say = Callable[[Received], Awaitable[bytes]]


@dataclass
class Answerer:
    """A server that answers every request as a test says; an empty answer hangs up."""

    say: Say
    port: int = 0
    scheme: str = "http"
    received: list[Received] = field(default_factory=list)

    @property
    def url(self) -> str:
        host = "localhost" if self.scheme == "https" else "127.0.0.1"
        return f"{self.scheme}://{host}:{self.port}"

    @contextlib.asynccontextmanager
    async def listening(self, certificate: Path | None = None) -> AsyncIterator["Answerer"]:
        context = None
        if certificate is not None:
            self.scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
        serving: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if (task := asyncio.current_task()) is not None:
                serving.add(task)
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                self.received.append(request := await _read(reader))
                writer.write(await self.say(request))
                await writer.drain()
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> Received:
    if (first := await reader.readexactly(1)) == TLS_HELLO:
        return Received("", "", {}, first)
    head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return Received(method, path, headers, await reader.readexactly(int(headers.get("content-length", 0))))


def answer(status: str, body: str = "", **headers: str) -> bytes:
    """Write an answer; header names are written with underscores."""
    named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\n{named}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode()


def saying(status: str, body: str = "", **headers: str) -> Say:
    """Give everybody the same answer."""

    async def say(_: Received) -> bytes:
        return answer(status, body, **headers)

    return say


async def hanging(_: Received) -> bytes:
    """Never answer."""
    await asyncio.Event().wait()
    return b""


def passing_to(
    target: str, path: Callable[[str], str] = lambda path: path, body: Callable[[bytes], bytes] = lambda body: body
) -> Say:
    """Be a proxy before a service, one that may change path and body."""

    async def say(request: Received) -> bytes:
        async with httpx.AsyncClient(trust_env=False, timeout=HANG) as client:
            kind = {"Content-Type": request.headers.get("content-type", "")}
            url = f"{target}{path(request.path)}"
            got = await client.request(request.method, url, content=body(request.body), headers=kind)
        return answer(f"{got.status_code} Told", got.text, Content_Type=got.headers["content-type"])

    return say


def load(environ: Mapping[str, str | None]) -> Settings:
    """Read settings as a command does; None takes a variable away."""
    return Settings.load({name: value for name, value in environ.items() if value is not None}, CONFIG_TYPES)


PATIENCE = HANG / 2
"""Seconds that doctor waits for answers here."""


async def examined(environ: Mapping[str, str | None]) -> "Seen":
    """Examine an installation by the settings of its environment."""
    async with asyncio.timeout(HANG):
        return Seen(await examine(load(environ), request_seconds=PATIENCE))


async def out_of_patience(environ: Mapping[str, str | None], hangs: Answerer) -> "Seen":
    """Examine an installation beside a server that never answers; as soon as that was asked, its time passes.

    It passes in steps: the time for connecting is over before that for the whole is.
    """
    examining = asyncio.create_task(examined(environ))
    await until(lambda: bool(hangs.received))
    while not examining.done():
        move_on(PATIENCE / 10)
        await asyncio.sleep(0.05)
    return await examining


@dataclass(frozen=True)
class Seen:
    """A report, by subject."""

    report: Report

    def of(self, subject: str) -> list[Finding]:
        return [finding for finding in self.report.findings if finding.subject == subject]

    def the(self, subject: str) -> Finding:
        """The one finding about a subject."""
        (finding,) = self.of(subject)
        return finding
