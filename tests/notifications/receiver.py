"""An application that is told of tasks: a raw HTTP server on this machine, so that it can also misbehave as HTTP."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from standardwebhooks import Webhook

from tests.behaviour.provider import Exchange, Script, says
from tests.behaviour.provider import Received as Request
from tests.measuring import HANG


@dataclass(frozen=True)
class Received:
    """One message as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def signatures(self) -> list[str]:
        return self.headers["webhook-signature"].split(" ")

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def verified(self, secret: str) -> Any:
        """Read it as an application does that has this secret; the clock must run."""
        return Webhook(secret).verify(self.body, dict(self.headers))


OK: Script = says({})


@dataclass
class Receiver:
    """Answers messages by its scripts in turn, the last one again and again; without any, with 200."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    scripts: list[Script] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def host(self) -> str:
        """Its host as `RECEIVER_NOTIFY_HOSTS` lists it."""
        return self.url.removeprefix("http://")

    def answers(self, *scripts: Script) -> None:
        """Answer the next messages so."""
        self.scripts = list(scripts)

    def release(self) -> None:
        """End every exchange that hangs."""
        self._released.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for messages to come in."""
        async with asyncio.timeout(HANG), self._news:
            await self._news.wait_for(condition)

    async def until_received(self, number: int) -> list[Received]:
        """Wait until so many messages came in; returns all."""
        await self.until(lambda: len(self.received) >= number)
        return self.received

    @contextlib.asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator["Receiver"]:
        """Serve on a free port, or on this one."""
        handlers: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            handler = asyncio.create_task(self._connected(reader, writer))
            handlers.add(handler)
            handler.add_done_callback(handlers.discard)

        server = await asyncio.start_server(connected, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            self.release()
            server.close()
            await server.wait_closed()
            async with asyncio.timeout(HANG):
                await asyncio.gather(*handlers)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                message = await _read(reader)
                script = self._script()
                async with self._news:
                    self.received.append(message)
                    self._news.notify_all()
                request = Request("", "create", "POST", message.path, {}, message.headers, message.body)
                await script(Exchange(request, writer, self._released, self._released))
        finally:
            self.at_once -= 1
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def _script(self) -> Script:
        if not self.scripts:
            return OK
        return self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {}
    for line in filter(None, head[1:]):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(head[0].split(" ")[1], headers, body)
