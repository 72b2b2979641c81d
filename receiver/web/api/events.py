"""`GET /api/events`: the feed of changes as Server-Sent Events.

It writes what `receiver.feed` reads. A reader that does not keep up is slowed down here and cut off by the server's
deadline for responses; when it comes back with the last id that it saw, it gets the latest state of what it missed.
"""

import contextlib

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from receiver.core.errors import StoreUnavailable
from receiver.feed import Change, Feed, Reader
from receiver.web import access
from receiver.web.api import requests
from receiver.web.api.requests import LAST_EVENT_ID, EventsQuery

COMMENT_SECONDS = 15.0
"""A reader that hears nothing for longer has lost its connection."""
CHUNK_BYTES = 32 * 1024
MEDIA_TYPE = "text/event-stream"
HEADERS = {"X-Accel-Buffering": "no"}
"""nginx would hold events back."""


async def stream_events(request: Request) -> Response:
    """GET /api/events."""
    await access.require_api(request)
    query, after = requests.read_events_query(request), requests.last_event_id(request)
    if request.method == "HEAD":
        return Response(headers=HEADERS, media_type=MEDIA_TYPE)
    return EventStream(request, query, after)


class EventStream(StreamingResponse):
    """The changes that one reader asked for, until it leaves, its session ends or the service stops."""

    def __init__(self, request: Request, query: EventsQuery, after: int | None) -> None:
        super().__init__((), headers=HEADERS, media_type=MEDIA_TYPE)
        self._request = request
        self._query = query
        self._after = after

    async def stream_response(self, send: Send) -> None:
        """Send everything; a database that is unavailable at the beginning is an error, and later the end."""
        feed: Feed = self._request.app.state.feed
        async with feed.reader(self._after) as reader:
            self.headers[LAST_EVENT_ID] = str(reader.position)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            with contextlib.suppress(StoreUnavailable, HTTPException):  # who connects again is then told why not
                await self._send_changes(reader, send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_changes(self, reader: Reader, send: Send) -> None:
        await _send_chunk(send, _reset(reader.position) if reader.was_reset else b": connected\n\n")
        while not self._request.app.state.services.stopping.is_set():
            changes = await reader.next(COMMENT_SECONDS)
            chunk = bytearray()
            for change in filter(self._is_wanted, changes):
                chunk += _event(change)
                if len(chunk) >= CHUNK_BYTES:
                    await _send_chunk(send, bytes(chunk))
                    chunk.clear()
            if not changes:
                await access.require_api(self._request)  # its session may have ended
                chunk += b":\n\n"
            if chunk:
                await _send_chunk(send, bytes(chunk))

    def _is_wanted(self, change: Change) -> bool:
        states, provider = self._query.state, self._query.provider
        return (not states or change.task["state"] in states) and provider in (None, change.task["provider"])


async def _send_chunk(send: Send, chunk: bytes) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": True})


def _event(change: Change) -> bytes:
    return f"id: {change.number}\nevent: task\ndata: {change.data}\n\n".encode("ascii")


def _reset(position: int) -> bytes:
    return f"id: {position}\nevent: reset\ndata: {{}}\n\n".encode("ascii")
