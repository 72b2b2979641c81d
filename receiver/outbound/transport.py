"""httpx's way to the network without a pool: each connection is one request's alone, and nobody waits for one here.

`outbound` makes one for each client, and limits how much is under way. In httpcore's pool requests that wait and are
given up can leave their places taken for ever, and its bookkeeping grows with the square of those who wait.
"""

import ssl
from collections.abc import AsyncIterator

import httpcore
import httpx

from receiver.outbound.connecting import Network

KEEP_SECONDS = 5.0
"""For how long a connection that nobody uses is used again."""


class Transport(httpx.AsyncBaseTransport):
    """Opens connections and keeps a few of those that can be used again."""

    def __init__(self, network: Network, trusted: ssl.SSLContext, *, keep: int) -> None:
        """Take how to connect, whose certificates to trust, and how many unused connections are kept at most."""
        self._network = network
        self._trusted = trusted
        self._keep = keep
        self._kept: list[_Connection] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its answer, whose body is still to be read. Raises httpcore's errors."""
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        if url.scheme not in (b"http", b"https"):
            raise httpcore.UnsupportedProtocol(f"{url.scheme.decode()}:// is no address of a provider")
        connection = await self._kept_to(url.origin) or _Connection(url.origin, self._network, self._trusted)
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
        """Close the connections that nobody uses; requests under way close theirs."""
        self._keep = 0
        while self._kept:
            await self._kept.pop().close()

    async def give_back(self, connection: "_Connection") -> None:
        """Take back a connection whose answer was read, or given up."""
        if connection.is_usable and len(self._kept) < self._keep:
            self._kept.append(connection)
        else:
            await connection.close()

    async def _kept_to(self, origin: httpcore.Origin) -> "_Connection | None":
        """Take a connection that can be used again, and close those that cannot."""
        usable = [connection for connection in self._kept if connection.is_usable]
        dead = [connection for connection in self._kept if connection not in usable]
        found = next((connection for connection in reversed(usable) if connection.origin == origin), None)
        self._kept = [connection for connection in usable if connection is not found]
        for connection in dead:
            await connection.close()
        return found


class _Connection:
    """One connection of httpcore's and where it leads."""

    def __init__(self, origin: httpcore.Origin, network: Network, trusted: ssl.SSLContext) -> None:
        self.origin = origin
        self.http = httpcore.AsyncHTTPConnection(
            origin, ssl_context=trusted, keepalive_expiry=KEEP_SECONDS, network_backend=network
        )

    @property
    def is_usable(self) -> bool:
        """Whether another request may be sent on it."""
        return self.http.is_available() and not self.http.has_expired()

    async def close(self) -> None:
        await self.http.aclose()


class _Body(httpx.AsyncByteStream):
    """An answer's body; closing it gives the connection back."""

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
        await self._transport.give_back(connection)
