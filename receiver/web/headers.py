"""The headers that every answer has: what a browser may do with it, which is next to nothing.

Only a callback's answer has none of them: it is JSON, for a provider, and the hot path. Pages say more in their own
policy (`page_frame`). There is no `Strict-Transport-Security` here: it would bind all that runs on this host, on any
port, so it is for whoever terminates TLS for the host to say.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from receiver.core.links import CALLBACKS

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; media-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
}
_HOT = f"{CALLBACKS}/"
_PAIRS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


class Headed:
    """Adds the headers to every answer that does not have its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["method"] == "POST" and scope["path"].startswith(_HOT)):
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                more = [pair for pair in _PAIRS if pair[0] not in given]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self._app(scope, receive, sending)
