"""A host of result files that tests script, byte by byte: it can lie, break off, drip and lead away."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from tests.measuring import HANG

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
MP4 = b"\0\0\0\x20ftypisom" + bytes(range(256)) * 8


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Visit:
    """A request that waits for whatever the script does to its connection."""

    asked: Asked
    writer: asyncio.StreamWriter
    closing: asyncio.Event


Script = Callable[[Visit], Awaitable[None]]


def head(status: int = 200, **headers: object) -> bytes:
    named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Said\r\nConnection: close\r\n{named}\r\n".encode()


def serves(content: bytes, *, etag: str | None = '"v1"', kind: str = "video/mp4") -> Script:
    """Serve a file, or the range that is asked for."""

    async def script(visit: Visit) -> None:
        headers: dict[str, object] = {"Content_Type": kind}
        if etag is not None:
            headers["ETag"] = etag
        start = _start(visit.asked, etag)
        if start:
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            visit.writer.write(head(206, Content_Range=span, Content_Length=len(content) - start, **headers))
        else:
            visit.writer.write(head(200, Content_Length=len(content), **headers))
        visit.writer.write(content[start:])
        await visit.writer.drain()

    return script


def breaks_off(content: bytes, after: int, *, etag: str | None = '"v1"') -> Script:
    """Promise a whole file, or the rest of it, and close the connection after so many bytes of it."""

    async def script(visit: Visit) -> None:
        start = _start(visit.asked, etag)
        span = {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        headers = {"Content_Length": len(content) - start, **({"ETag": etag} if etag else {}), **span}
        visit.writer.write(head(206 if start else 200, **headers))
        visit.writer.write(content[start : start + after])
        await visit.writer.drain()

    return script


def says(status: int, body: bytes = b"", **headers: object) -> Script:
    async def script(visit: Visit) -> None:
        visit.writer.write(head(status, Content_Length=len(body), **headers) + body)
        await visit.writer.drain()

    return script


def leads_to(url: str, status: int = 302) -> Script:
    return says(status, Location=url)


def raw(answer: bytes) -> Script:
    async def script(visit: Visit) -> None:
        visit.writer.write(answer)
        await visit.writer.drain()

    return script


def endless(piece: bytes = bytes(65536)) -> Script:
    """Send without an end, in chunks, until the other side has enough."""

    async def script(visit: Visit) -> None:
        visit.writer.write(head(200, Transfer_Encoding="chunked"))
        while not visit.writer.is_closing():
            visit.writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            await visit.writer.drain()

    return script


def hangs(beginning: bytes = b"") -> Script:
    """Send at most the beginning of an answer, and then nothing."""

    async def script(visit: Visit) -> None:
        visit.writer.write(beginning)
        await visit.closing.wait()

    return script


def _start(asked: Asked, etag: str | None) -> int:
    wanted = asked.headers.get("range", "")
    if etag is None or not wanted or asked.headers.get("if-range") != etag:
        return 0
    return int(wanted.removeprefix("bytes=").partition("-")[0])


@dataclass
class FileServer:
    """Serves what the test says at each path: one script after the other, the last one for ever."""

    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    _scripts: dict[str, list[Script]] = field(default_factory=dict)
    _closing: asyncio.Event = field(default_factory=asyncio.Event)
    _visited: asyncio.Event = field(default_factory=asyncio.Event)

    def at(self, path: str, *scripts: Script) -> str:
        """Say what happens at a path; returns its URL."""
        self._scripts[path] = list(scripts)
        return f"http://127.0.0.1:{self.port}{path}"

    def asked_for(self, path: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.path == path]

    async def until_asked(self, times: int) -> None:
        """Wait until it was asked so often."""
        async with asyncio.timeout(HANG):
            while len(self.asked) < times:
                self._visited.clear()
                await self._visited.wait()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["FileServer"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self._closing.set()
            server.close()
            await asyncio.wait_for(server.wait_closed(), HANG)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            asked = Asked(lines[0].split(" ")[1], headers)
            self.asked.append(asked)
            self._visited.set()
            scripts = self._scripts.get(asked.path) or [says(404)]
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            try:
                await (scripts.pop(0) if len(scripts) > 1 else scripts[0])(Visit(asked, writer, self._closing))
            finally:
                self.at_once -= 1
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
