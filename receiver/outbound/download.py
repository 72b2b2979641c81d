"""Downloads files from links that strangers named: guarded, bounded, resumed by `Range` where one broke off.

`archive` stores what arrives. Redirects are followed here, and each is checked like the link itself; cookies and
credentials are never sent.
"""

import asyncio
import re
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Self

import httpx

from receiver.core.errors import DownloadBroken, LinkDead, LinkRefused
from receiver.outbound.client import FAILURES, USER_AGENT, default_tls, describe
from receiver.outbound.connecting import Network
from receiver.outbound.guard import ForbiddenAddress, ForbiddenLink, GuardedNetwork, check_link
from receiver.outbound.transport import Transport
from receiver.providers.answers import retry_after

MAX_REDIRECTS = 5
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 30.0
"""Seconds from the request to the head of the answer, redirects included."""
PACE_SECONDS = 30.0
PACE_BYTES = 30 * 1024
"""Bytes that must arrive in every `PACE_SECONDS`."""
PIECE = 1024 * 1024
"""Bytes of one piece of a file; the last one may be smaller."""
INFLATED_AT_ONCE = 256 * 1024
MAX_INFLATION = 100
"""How many times larger than its compressed form a file may be. Media hardly compress, so it is a bomb."""
ALWAYS_INFLATED = 1024 * 1024
"""Bytes that a compressed file may have whatever its size was."""

Write = Callable[[bytes], Awaitable[None]]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_DEAD = frozenset({403, 404, 410})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]*"')


@dataclass(frozen=True, slots=True)
class Resume:
    """Where a download that broke off goes on, and what tells the server that the file must still be the same."""

    offset: int
    validator: str


@dataclass(slots=True)
class Download:
    """A file that is arriving, from the byte at `offset` on."""

    response: httpx.Response
    offset: int
    size: int | None
    """Bytes of the whole file, if the server says so."""
    validator: str | None
    """What a download of this file can be resumed with, if at all."""

    async def read(self, write: Write) -> None:
        """Pass the file on in pieces, decompressed. Raises `DownloadBroken`, `LinkRefused` and what `write` raises."""
        parts: list[bytes] = []
        size = 0
        try:
            async with _Pace() as pace:
                async for part in _decompressed(self.response, pace):
                    parts.append(part)
                    size += len(part)
                    if size >= PIECE:
                        piece, parts, size = b"".join(parts), [], 0
                        with pace.paused():
                            await write(piece)
        except TimeoutError as error:
            raise DownloadBroken(f"less than {PACE_BYTES} bytes arrived within {PACE_SECONDS:g} s") from error
        except FAILURES as error:
            raise DownloadBroken(f"the download broke off: {describe(error)}") from error
        finally:
            if parts:  # also of a download that broke off: it goes on behind them
                await write(b"".join(parts))


class Downloads:
    """Opens downloads."""

    def __init__(
        self,
        public: Network | None = None,
        private: Network | None = None,
        trusted: ssl.SSLContext | None = None,
    ) -> None:
        """Prepare: `public` connects to public addresses, `private` also to private places."""
        self._networks = {
            False: public or GuardedNetwork(),
            True: private or GuardedNetwork(may_be_private=True),
        }
        self._trusted = trusted
        self._clients: dict[bool, httpx.AsyncClient] = {}

    @asynccontextmanager
    async def open(self, link: str, *, may_be_private: bool, resume: Resume | None = None) -> AsyncIterator[Download]:
        """Request a file, its body still unread. Raises `LinkRefused`, `LinkDead` and `DownloadBroken`."""
        response = await self._request(link, resume, may_be_private=may_be_private)
        try:
            yield _begin(response, resume)
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()

    async def _request(self, link: str, resume: Resume | None, *, may_be_private: bool) -> httpx.Response:
        headers = {"Range": f"bytes={resume.offset}-", "If-Range": resume.validator} if resume else {}
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._follow(link, headers, may_be_private=may_be_private)
        except (ForbiddenLink, ForbiddenAddress) as error:
            raise LinkRefused(str(error)) from error
        except TimeoutError as error:
            raise DownloadBroken(f"no answer within {ANSWER_SECONDS:g} s") from error
        except FAILURES as error:
            raise DownloadBroken(f"the file's server cannot be reached: {describe(error)}") from error

    async def _follow(self, link: str, headers: dict[str, str], *, may_be_private: bool) -> httpx.Response:
        client = self._client(may_be_private=may_be_private)
        url = check_link(link, may_be_private=may_be_private)
        for _ in range(MAX_REDIRECTS + 1):
            response = await client.send(client.build_request("GET", url, headers=headers), stream=True)
            location = response.headers.get("location")
            if response.status_code not in _REDIRECTS or location is None:
                return response
            await response.aclose()
            url = check_link(str(url.join(location)), may_be_private=may_be_private)
        raise LinkRefused(f"the link leads through more than {MAX_REDIRECTS} redirects")

    def _client(self, *, may_be_private: bool) -> httpx.AsyncClient:
        client = self._clients.get(may_be_private)
        if client is None:
            client = self._clients[may_be_private] = httpx.AsyncClient(
                headers={"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"},
                timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
                transport=Transport(self._networks[may_be_private], self._trusted or default_tls(), max_idle=0),
                follow_redirects=False,
                trust_env=False,
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # store none
            )
        return client


def _begin(response: httpx.Response, resume: Resume | None) -> Download:
    """Return the download that an answer begins. Raises `LinkDead` and `DownloadBroken`."""
    status = response.status_code
    if status in _DEAD:
        raise LinkDead(f"the file's server answered {status}")
    if status == 206 and resume is not None:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if found is None or int(found[1]) != resume.offset:
            raise DownloadBroken("the file's server sent another part than it was asked for")
        return Download(response, resume.offset, None if found[2] == "*" else int(found[2]), resume.validator)
    if status != 200:
        raise DownloadBroken(f"the file's server answered {status}", retry_after=retry_after(response))
    if _encoding(response) != "identity":
        return Download(response, 0, None, None)
    length = response.headers.get("content-length", "")
    return Download(response, 0, int(length) if length.isdigit() else None, _validator(response))


def _validator(response: httpx.Response) -> str | None:
    """Return what tells two versions of a file apart byte for byte: weak ETags and dates do not."""
    if response.headers.get("accept-ranges", "").strip().lower() == "none":
        return None
    etag = response.headers.get("etag", "")
    return etag if _STRONG_ETAG.fullmatch(etag) else None


def _encoding(response: httpx.Response) -> str:
    return response.headers.get("content-encoding", "").strip().lower() or "identity"


async def _decompressed(response: httpx.Response, pace: "_Pace") -> AsyncIterator[bytes]:
    """Yield a body without gzip or deflate. We ask for no compression, but some servers compress anyway."""
    encoding = _encoding(response)
    if encoding == "identity":
        async for part in response.aiter_raw():
            pace.count(len(part))
            yield part
        return
    if encoding not in ("gzip", "deflate"):
        raise DownloadBroken(f"the file's server compressed it as {encoding[:20]!r}, which was not asked for")
    inflater, received, inflated = zlib.decompressobj(zlib.MAX_WBITS | 32), 0, 0
    async for part in response.aiter_raw():
        pace.count(len(part))
        received += len(part)
        for plain in _inflate(inflater, part):
            inflated += len(plain)
            if inflated > max(received * MAX_INFLATION, ALWAYS_INFLATED):
                raise LinkRefused(f"the file is compressed more than {MAX_INFLATION} times, as no real one is")
            yield plain
    if not inflater.eof:
        raise DownloadBroken("the compressed file ends too early")


def _inflate(inflater: "zlib._Decompress", part: bytes) -> Iterator[bytes]:
    """Yield what a part of a compressed body holds, little by little."""
    try:
        # The inflater may hold more when it has taken all of a part.
        while (plain := inflater.decompress(part, INFLATED_AT_ONCE)) or inflater.unconsumed_tail:
            yield plain
            part = inflater.unconsumed_tail
    except zlib.error as error:
        raise DownloadBroken("the compressed file cannot be read") from error


class _Pace:
    """Raises `TimeoutError` inside where less than `PACE_BYTES` arrive in `PACE_SECONDS`."""

    def __init__(self) -> None:
        self._timeout = asyncio.timeout(None)
        self._received = 0
        self._handle: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._begin()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stop()
        await self._timeout.__aexit__(*error)  # type: ignore[arg-type]

    def count(self, number: int) -> None:
        """Count bytes that arrived."""
        self._received += number

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count no time while the bytes are written: a slow disk is not the server's fault."""
        self._stop()
        try:
            yield
        finally:
            self._begin()

    def _begin(self) -> None:
        self._received = 0
        self._handle = asyncio.get_running_loop().call_later(PACE_SECONDS, self._look)

    def _stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def _look(self) -> None:
        if self._received < PACE_BYTES:
            self._timeout.reschedule(asyncio.get_running_loop().time())
        else:
            self._begin()
