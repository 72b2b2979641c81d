"""Reads the feed of a service as a client does: event by event, for as long as it likes."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.behaviour.service import TOKEN, Service
from tests.measuring import HANG


@dataclass(frozen=True)
class Event:
    """One event, or a comment, which has no name."""

    name: str | None
    number: int | None = None
    data: Any = None


@dataclass
class Listener:
    """One open request for the feed."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _text: str = ""
    _told: asyncio.Event = field(default_factory=asyncio.Event)
    _left: asyncio.Event = field(default_factory=asyncio.Event)

    async def started(self) -> "Listener":
        await self._until(lambda: self.status)
        return self

    async def next(self) -> Event:
        """Return the next event or comment."""
        await self._until(lambda: "\n\n" in self._text)
        block, _, self._text = self._text.partition("\n\n")
        fields = {name: value for name, _, value in (line.partition(": ") for line in block.split("\n"))}
        if "event" not in fields:
            assert block.startswith(":"), block
            return Event(None)
        return Event(fields["event"], int(fields["id"]), json.loads(fields["data"]))

    async def change(self) -> tuple[int, Any]:
        """Return the next change, whatever comments come before it."""
        while (event := await self.next()).name is None:
            pass
        assert event.name == "task"
        return event.number or 0, event.data

    def silent(self) -> bool:
        """Tell whether nothing has come that was not read."""
        return not self._text

    async def _until(self, condition: Any) -> None:
        async with asyncio.timeout(HANG):
            while not condition():
                self._told.clear()
                await self._told.wait()

    async def receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self._text += message.get("body", b"").decode()
            if not message.get("more_body"):
                self.ended.set()
        self._told.set()


@contextlib.asynccontextmanager
async def listening(
    service: Service, after: int | str | None = None, query: str = "", **headers: str
) -> AsyncIterator[Listener]:
    """Read the feed; leave at the end."""
    named = {"authorization": f"Bearer {TOKEN}"} | headers
    if after is not None:
        named["last-event-id"] = str(after)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/api/events",
        "raw_path": b"/api/events",
        "query_string": quote(query, safe="=&").encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        "client": ("127.0.0.1", 1),
        "server": ("service", 80),
    }
    listener = Listener()
    running = asyncio.create_task(service.app(scope, listener.receive, listener.send))
    try:
        yield await listener.started()
    finally:
        listener._left.set()
        async with asyncio.timeout(HANG):
            await running
