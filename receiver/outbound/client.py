"""Drives a provider's requests over httpx: limits, deadlines, and httpx's errors in our words.

All outgoing provider I/O is here, so that another HTTP client would be one file. Redirects are not followed, cookies
are not kept, the environment's proxies and netrc are not read, and answers are bounded. So many requests of a kind are
under way at once to one account; the rest wait in order, before they are paid for and before their time runs.
"""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from enum import StrEnum
from functools import cache, partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, TypeVar

import httpcore
import httpx
import structlog

from receiver import __version__
from receiver.core.errors import NotSent, ProviderError, Unconfirmed
from receiver.outbound.awake import awake_timeout
from receiver.outbound.concurrency import ConcurrencyLimit, NoPlaceError
from receiver.outbound.connecting import Network
from receiver.outbound.decoding import read_bounded
from receiver.outbound.transport import Transport
from receiver.providers.base import Flow

log = structlog.get_logger()

T = TypeVar("T")
BeforePaid = Callable[[httpx.Request], Awaitable[httpx.Request]]
"""Called with the request that buys, before it leaves; returns the one to send."""
Answered = Callable[[httpx.Response], None]
"""Called with every answer, before the provider reads it."""

CONNECTIONS = 20
"""Requests under way at once to one account, for each kind of them."""
KEPT_CONNECTIONS = 5
CHECK_PATIENCE = 5.0
"""Seconds that a check waits for its turn at most: its lease covers the request and little more."""
RETRY_SECONDS = 1.0
"""Seconds after which a request is made again that waited for its turn in vain: it comes before what is due later."""
STUCK_MARGIN = 30.0
"""Seconds beyond twice the longest that a request can take, after which its place counts as lost."""
CONNECT_SECONDS = 10.0
SLOWEST_UPLOAD = 256 * 1024
"""Bytes a second: a streamed body has so much more time than a request that is all there."""
USER_AGENT = f"receiver/{__version__}"
"""Always sent: some providers' networks refuse the defaults of HTTP clients."""

_TIMEOUTS = (TimeoutError, httpx.TimeoutException, httpcore.TimeoutException)
_FAILURES = (
    *_TIMEOUTS,
    httpx.HTTPError,
    httpx.InvalidURL,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    UnicodeError,
)
"""What httpx and httpcore raise; some for host names, and for a `Location` that is read although it is not followed."""


class Kind(StrEnum):
    """What a request is for. Each kind has places of its own at an account, so that none can starve another."""

    ORDER = "order"
    CHECK = "check"
    UPLOAD = "upload"


class Outbound:
    """HTTP clients for every provider account."""

    def __init__(
        self,
        timeout: float,
        clock: Callable[[], int],
        network: Network | None = None,
        trusted: ssl.SSLContext | None = None,
        stuck_margin: float = STUCK_MARGIN,
    ) -> None:
        """Take the total seconds for one request and the clock in Unix milliseconds; how to connect, whose
        certificates to trust and when a place counts as lost only where that is not the usual."""
        self._timeout = timeout
        self._clock = clock
        self._network = network or Network()
        self._trusted = trusted
        self._stuck_margin = stuck_margin
        self._clients: dict[tuple[str, bool], httpx.AsyncClient] = {}
        self._limits: dict[tuple[str, Kind], ConcurrencyLimit] = {}
        self.on_lost_place: Callable[[str], object] = str
        """Called with an account of which a place was lost and replaced."""

    async def run(self, account: str, flow: Flow[T], *, answered: Answered, before_paid: BeforePaid | None = None) -> T:
        """Send a flow's requests one after the other and return what they mean.

        Raises `NotSent`, `Unconfirmed`, and whatever the flow makes of the answers.
        """
        try:
            request = next(flow)
            while True:
                paid = bool(request.extensions.get("paid"))
                async with self._place(account, request):
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

    def free(self, account: str, kind: Kind) -> int:
        """Return how many requests of a kind could leave for an account at once."""
        limit = self._limit(account, kind)
        return 0 if limit.waiting else limit.free

    def _limit(self, account: str, kind: Kind) -> ConcurrencyLimit:
        limit = self._limits.get((account, kind))
        if limit is None:
            limit = ConcurrencyLimit(CONNECTIONS, partial(self._lost, account, kind))
            self._limits[account, kind] = limit
        return limit

    def _lost(self, account: str, kind: Kind) -> None:
        log.error("place_replaced", account=account, kind=kind.value)
        self.on_lost_place(account)

    @asynccontextmanager
    async def _place(self, account: str, request: httpx.Request) -> AsyncIterator[None]:
        """Hold a place among the account's requests of this kind; raises `NotSent` where none comes free in time."""
        kind = _kind(request)
        patience = min(self._timeout, CHECK_PATIENCE) if kind is Kind.CHECK else self._timeout
        try:
            async with self._limit(account, kind).place(patience, 2 * self._seconds(request) + self._stuck_margin):
                yield
        except NoPlaceError as error:
            words = (
                f"{CONNECTIONS} requests to {account} were under way for {patience:g} s, as many as are made at once"
            )
            raise NotSent("not_sent", words, retry_after=RETRY_SECONDS) from error

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
                timeout=httpx.Timeout(None, connect=min(CONNECT_SECONDS, self._timeout / 2)),
                transport=Transport(
                    self._network, self._trusted or _trusted(), keep=KEPT_CONNECTIONS if keep_alive else 0
                ),
                follow_redirects=False,
                trust_env=False,
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # else whatever is set is sent for ever
            )
        return client

    async def _send(self, client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
        progress, seconds = _Progress(), self._seconds(request)
        try:
            # httpx's own timeouts are for each read: this one is for the whole.
            async with awake_timeout(seconds):
                return await self._exchange(client, request, progress)
        except _FAILURES as error:
            raise self._failure(error, request.url.netloc.decode("ascii"), seconds, sent=progress.sending) from error

    def _seconds(self, request: httpx.Request) -> float:
        """Return how long a request may take."""
        streamed = int(request.headers.get("content-length", 0)) if _is_streamed(request) else 0
        return self._timeout + streamed / SLOWEST_UPLOAD

    def _failure(self, error: Exception, host: str, seconds: float, *, sent: bool) -> ProviderError:
        """Say what a failure means: only how far the request came decides whether it may have been received."""
        if not sent:
            return NotSent("not_sent", f"no connection to {host}: {_words(error)}")
        if isinstance(error, _TIMEOUTS):
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
            body = await read_bounded(response)
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


@cache
def _trusted() -> ssl.SSLContext:
    """Read the certificate authorities once for all clients: each time would hold up the event loop for 20 ms."""
    return httpx.create_ssl_context(trust_env=False)


def _kind(request: httpx.Request) -> Kind:
    if request.extensions.get("paid"):
        return Kind.ORDER
    return Kind.UPLOAD if _is_streamed(request) else Kind.CHECK


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


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
