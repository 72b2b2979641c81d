"""Posts messages to the receivers of the user's application, and decides which URLs a task may name for them.

`notifications` sends with it, `tasks.submission` checks with it. Redirects are not followed, cookies are not kept, and
answers are read within bounds and thrown away.
"""

import ipaddress
import re
import socket
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from receiver.outbound.active_timeout import active_timeout
from receiver.outbound.client import FAILURES, USER_AGENT, default_tls, describe
from receiver.outbound.connecting import Network
from receiver.outbound.guard import Address, ForbiddenLink, GuardedNetwork, check_link, is_public
from receiver.outbound.transport import Transport
from receiver.providers.answers import retry_after

SEND_SECONDS = 15.0
"""Seconds for one message: connecting, sending, and the answer."""
CONNECT_SECONDS = 10.0
READ_BYTES = 65_536
"""Bytes that are read of an answer before the connection is closed."""
LISTED = "unless RECEIVER_NOTIFY_HOSTS lists its host"

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NUMERIC = re.compile(r"(.*\.)?(\d+|0x[\da-f]*)", re.IGNORECASE)
"""A host whose last part is a number is an IPv4 address in one of its spellings, or nothing."""


class Undelivered(Exception):
    """A message got no answer; says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver answered: the status, and after how many seconds it wants to be asked again, if it says so."""

    status: int
    retry_after: float | None


def check_receiver(link: str, listed: Collection[str]) -> bool:
    """Return whether only public addresses may be connected to for a task's own URL. Raises `ForbiddenLink`.

    Listed hosts (`app.internal:3000`, without a port the one of http or https) may be anywhere, and be sent plain
    http. What other names lead to is checked when connecting.
    """
    url = check_link(link, may_be_private=True)
    host = url.raw_host.decode("ascii").lower()
    if _is_listed(url, host, listed):
        return False
    if url.scheme != "https":
        raise ForbiddenLink(f"must begin with https:, {LISTED}")
    if _is_local(host.rstrip(".")):
        raise ForbiddenLink(f"must not lead to this machine or a private network, {LISTED}")
    return True


def _is_listed(url: httpx.URL, host: str, listed: Collection[str]) -> bool:
    shown = f"[{host}]" if ":" in host else host
    default = _DEFAULT_PORTS[url.scheme]
    port = url.port or default
    return f"{shown}:{port}" in listed or (port == default and shown in listed)


def _is_local(host: str) -> bool:
    """Return whether a host by its mere text is this machine, or no public address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _read_address(host)
    return address is not None and not is_public(address)


def _read_address(host: str) -> Address | None:
    """Return the address that a host is written as, also in the spellings that only resolvers read."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        if not _NUMERIC.fullmatch(host):
            return None
    try:
        return ipaddress.ip_address(socket.inet_aton(host))
    except OSError as error:
        raise ForbiddenLink("has a host that is no name and no address") from error


class Webhooks:
    """Posts messages, each on a connection of its own."""

    def __init__(
        self, network: Network | None = None, guarded: Network | None = None, trusted: ssl.SSLContext | None = None
    ) -> None:
        """Prepare: `network` connects to the operator's own hosts, `guarded` to those that tasks name."""
        self._networks = {False: network or Network(), True: guarded or GuardedNetwork()}
        self._trusted = trusted
        self._clients: dict[bool, httpx.AsyncClient] = {}

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, *, guarded: bool, now: int) -> Answer:
        """Return what the receiver answers to a message sent now, in Unix milliseconds.

        Raises `Undelivered` if it does not answer in time.
        """
        client = self._client(guarded=guarded)
        answer: Answer | None = None
        try:
            async with active_timeout(SEND_SECONDS):
                request = client.build_request("POST", url, headers=headers, content=body)
                response = await client.send(request, stream=True)
                response.extensions["received_at"] = now  # for a `Retry-After` date beside no `Date`
                answer = Answer(response.status_code, retry_after(response))
                await _discard(response)
        except TimeoutError as error:
            if answer is None:
                raise Undelivered(f"no answer within {SEND_SECONDS:g} s") from error
        except FAILURES as error:
            if answer is None:
                raise Undelivered(f"no answer: {describe(error)}") from error
        return answer  # what broke after it changes nothing

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()

    def _client(self, *, guarded: bool) -> httpx.AsyncClient:
        client = self._clients.get(guarded)
        if client is None:
            client = self._clients[guarded] = httpx.AsyncClient(
                headers={
                    "User-Agent": USER_AGENT,
                    "Accept": "*/*",
                    "Accept-Encoding": "identity",
                    "Content-Type": "application/json",
                },
                timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
                transport=Transport(self._networks[guarded], self._trusted or default_tls(), max_idle=0),
                follow_redirects=False,
                trust_env=False,
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # store none
            )
        return client


async def _discard(response: httpx.Response) -> None:
    """Read an answer's body as far as that is cheap, so that its sender sees no broken connection."""
    size = 0
    try:
        async for part in response.aiter_raw():
            size += len(part)
            if size > READ_BYTES:
                break
    finally:
        await response.aclose()
