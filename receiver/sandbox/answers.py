"""The sandbox's HTTP answers, correct and broken ones.

`handlers` chooses among them. They know nothing about families or purchases.
"""

import asyncio
import json
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

SILENT_SECONDS = 120.0
cut_on_purpose: ContextVar[bool] = ContextVar("cut_on_purpose", default=False)
"""Set in a request whose answer `CutAnswer` cut, so that a server need not log that as an error."""


def json_answer(http_status: int, body: Any, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer in ASCII: a prompt may hold a lone surrogate, which UTF-8 cannot encode."""
    return Response(json.dumps(body), http_status, headers, media_type="application/json")


def app_url(request: Request) -> str:
    """Return the URL at which this app is mounted; `request.base_url` is that of the outermost app."""
    root_path = request.scope.get("root_path", "")
    return str(request.url.replace(path=root_path, query="", fragment="")).rstrip("/")


def server_error_page() -> Response:
    """Return what a proxy answers for a broken API: HTTP 500 and an HTML page."""
    return HTMLResponse("<html><body><h1>500 Internal Server Error</h1></body></html>", status_code=500)


class CutAnswer:
    """Sends the head and half the body of an answer; the server then closes the connection."""

    def __init__(self, whole: Response) -> None:
        """Prepare to cut off this answer."""
        self._whole = whole

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer as an ASGI application."""
        body = bytes(self._whole.body)
        await send(
            {"type": "http.response.start", "status": self._whole.status_code, "headers": self._whole.raw_headers}
        )
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        cut_on_purpose.set(True)


class SilentAnswer:
    """Sends nothing until the client disconnects, or finally what a proxy answers for a silent server."""

    def __init__(self, seconds: float = SILENT_SECONDS) -> None:
        """Prepare; `seconds` is how long to stay silent at most."""
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
