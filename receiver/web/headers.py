"""Security headers that every response has: they allow a browser next to nothing.

Only the response to a callback has none of them: it is JSON, for a provider, and the hot path. Pages have a policy of
their own (`pages.layout`). `Strict-Transport-Security` is missing on purpose: it would apply to everything on this
host, on any port, so the proxy that terminates TLS should set it.
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
_CALLBACK_PREFIX = f"{CALLBACKS}/"
_PAIRS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


class SecurityHeaders:
    """Adds the headers to every response that does not have its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["method"] == "POST" and scope["path"].startswith(_CALLBACK_PREFIX)):
            await self._app(scope, receive, send)
            return

        async def add_headers_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name for name, _ in message["headers"]}
                missing = [pair for pair in _PAIRS if pair[0] not in present]
                message = {**message, "headers": [*message["headers"], *missing]}
            await send(message)

        await self._app(scope, receive, add_headers_and_send)
