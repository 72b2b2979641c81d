"""Runs the application under uvicorn: the listening socket, the limit on connections, a stop within ten seconds."""

import asyncio
import errno
import gc
import ipaddress
import logging
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
from receiver.sandbox.answers import cut_on_purpose
from receiver.serving import shutdown_watchdog
from receiver.serving.connections import RESERVED_FILES, ConnectionLimit, DeadlineProtocol
from receiver.web.headers import HEADERS

CLOSE_SECONDS = 2
"""Seconds that a stop waits for requests in progress."""
BACKLOG = 2048
ACCEPT_BATCH = 16
"""Connections accepted in one go. asyncio accepts as many as its backlog before it serves any of them, and when the
process is out of files it retries, and logs, for each of the rest."""
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)
_STOPPING = Response(
    '{"type":"about:blank","title":"Service Unavailable","status":503,'
    '"detail":"The service is stopping. This request may have taken effect: check before you send it again."}',
    status_code=503,
    headers={"Connection": "close"},
    media_type="application/problem+json",
)
_VERSIONS = ("1.1", "1.0")
_AMBIGUOUS = Response(
    '{"type":"about:blank","title":"Bad Request","status":400,'
    '"detail":"Request a path in HTTP/1.1 or HTTP/1.0, with a Content-Length or, in HTTP/1.1, a Transfer-Encoding."}',
    status_code=400,
    headers={"Connection": "close"} | HEADERS,
    media_type="application/problem+json",
)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on the address; raises `ConfigError` where that is not possible."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # Name the protocol: asyncio turns off Nagle's algorithm only then, and responses would take 40 ms longer.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)  # only this reserves the port: two processes may bind one that nobody listens on
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

    `started` is called once requests can be answered, `stopping` when the stop begins.
    """
    connections = ConnectionLimit(_max_connections())
    http: Any = partial(DeadlineProtocol, connections)  # uvicorn only ever calls it
    proxies = [text for network in settings.trusted_proxies for text in _socket_forms(network)]
    config = uvicorn.Config(
        RejectAmbiguousRequests(AnswerOnShutdown(app)),
        http=http,
        ws="none",
        lifespan="on",
        backlog=ACCEPT_BATCH,
        log_config=None,
        access_log=False,  # it would print callback tokens
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        timeout_graceful_shutdown=CLOSE_SECONDS,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # Before uvicorn handles signals there is nothing to stop. After the stop it raises the signal again, which must
        # not end the process with an error.
        signal.signal(number, lambda *_: sys.exit(0))
    logging.getLogger("uvicorn.error").addFilter(_is_unexpected)
    server = _Server(config, connections, started, stopping)
    server.run(sockets=[listening])
    if not server.started:
        raise ConfigError("The service could not start. The log above says why.")


def _is_unexpected(_record: logging.LogRecord) -> bool:
    """Return whether a line of uvicorn is about an error of ours: the sandbox cuts answers on purpose when told to."""
    return not cut_on_purpose.get()


def _socket_forms(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> list[str]:
    """Return a network as its addresses appear: on an IPv6 socket, IPv4 addresses have a prefix."""
    if isinstance(network, ipaddress.IPv6Network):
        return [str(network)]
    return [str(network), f"::ffff:{network.network_address}/{96 + network.prefixlen}"]


def _max_connections() -> int:
    """Return how many connections the limit on open files leaves room for."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return sys.maxsize
    # Closed connections release their files only after the next batch was accepted, so there is room for two.
    return max(files - RESERVED_FILES - 2 * ACCEPT_BATCH, ACCEPT_BATCH)


class _Server(uvicorn.Server):
    def __init__(
        self,
        config: uvicorn.Config,
        connections: ConnectionLimit,
        on_start: Callable[[], None],
        on_stop: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._connections = connections
        self._on_start = on_start
        self._on_stop = on_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(self._on_loop_error)
        await super().startup(sockets)
        if self.started:
            for listening in sockets or ():
                listening.listen(BACKLOG)  # asyncio has shortened the queue to its own backlog
            # Loaded modules stay: collecting over them again and again would slow down every hundredth response.
            gc.collect()
            gc.freeze()
            self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_stop()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            shutdown_watchdog.start()
        super().handle_exit(sig, frame)
        self.force_exit = False  # a stop is short; forced, it would leave leases and unfinished requests

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _OUT_OF_FILES:
            self._connections.log_too_many(loop.time())  # asyncio tries again in a second
        else:
            loop.default_exception_handler(context)


class RejectAmbiguousRequests:
    """Refuses requests that a proxy in front might parse differently (request smuggling).

    h11 refuses the rest: no Host or two, codings other than `chunked`, contradicting lengths.
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
        or not path.startswith("/")  # an absolute URL is for a proxy, which this is not
    )


class AnswerOnShutdown:
    """Answers a request that a stop interrupts: uvicorn cancels it, and would log that as an error of ours."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_started = False

        async def track_and_send(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, track_and_send)
        except asyncio.CancelledError:
            if scope["type"] != "http":
                raise
            if not has_started:
                await _STOPPING(scope, receive, send)
