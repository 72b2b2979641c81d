"""An httpx transport without a connection pool: each request has a connection of its own, and none waits for one.

`client` has one for each client, and limits how much is under way. In httpcore's pool, a cancelled wait can leak its
connection, and the bookkeeping grows with the square of the waiting requests.
"""

import ssl
from collections.abc import AsyncIterator

import httpcore
import httpx

from receiver.outbound.connecting import Network

KEEPALIVE_SECONDS = 5.0
"""For how long an idle connection may be reused."""


class Transport(httpx.AsyncBaseTransport):
    """Opens connections and keeps a few idle ones for reuse."""

    def __init__(self, network: Network, trusted: ssl.SSLContext, *, max_idle: int) -> None:
        """Prepare; `max_idle` connections are kept for reuse."""
        self._network = network
        self._trusted = trusted
        self._max_idle = max_idle
        self._idle: list[_Connection] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the answer to a request, its body still unread. Raises httpcore's errors."""
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        if url.scheme not in (b"http", b"https"):
            raise httpcore.UnsupportedProtocol(f"{url.scheme.decode()}:// is not supported")
        connection = await self._reuse(url.origin) or _Connection(url.origin, self._network, self._trusted)
        try:
            answer = await connection.http.handle_async_request(
                httpcore.Request(
                    request.method,
                    url,
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        except BaseException:
            await connection.close()
            raise
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(self, connection, answer),
            extensions=answer.extensions,
        )

    async def aclose(self) -> None:
        """Close the idle connections; requests under way close theirs."""
        self._max_idle = 0
        while self._idle:
            await self._idle.pop().close()

    async def release(self, connection: "_Connection") -> None:
        """Keep a connection for reuse, or close it."""
        if connection.is_usable and len(self._idle) < self._max_idle:
            self._idle.append(connection)
        else:
            await connection.close()

    async def _reuse(self, origin: httpcore.Origin) -> "_Connection | None":
        """Return an idle connection to this origin, if any; close those that cannot be used any more."""
        usable = [connection for connection in self._idle if connection.is_usable]
        dead = [connection for connection in self._idle if connection not in usable]
        found = next((connection for connection in reversed(usable) if connection.origin == origin), None)
        self._idle = [connection for connection in usable if connection is not found]
        for connection in dead:
            await connection.close()
        return found


class _Connection:
    """An httpcore connection and its origin."""

    def __init__(self, origin: httpcore.Origin, network: Network, trusted: ssl.SSLContext) -> None:
        self.origin = origin
        self.http = httpcore.AsyncHTTPConnection(
            origin, ssl_context=trusted, keepalive_expiry=KEEPALIVE_SECONDS, network_backend=network
        )

    @property
    def is_usable(self) -> bool:
        """Return whether another request may be sent on it."""
        return self.http.is_available() and not self.http.has_expired()

    async def close(self) -> None:
        await self.http.aclose()


class _Body(httpx.AsyncByteStream):
    """An answer's body; closing it releases the connection."""

    def __init__(self, transport: Transport, connection: _Connection, answer: httpcore.Response) -> None:
        self._transport = transport
        self._connection: _Connection | None = connection
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._answer.aiter_stream():
            yield part

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            await self._answer.aclose()
        except BaseException:
            await connection.close()
            raise
        await self._transport.release(connection)
