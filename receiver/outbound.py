"""Drives a provider's requests over httpx: limits, deadlines, and httpx's errors in our words.

All outgoing provider I/O is here, so that another HTTP client would be one file. Redirects are not followed, cookies
are not kept, the environment's proxies and netrc are not read, and answers are bounded.
"""

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, TypeVar

import httpcore
import httpx

from receiver.connecting import Network
from receiver.errors import NotSent, ProviderError, Unconfirmed
from receiver.providers.base import Flow

T = TypeVar("T")
BeforePaid = Callable[[httpx.Request], Awaitable[httpx.Request]]
"""Called with the request that buys, before it leaves; returns the one to send."""
Answered = Callable[[httpx.Response], None]
"""Called with every answer, before the provider reads it."""

MAX_ANSWER = 4 * 1024 * 1024
CONNECTIONS = 20
"""For each provider account: one slow provider must not use up the others' connections."""
CONNECT_SECONDS = 10.0
SLOWEST_UPLOAD = 256 * 1024
"""Bytes a second: a streamed body has so much more time than a request that is all there."""
USER_AGENT = "receiver/1.0"
"""Always sent: some providers' networks refuse the defaults of HTTP clients."""

_FAILURES = (TimeoutError, httpx.HTTPError, httpx.InvalidURL, UnicodeError)
"""What httpx raises; the last two for host names, and for a `Location` that it reads although it does not follow."""


class Outbound:
    """HTTP clients for every provider account."""

    def __init__(
        self,
        timeout: float,
        clock: Callable[[], int],
        network: Network | None = None,
        trusted: ssl.SSLContext | None = None,
    ) -> None:
        """Take the total seconds for one request and the clock in Unix milliseconds; how to connect and whose
        certificates to trust only where that is not the usual."""
        self._timeout = timeout
        self._clock = clock
        self._network = network or Network()
        self._trusted = trusted
        self._clients: dict[tuple[str, bool], httpx.AsyncClient] = {}

    async def run(self, account: str, flow: Flow[T], *, answered: Answered, before_paid: BeforePaid | None = None) -> T:
        """Send a flow's requests one after the other and return what they mean.

        Raises `NotSent`, `Unconfirmed`, and whatever the flow makes of the answers.
        """
        try:
            request = next(flow)
            while True:
                paid = bool(request.extensions.get("paid"))
                if paid and before_paid is not None:
                    request = await before_paid(request)
                response = await self._send(self._client(account, keep_alive=not paid), request)
                answered(response)
                request = flow.send(response)
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            flow.close()

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()

    def _client(self, account: str, *, keep_alive: bool) -> httpx.AsyncClient:
        """Pick the account's client; the request that buys gets a fresh connection.

        On a kept connection that the other side is just closing, nobody can tell whether the request was received.
        """
        client = self._clients.get((account, keep_alive))
        if client is None:
            client = self._clients[account, keep_alive] = httpx.AsyncClient(
                headers={"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity"},
                # Connecting and the TLS handshake have half each: httpx closes what it gives up by itself.
                timeout=httpx.Timeout(self._timeout, connect=min(CONNECT_SECONDS, self._timeout / 2)),
                transport=_Transport(self._network, self._trusted or _trusted(), keep=5 if keep_alive else 0),
                follow_redirects=False,
                trust_env=False,
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # else whatever is set is sent for ever
            )
        return client

    async def _send(self, client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
        progress, seconds = _Progress(), self._timeout
        if _is_streamed(request):
            seconds += int(request.headers.get("content-length", 0)) / SLOWEST_UPLOAD
        try:
            # httpx's own timeouts are for each read: this one is for the whole.
            async with asyncio.timeout(seconds):
                return await self._exchange(client, request, progress)
        except _FAILURES as error:
            raise self._failure(error, request.url.netloc.decode("ascii"), seconds, sent=progress.sending) from error

    def _failure(self, error: Exception, host: str, seconds: float, *, sent: bool) -> ProviderError:
        """Say what a failure means: only how far the request came decides whether it may have been received."""
        if not sent:
            return NotSent("not_sent", f"no connection to {host}: {_words(error)}")
        if isinstance(error, TimeoutError | httpx.TimeoutException):
            return Unconfirmed("timeout", f"no answer from {host} within {seconds:g} s")
        return Unconfirmed("broken_answer", f"{host} broke off: {_words(error)}")

    async def _exchange(
        self, client: httpx.AsyncClient, request: httpx.Request, progress: "_Progress"
    ) -> httpx.Response:
        sent = client.build_request(
            request.method,
            request.url,
            headers=request.headers,
            content=_body(request),
            extensions={"trace": progress.trace},
        )
        response = await client.send(sent, stream=True)
        try:
            body = await _read_bounded(response)
        finally:
            await response.aclose()
        # As bytes: a value need not be ASCII.
        headers = [(name, value) for name, value in response.headers.raw if name.lower() != b"content-encoding"]
        return httpx.Response(
            response.status_code,
            headers=headers,
            content=body,
            request=request,
            extensions={"received_at": self._clock()},
        )


class _Transport(httpx.AsyncHTTPTransport):
    """httpx's transport with our way to connect, for which httpx itself has no argument."""

    def __init__(self, network: Network, trusted: ssl.SSLContext, *, keep: int) -> None:
        super().__init__(verify=trusted, trust_env=False)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=trusted,
            max_connections=CONNECTIONS,
            max_keepalive_connections=keep,
            keepalive_expiry=5.0,
            network_backend=network,
        )


@cache
def _trusted() -> ssl.SSLContext:
    """Read the certificate authorities once for all clients: each time would hold up the event loop for 20 ms."""
    return httpx.create_ssl_context(trust_env=False)


def _is_streamed(request: httpx.Request) -> bool:
    return not isinstance(request.stream, httpx.ByteStream)


def _body(request: httpx.Request) -> bytes | AsyncIterator[bytes] | None:
    """Take a request's body; one that is streamed, with its length in the headers, is passed on unread."""
    if _is_streamed(request) and isinstance(request.stream, httpx.AsyncByteStream):
        return aiter(request.stream)
    return request.content or None


class _Progress:
    """Watches whether a request has begun to leave: before that, it provably was not received."""

    def __init__(self) -> None:
        self.sending = False

    async def trace(self, name: str, _info: Mapping[str, Any]) -> None:
        if name.endswith(".send_request_headers.started"):
            self.sending = True


async def _read_bounded(response: httpx.Response) -> bytes:
    parts, size = [], 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > MAX_ANSWER:
            raise httpx.DecodingError(f"an answer of more than {MAX_ANSWER} bytes", request=response.request)
        parts.append(part)
    return _plain(b"".join(parts), response)


def _plain(body: bytes, response: httpx.Response) -> bytes:
    """Undo gzip or deflate, bounded; compressed answers were not asked for, but some servers send them."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity" or not body:
        return body
    if encoding not in ("gzip", "deflate"):
        raise httpx.DecodingError(f"an answer encoded as {encoding[:20]!r}", request=response.request)
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        plain = inflater.decompress(body, MAX_ANSWER)
    except zlib.error as error:
        raise httpx.DecodingError(f"an unreadable {encoding} answer", request=response.request) from error
    if not inflater.eof:
        fault = f"of more than {MAX_ANSWER} bytes" if len(plain) >= MAX_ANSWER else f"of a cut {encoding} body"
        raise httpx.DecodingError(f"an answer {fault}", request=response.request)
    return plain


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
