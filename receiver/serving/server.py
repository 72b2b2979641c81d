"""Runs the application under uvicorn: the listening socket, room for its connections, a stop within ten seconds."""

import asyncio
import errno
import gc
import ipaddress
import resource
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from receiver.config.settings import Settings
from receiver.core.errors import ConfigError
from receiver.serving import last_resort
from receiver.serving.connections import OWN_FILES, Crowd, Punctual
from receiver.web.headers import HEADERS

CLOSE_SECONDS = 2
"""How long a stop waits for requests that are being answered."""
BACKLOG = 2048
AT_ONCE = 16
"""Connections that are taken in one go. asyncio takes as many as its backlog before it looks at any of them, and where
files run out it goes on trying, and logging, for the rest."""
_NO_FILES = (errno.EMFILE, errno.ENFILE)
_STOPPED = Response(
    '{"type":"about:blank","title":"Service Unavailable","status":503,'
    '"detail":"The service stops. What this request began may have been done: look before you send it again."}',
    status_code=503,
    headers={"Connection": "close"},
    media_type="application/problem+json",
)
_VERSIONS = ("1.1", "1.0")
_AMBIGUOUS = Response(
    '{"type":"about:blank","title":"Bad Request","status":400,'
    '"detail":"Ask in HTTP 1.1 or 1.0 for a path, with either a Content-Length or, in 1.1, a Transfer-Encoding."}',
    status_code=400,
    headers={"Connection": "close"} | HEADERS,
    media_type="application/problem+json",
)


def listen(host: str, port: int) -> socket.socket:
    """Bind the address to serve on; raises `ConfigError` where that cannot be done."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # The protocol is named, since asyncio turns Nagle's delay off only where it stands: answers would take 40 ms.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)  # only now is the port ours: two may bind one that nobody listens on
    except OSError as error:
        words = error.strerror or str(error)
        raise ConfigError(f"HOST, PORT: cannot listen on {host}:{port}: {words}; for example PORT=8001") from error
    listening.set_inheritable(True)
    return listening


def run(
    app: ASGIApp,
    settings: Settings,
    listening: socket.socket,
    started: Callable[[], None],
    stopping: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    `started` is called when the first request can be answered, `stopping` when the last ones are being answered.
    """
    crowd = Crowd(_most_connections())
    http: Any = partial(Punctual, crowd)  # uvicorn only ever calls it
    proxies = [text for network in settings.trusted_proxies for text in _as_seen(network)]
    config = uvicorn.Config(
        Unambiguous(Stoppable(app)),
        http=http,
        ws="none",
        lifespan="on",
        backlog=AT_ONCE,
        log_config=None,
        access_log=False,  # it would print callback tokens
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        timeout_graceful_shutdown=CLOSE_SECONDS,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # Before uvicorn listens to signals there is nothing to stop; when it has stopped, it raises the signal again,
        # and a stop that was asked for is no fault.
        signal.signal(number, lambda *_: sys.exit(0))
    server = _Server(config, crowd, started, stopping)
    server.run(sockets=[listening])
    if not server.started:
        raise ConfigError("The service could not start; the log above says why.")


def _as_seen(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> list[str]:
    """Write a network as addresses in it look: on a socket for IPv6, those of IPv4 have a prefix."""
    if isinstance(network, ipaddress.IPv6Network):
        return [str(network)]
    return [str(network), f"::ffff:{network.network_address}/{96 + network.prefixlen}"]


def _most_connections() -> int:
    """Return how many connections the limit of open files leaves room for."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    # Those that give way are gone after the next ones have come.
    return sys.maxsize if files == resource.RLIM_INFINITY else max(files - OWN_FILES - 2 * AT_ONCE, AT_ONCE)


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, crowd: Crowd, on_start: Callable[[], None], on_stop: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._crowd = crowd
        self._on_start = on_start
        self._on_stop = on_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(self._on_fault)
        await super().startup(sockets)
        if self.started:
            for listening in sockets or ():
                listening.listen(BACKLOG)  # asyncio has shortened the queue to its own backlog
            # What was loaded stays: looking through it for garbage again and again would cost every hundredth answer.
            gc.collect()
            gc.freeze()
            self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_stop()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            last_resort.start()
        super().handle_exit(sig, frame)
        self.force_exit = False  # the stop is short; broken off, it would leave leases and unfinished requests

    def _on_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _NO_FILES:
            self._crowd.tell(loop.time())  # asyncio tries again in a second
        else:
            loop.default_exception_handler(context)


class Unambiguous:
    """Refuses requests that a proxy before us might read otherwise, and so pass on one that hides in their body.

    h11 refuses the rest by itself: two hosts, none, codings besides `chunked`, lengths that contradict each other.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_ambiguous(scope):
            await _AMBIGUOUS(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _is_ambiguous(scope: Scope) -> bool:
    names, version, path = [name for name, _ in scope["headers"]], scope["http_version"], scope["path"]
    return (
        (b"transfer-encoding" in names and (b"content-length" in names or version != "1.1"))
        or version not in _VERSIONS
        or not path.startswith("/")  # a whole URL is for a proxy, which this is none
    )


class Stoppable:
    """Answers a request that the stop breaks off: uvicorn cancels it, and would log that as a fault of ours."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except asyncio.CancelledError:
            if scope["type"] != "http":
                raise
            if not begun:
                await _STOPPED(scope, receive, send)
