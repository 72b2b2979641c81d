"""Sends providers' requests over httpx: limits, timeouts, and httpx's errors as ours.

All outgoing requests go through here. Redirects are not followed, cookies are not kept, the environment's proxies and
netrc are not read, and answers are bounded. Each account has a limit of concurrent requests for each kind; the others
wait in order, before they are recorded and before their timeout starts.
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
from receiver.outbound.active_timeout import active_timeout
from receiver.outbound.concurrency import ConcurrencyLimit, NoSlotError
from receiver.outbound.connecting import Network
from receiver.outbound.decoding import read_bounded
from receiver.outbound.transport import Transport
from receiver.providers.base import Flow

log = structlog.get_logger()

T = TypeVar("T")
BeforePaid = Callable[[httpx.Request], Awaitable[httpx.Request]]
"""Called with the request that buys before it is sent; returns the one to send."""
OnAnswer = Callable[[httpx.Response], None]
"""Called with every answer, before the adapter reads it."""

MAX_REQUESTS = 20
"""Concurrent requests to one account, for each kind."""
MAX_IDLE_CONNECTIONS = 5
CHECK_MAX_WAIT = 5.0
"""Seconds that a check waits for a slot: its lease lasts little longer than the request."""
RETRY_SECONDS = 1.0
"""Seconds until the next try of a request that got no slot."""
STUCK_MARGIN = 30.0
"""Seconds beyond twice the longest possible request after which its slot counts as lost."""
CONNECT_SECONDS = 10.0
SLOWEST_UPLOAD = 256 * 1024
"""Bytes a second: a streamed body has so much more time than a request that is all there."""
USER_AGENT = f"receiver/{__version__}"
"""Always sent: some providers' networks refuse the defaults of HTTP clients."""

_TIMEOUTS = (TimeoutError, httpx.TimeoutException, httpcore.TimeoutException)
FAILURES = (
    *_TIMEOUTS,
    httpx.HTTPError,
    httpx.InvalidURL,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    UnicodeError,
)
"""What httpx and httpcore raise; some also for host names, and for a `Location` that is not followed."""


class Kind(StrEnum):
    """What a request is for. Each kind has slots of its own, so that none can starve another."""

    ORDER = "order"
    CHECK = "check"
    UPLOAD = "upload"


class Outbound:
    """The HTTP clients of all accounts."""

    def __init__(
        self,
        timeout: float,
        clock: Callable[[], int],
        network: Network | None = None,
        trusted: ssl.SSLContext | None = None,
        stuck_margin: float = STUCK_MARGIN,
    ) -> None:
        """Prepare; `timeout` is for a whole request in seconds, `clock` returns Unix milliseconds."""
        self._timeout = timeout
        self._clock = clock
        self._network = network or Network()
        self._trusted = trusted
        self._stuck_margin = stuck_margin
        self._clients: dict[tuple[str, bool], httpx.AsyncClient] = {}
        self._limits: dict[tuple[str, Kind], ConcurrencyLimit] = {}
        self.on_lost_slot: Callable[[str], object] = str
        """Called with the account when one of its slots was lost and replaced."""

    async def run(
        self, account: str, flow: Flow[T], *, on_answer: OnAnswer, before_paid: BeforePaid | None = None
    ) -> T:
        """Return what a flow's requests mean, after sending them one after the other.

        Raises `NotSent`, `Unconfirmed`, and whatever the flow makes of the answers.
        """
        try:
            request = next(flow)
            while True:
                paid = bool(request.extensions.get("paid"))
                async with self._slot(account, request):
                    if paid and before_paid is not None:
                        request = await before_paid(request)
                    response = await self._send(self._client(account, keep_alive=not paid), request)
                on_answer(response)
                request = flow.send(response)
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            flow.close()

    def free_slots(self, account: str, kind: Kind) -> int:
        """Return how many requests of a kind could be sent to an account now."""
        limit = self._limit(account, kind)
        return 0 if limit.waiting else limit.free

    def _limit(self, account: str, kind: Kind) -> ConcurrencyLimit:
        limit = self._limits.get((account, kind))
        if limit is None:
            limit = ConcurrencyLimit(MAX_REQUESTS, partial(self._lost, account, kind))
            self._limits[account, kind] = limit
        return limit

    def _lost(self, account: str, kind: Kind) -> None:
        log.error("request_slot_replaced", account=account, kind=kind.value)
        self.on_lost_slot(account)

    @asynccontextmanager
    async def _slot(self, account: str, request: httpx.Request) -> AsyncIterator[None]:
        """Hold one of the account's slots for this kind. Raises `NotSent` if none becomes free in time."""
        kind = _kind(request)
        patience = min(self._timeout, CHECK_MAX_WAIT) if kind is Kind.CHECK else self._timeout
        try:
            async with self._limit(account, kind).slot(patience, 2 * self._time_limit(request) + self._stuck_margin):
                yield
        except NoSlotError as error:
            words = (
                f"{MAX_REQUESTS} requests to {account} were under way, the maximum; none ended within {patience:g} s"
            )
            raise NotSent("not_sent", words, retry_after=RETRY_SECONDS) from error

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()

    def _client(self, account: str, *, keep_alive: bool) -> httpx.AsyncClient:
        """Return the account's client; the request that buys gets a new connection.

        If the other side is just closing a reused connection, nobody can tell whether it received the request.
        """
        client = self._clients.get((account, keep_alive))
        if client is None:
            client = self._clients[account, keep_alive] = httpx.AsyncClient(
                headers={"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity"},
                # Connecting and the TLS handshake get half each: httpx closes what it gives up by itself.
                timeout=httpx.Timeout(None, connect=min(CONNECT_SECONDS, self._timeout / 2)),
                transport=Transport(
                    self._network,
                    self._trusted or default_tls(),
                    max_idle=MAX_IDLE_CONNECTIONS if keep_alive else 0,
                ),
                follow_redirects=False,
                trust_env=False,
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # store none
            )
        return client

    async def _send(self, client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
        progress, seconds = _Progress(), self._time_limit(request)
        try:
            # httpx's own timeouts are for each read; this one is for the whole request.
            async with active_timeout(seconds):
                return await self._exchange(client, request, progress)
        except FAILURES as error:
            raise self._to_error(error, request.url.netloc.decode("ascii"), seconds, sent=progress.sending) from error

    def _time_limit(self, request: httpx.Request) -> float:
        """Return how long a request may take."""
        streamed = int(request.headers.get("content-length", 0)) if _is_streamed(request) else 0
        return self._timeout + streamed / SLOWEST_UPLOAD

    def _to_error(self, error: Exception, host: str, seconds: float, *, sent: bool) -> ProviderError:
        """Return the error for a failure: only if sending had not begun, the request provably did not arrive."""
        if not sent:
            return NotSent("not_sent", f"no connection to {host}: {describe(error)}")
        if isinstance(error, _TIMEOUTS):
            return Unconfirmed("timeout", f"no answer from {host} within {seconds:g} s")
        return Unconfirmed("broken_answer", f"no usable answer from {host}: {describe(error)}")

    async def _exchange(
        self, client: httpx.AsyncClient, request: httpx.Request, progress: "_Progress"
    ) -> httpx.Response:
        sent = client.build_request(
            request.method,
            request.url,
            headers=request.headers,
            content=_request_body(request),
            extensions={"trace": progress.trace},
        )
        response = await client.send(sent, stream=True)
        try:
            body = await read_bounded(response)
        finally:
            await response.aclose()
        # As bytes: values need not be ASCII.
        headers = [(name, value) for name, value in response.headers.raw if name.lower() != b"content-encoding"]
        return httpx.Response(
            response.status_code,
            headers=headers,
            content=body,
            request=request,
            extensions={"received_at": self._clock()},
        )


@cache
def default_tls() -> ssl.SSLContext:
    """Return the TLS context of all clients. Reading the certificate authorities blocks for 20 ms, so it is cached."""
    return httpx.create_ssl_context(trust_env=False)


def _kind(request: httpx.Request) -> Kind:
    if request.extensions.get("paid"):
        return Kind.ORDER
    return Kind.UPLOAD if _is_streamed(request) else Kind.CHECK


def _is_streamed(request: httpx.Request) -> bool:
    return not isinstance(request.stream, httpx.ByteStream)


def _request_body(request: httpx.Request) -> bytes | AsyncIterator[bytes] | None:
    """Return a request's body; a streamed one, whose length is in the headers, is passed on unread."""
    if _is_streamed(request) and isinstance(request.stream, httpx.AsyncByteStream):
        return aiter(request.stream)
    return request.content or None


class _Progress:
    """Observes whether sending a request has begun: before that, it provably was not received."""

    def __init__(self) -> None:
        self.sending = False

    async def trace(self, name: str, _info: Mapping[str, Any]) -> None:
        if name.endswith(".send_request_headers.started"):
            self.sending = True


def describe(error: Exception) -> str:
    return str(error) or type(error).__name__
