"""The HTTP answers the sandbox gives, well-behaved ones and ones that never end well.

The desk chooses among them. They know nothing of families or purchases.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

MUTE_SECONDS = 120.0


def json_answer(http_status: int, body: Any, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer in ASCII, since a prompt may hold half a surrogate pair that UTF-8 cannot express."""
    return Response(json.dumps(body), http_status, headers, media_type="application/json")


def address_of_app(request: Request) -> str:
    """Where this app is mounted, as the request saw it; `request.base_url` is the address of the outermost app."""
    root_path = request.scope.get("root_path", "")
    return str(request.url.replace(path=root_path, query="", fragment="")).rstrip("/")


def server_error_page() -> Response:
    """What a proxy puts before a broken API: HTTP 500 and a page for people."""
    return HTMLResponse("<html><body><h1>500 Internal Server Error</h1></body></html>", status_code=500)


class CutAnswer:
    """Sends the head and half the body of an answer and leaves; the server then closes the connection."""

    def __init__(self, whole: Response) -> None:
        """Take the answer to be cut."""
        self._whole = whole

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer as an ASGI application."""
        body = bytes(self._whole.body)
        await send(
            {"type": "http.response.start", "status": self._whole.status_code, "headers": self._whole.raw_headers}
        )
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})


class MuteAnswer:
    """Says nothing until the client goes away, then it is over; at the latest what a proxy says of a silent server."""

    def __init__(self, seconds: float = MUTE_SECONDS) -> None:
        """Take how long to stay mute at most."""
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as an ASGI application."""
        try:
            async with asyncio.timeout(self._seconds):
                while (await receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            await HTMLResponse("<html><body><h1>504 Gateway Time-out</h1></body></html>", status_code=504)(
                scope, receive, send
            )
