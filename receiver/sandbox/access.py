"""Who may use the sandbox: anyone on this machine, with any key; from elsewhere, only with the API token as key.

The simulation costs nothing, but it accepts large bodies, stores orders and posts to callback URLs. `app` puts this
before everything except the video, which browsers show.
"""

import hmac
import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from receiver.sandbox.answers import json_answer

_FORWARDED = ("x-forwarded-for", "forwarded", "x-real-ip")
"""Headers with which a proxy on this machine passes on a client elsewhere."""
_REFUSED = "From another machine, use the API token as key; `receiver token` prints it."


class LocalOrToken:
    """Refuses requests from other machines without one of the tokens as their key."""

    def __init__(self, app: ASGIApp, tokens: Sequence[str]) -> None:
        """Prepare for these tokens; without any, other machines have no access."""
        self._app = app
        self._tokens = [token.encode() for token in tokens]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as an ASGI application."""
        if scope["type"] != "http" or _is_video(scope) or is_local(scope) or self._has_token(Headers(scope=scope)):
            await self._app(scope, receive, send)
        else:
            await json_answer(401, {"code": 401, "msg": _REFUSED, "error": {"message": _REFUSED}})(scope, receive, send)

    def _has_token(self, headers: Headers) -> bool:
        keys = (headers.get("authorization", "").partition(" ")[2].strip(), headers.get("x-api-key", "").strip())
        given = [key.encode("utf-8", "surrogateescape") for key in keys]
        return any([hmac.compare_digest(key, token) for key in given for token in self._tokens])  # noqa: C419 - all of them, whichever fits


def is_local(scope: Scope) -> bool:
    """Return whether a request comes from this machine: from loopback, or from the address that it came to."""
    client, server = scope.get("client"), scope.get("server")
    if client is None or any(name.decode("latin-1") in _FORWARDED for name, _ in scope["headers"]):
        return False
    return is_loopback(client[0]) or (server is not None and client[0] == server[0])


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _is_video(scope: Scope) -> bool:
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return scope["method"] in ("GET", "HEAD") and path.startswith("/media/") and path.endswith(".mp4")
