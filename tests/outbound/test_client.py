"""Requests to providers over real sockets: what provably was not sent, what may have been, and nothing for ever.

Each test plays the provider's side byte by byte.
"""

import asyncio
import contextlib
import gzip
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from receiver.core.errors import NotSent, ProviderError, Unconfirmed
from receiver.outbound.client import MAX_IDLE_CONNECTIONS, MAX_REQUESTS, USER_AGENT, Kind, Outbound
from receiver.outbound.decoding import MAX_ANSWER_BYTES
from receiver.providers.base import PAID, Flow
from tests.measuring import HANG, LOOP, move_on, until

pytestmark = pytest.mark.anyio

TIMEOUT = 10 * HANG
"""Seconds for a request. Nobody waits for them: a test moves the loop's time on."""
NOW = 1_795_176_000_000

Behave = Callable[["Peer", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return LOOP


@dataclass
class Peer:
    """A server that does to each connection what a test says, and remembers what it was sent."""

    behave: Behave
    port: int = 0
    connections: int = 0
    closed: int = 0
    drips: bool = False
    pieces: int = 0
    """What it dripped."""
    heads: list[tuple[int, bytes]] = field(default_factory=list)
    """Of each request, the number of its connection and its head."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/create"

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator["Peer"]:
        serving: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            task = asyncio.current_task()
            assert task is not None
            serving.add(task)
            try:
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                    await self.behave(self, reader, writer)
                    await writer.drain()
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
                self.closed += 1

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)
            await asyncio.sleep(0)  # a closed transport closes its socket with the loop's next turn

    async def asked(self, number: int) -> None:
        """Wait until so many requests have come in."""
        await until(lambda: len(self.heads) >= number)

    async def goes_on(self) -> None:
        """Wait until whoever drips has said some more, and everybody else had his turn."""
        before = self.pieces
        if self.drips:
            await until(lambda: self.pieces > before + 3)
        for _ in range(20):
            await asyncio.sleep(0)

    async def take(self, reader: asyncio.StreamReader) -> bytes:
        """Read one request."""
        number = self.connections
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append((number, head))
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                await reader.readexactly(int(line.split(b":")[1]))
        return head


def answering(raw: bytes, *, keep: bool = False, linger: bool = False) -> Behave:
    """Answer each request with these bytes, then close, go on, or say nothing more."""

    async def behave(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await peer.take(reader)
            writer.write(raw)
            await writer.drain()
            if linger:
                await asyncio.Event().wait()
            if not keep:
                return

    return behave


def http(body: bytes = b'{"id":1}', *headers: bytes, status: bytes = b"200 OK") -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def buying(url: str, *, paid: bool = True, method: str = "POST", **more: Any) -> Flow[httpx.Response]:
    """A provider's flow of one request, which returns the answer itself."""
    body = b'{"prompt":"boat"}' if method == "POST" else None
    answer = yield httpx.Request(method, url, content=body, extensions=dict(PAID) if paid else {}, **more)
    return answer


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    outbound = Outbound(TIMEOUT, lambda: NOW)
    yield outbound
    await outbound.close()


async def buy(outbound: Outbound, url: str, account: str = "revid", **more: Any) -> httpx.Response:
    return await outbound.run(account, buying(url, **more), on_answer=lambda _: None)


async def failure(outbound: Outbound, url: str) -> ProviderError:
    """Buy, and give the error that it ends with, long before its time is over."""
    return await failure_of(asyncio.create_task(buy(outbound, url)))


async def failure_of(buying: "asyncio.Task[httpx.Response]") -> ProviderError:
    with pytest.raises((NotSent, Unconfirmed)) as caught:
        await asyncio.wait_for(buying, HANG)
    assert "127.0.0.1" in caught.value.message or ".invalid" in caught.value.message
    return caught.value


async def failure_of_connecting(
    outbound: Outbound, url: str, tries: Callable[[], bool] = lambda: True
) -> ProviderError:
    """Buy where nobody takes the connection; gives the error that it ends with when the time for that is over."""
    buying = asyncio.create_task(buy(outbound, url))
    await until(tries)
    while not buying.done():
        move_on(TIMEOUT / 100)
        await asyncio.sleep(0.01)
    return await failure_of(buying)


async def failure_of_waiting(outbound: Outbound, peer: Peer) -> ProviderError:
    """Buy where no whole answer comes; gives the error that it ends with when the whole time is over, and not before.

    The time passes in steps, each shorter than a request may take, and between them some more of the answer comes.
    """
    buying = asyncio.create_task(buy(outbound, peer.url))
    await peer.asked(1)
    for _ in range(3):
        move_on(TIMEOUT / 4)
        await peer.goes_on()
        assert not buying.done(), "given up early"
    move_on(TIMEOUT / 4)
    return await failure_of(buying)


# --- provably not sent


def closed_port() -> int:
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        port: int = probing.getsockname()[1]
        return port


@pytest.mark.row("E4")
async def test_a_refused_connection_was_not_sent(outbound: Outbound) -> None:
    assert isinstance(await failure(outbound, f"http://127.0.0.1:{closed_port()}/"), NotSent)


@pytest.mark.parametrize("host", ["nowhere.invalid", f"{'a' * 70}.invalid"])
@pytest.mark.row("E6")
async def test_a_name_without_an_address_was_not_sent(outbound: Outbound, host: str) -> None:
    outbound = Outbound(TIMEOUT, lambda: NOW)
    with pytest.raises(NotSent) as caught:
        await buy(outbound, f"http://{host}/")
    assert host in caught.value.message
    await outbound.close()


@contextlib.contextmanager
def deaf() -> Iterator[int]:
    """A port that answers no connection: its queue is full."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(3):
            filling = stack.enter_context(socket.socket())
            filling.settimeout(0)
            filling.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@pytest.mark.row("E3")
async def test_a_connection_that_hangs_was_not_sent(outbound: Outbound) -> None:
    with deaf() as port:
        assert isinstance(await failure_of_connecting(outbound, f"http://127.0.0.1:{port}/"), NotSent)


@pytest.mark.row("E4")
async def test_a_failed_tls_handshake_was_not_sent(outbound: Outbound) -> None:
    async def plain(_: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with Peer(plain).listening() as peer:
        assert isinstance(await failure(outbound, f"https://127.0.0.1:{peer.port}/"), NotSent)


@pytest.mark.row("E3")
async def test_a_tls_handshake_that_hangs_was_not_sent(outbound: Outbound) -> None:
    async def mute(_: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with Peer(mute).listening() as peer:
        url = f"https://127.0.0.1:{peer.port}/"
        error = await failure_of_connecting(outbound, url, lambda: peer.connections == 1)
        assert isinstance(error, NotSent)
        assert peer.connections == 1


@pytest.mark.row("E3")
async def test_what_waited_for_a_connection_in_vain_was_not_sent(outbound: Outbound) -> None:
    async with Peer(answering(b"", linger=True)).listening() as peer:
        orders = (buy(outbound, peer.url, headers={"X-Number": f"<{n}>"}) for n in range(MAX_REQUESTS + 5))
        waiting = [asyncio.create_task(order) for order in orders]
        await peer.asked(MAX_REQUESTS)
        move_on(TIMEOUT)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(result) for result in results} <= {Unconfirmed, NotSent}
        unsent = [number for number, result in enumerate(results) if isinstance(result, NotSent)]
        assert len(unsent) <= 5
        received = b"".join(head for _, head in peer.heads)
        assert not [number for number in unsent if b"<%d>" % number in received]


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http://"])
async def test_an_address_that_is_none_was_not_sent(outbound: Outbound, url: str) -> None:
    with pytest.raises(NotSent):
        await buy(outbound, url)


# --- possibly received


async def reset(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the request and break the connection with a reset."""
    await peer.take(reader)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


async def slam(_: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close without reading."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def dripping(raw: bytes, then: bytes) -> Behave:
    """Answer with these bytes at once, then with others for ever, one at a time."""

    async def behave(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.drips = True
        await peer.take(reader)
        writer.write(raw)
        while True:
            for byte in then:
                writer.write(bytes([byte]))
                await writer.drain()
                peer.pieces += 1
                await asyncio.sleep(0.002)

    return behave


BOMB = gzip.compress(bytes(8 * MAX_ANSWER_BYTES))
RANDOM = zlib.compress(b'{"id": "1"}' * 50)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GZIP = b"Content-Encoding: gzip"

BROKEN = {
    "closed without an answer": answering(b""),
    "reset": reset,
    "slammed": slam,
    "half a head": answering(b"HTTP/1.1 200 OK\r\nContent-"),
    "half a body": answering(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"id"'),
    "half a chunk": answering(CHUNKED + b'20\r\n{"id"'),
    "no last chunk": answering(CHUNKED + b'8\r\n{"id":1}\r\n'),
    "a chunk of nonsense": answering(CHUNKED + b"zz\r\n"),
    "not HTTP": answering(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "a status of nonsense": answering(b"HTTP/1.1 banana\r\n\r\n"),
    "a head without end": answering(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 400_000),
    "two lengths": answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "switched protocols": answering(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"),
    "too much, declared": answering(http(b"x" * (MAX_ANSWER_BYTES + 1))),
    "too much, undeclared": answering(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_ANSWER_BYTES + 1)),
    "a bomb": answering(http(BOMB, GZIP)),
    "a bomb of the exact size": answering(http(gzip.compress(bytes(MAX_ANSWER_BYTES + 1)), GZIP)),
    "not gzip": answering(http(b'{"id":1}', GZIP)),
    "cut gzip": answering(http(gzip.compress(b'{"id":1}')[:-9], GZIP)),
    "gzip without its last byte": answering(http(gzip.compress(b'{"id":1}')[:-1], GZIP)),
    "brotli": answering(http(b"\x0b\x02\x80{}\x03", b"Content-Encoding: br")),
    "twice encoded": answering(http(gzip.compress(b"{}"), b"Content-Encoding: gzip, gzip")),
}


@pytest.mark.parametrize("trouble", BROKEN)
@pytest.mark.row("E4")
@pytest.mark.row("E5")
async def test_a_broken_answer_leaves_open_what_was_received(outbound: Outbound, trouble: str) -> None:
    async with Peer(BROKEN[trouble]).listening() as peer:
        error = await failure(outbound, peer.url)
        assert (type(error), error.code) == (Unconfirmed, "broken_answer")
        assert peer.connections == 1, "nothing is sent again by itself"


SLOW = {
    "no answer": answering(b"", linger=True),
    "half a head": answering(b"HTTP/1.1 200 OK\r\nContent-", linger=True),
    "a head without a body": answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", linger=True),
    "half a body": answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", linger=True),
    "a dripping head": dripping(b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "a dripping body": dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"x"),
    "dripping chunks": dripping(CHUNKED, b"1\r\nx\r\n"),
    "news of no answer for ever": dripping(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
}


@pytest.mark.parametrize("trouble", SLOW)
@pytest.mark.row("E3")
async def test_an_answer_that_takes_too_long_ends_with_the_whole_requests_time(
    outbound: Outbound, trouble: str
) -> None:
    async with Peer(SLOW[trouble]).listening() as peer:
        error = await failure_of_waiting(outbound, peer)
        assert (type(error), error.code) == (Unconfirmed, "timeout")
        assert peer.connections == 1


async def test_a_body_that_nobody_takes_leaves_open_what_was_received(outbound: Outbound) -> None:
    async def full(_: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    def flow(url: str) -> Flow[httpx.Response]:
        return (yield httpx.Request("POST", url, content=b"x" * 30_000_000, extensions=dict(PAID)))

    async with Peer(full).listening() as peer:
        sending = asyncio.create_task(outbound.run("revid", flow(peer.url), on_answer=lambda _: None))
        await until(lambda: peer.connections == 1)
        await peer.goes_on()
        move_on(TIMEOUT)
        assert isinstance(await failure_of(sending), Unconfirmed)


# --- redirects


LOCATIONS = [
    b"/elsewhere", b"//elsewhere.invalid/", b"http://127.0.0.1:%d/", b"https://elsewhere.invalid/", b"",
    b"foo:bar", b"javascript:alert(1)", b"http:x", b"mailto:a@b", b"http://[::1", b"http:///x", b"//[", b"http://a:99999/",
    b"\xff\xfe", b"caf\xc3\xa9", b"http://\xe2\x80\xae/", b"x" * 60_000,
]  # fmt: skip


@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"303 See Other", b"307 Temporary", b"308 Permanent"])
@pytest.mark.parametrize("location", LOCATIONS, ids=range(len(LOCATIONS)))
@pytest.mark.row("E8")
async def test_a_redirect_is_never_followed_nor_taken_for_a_request_that_did_not_arrive(
    outbound: Outbound, status: bytes, location: bytes
) -> None:
    async with Peer(answering(http(b"{}"))).listening() as canary:
        where = location.replace(b"%d", str(canary.port).encode())
        async with Peer(answering(http(b"{}", b"Location: " + where, status=status))).listening() as peer:
            try:
                answer = await buy(outbound, peer.url)
            except Unconfirmed:
                answer = None
            assert answer is None or answer.status_code == int(status[:3])
            assert (peer.connections, canary.connections) == (1, 0)


# --- answers that are read


PLAIN = b'{"id":"1","text":"\xc3\xa4"}'
READABLE = {
    "as it is": http(PLAIN),
    "chunked": CHUNKED + b"%x\r\n" % len(PLAIN) + PLAIN + b"\r\n0\r\n\r\n",
    "until the end": b"HTTP/1.0 200 OK\r\n\r\n" + PLAIN,
    "gzip": http(gzip.compress(PLAIN), GZIP),
    "GZIP": http(gzip.compress(PLAIN), b"Content-Encoding: GZIP"),
    "deflate": http(zlib.compress(PLAIN), b"Content-Encoding: deflate"),
    "identity": http(PLAIN, b"Content-Encoding: identity"),
    "after early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + http(PLAIN),
    "with headers in Latin-1": http(PLAIN, b"X-Info: caf\xe9", b"Set-Cookie: \xff=\xfe"),
    "with headers in UTF-8": http(PLAIN, "X-Info: café 🎬".encode()),
}


@pytest.mark.parametrize("form", READABLE)
@pytest.mark.row("E4")
async def test_an_answer_is_read_whatever_its_form(outbound: Outbound, form: str) -> None:
    async with Peer(answering(READABLE[form])).listening() as peer:
        answer = await buy(outbound, peer.url)
        assert (answer.status_code, answer.content) == (200, PLAIN)
        assert answer.extensions["received_at"] == NOW
        assert answer.request.url == peer.url


async def test_the_largest_answer_is_read_plain_and_compressed(outbound: Outbound) -> None:
    body = bytes(MAX_ANSWER_BYTES)
    for raw in (http(body), http(gzip.compress(body), GZIP)):
        async with Peer(answering(raw)).listening() as peer:
            assert len((await buy(outbound, peer.url)).content) == MAX_ANSWER_BYTES


@pytest.mark.parametrize("status", [b"201 Created", b"400 Bad Request", b"429 Slow Down", b"503 No", b"599 Odd"])
async def test_every_status_is_for_the_provider_to_read(outbound: Outbound, status: bytes) -> None:
    async with Peer(answering(http(b"{}", b"Retry-After: 7", status=status))).listening() as peer:
        answer = await buy(outbound, peer.url)
        assert answer.status_code == int(status[:3])
        assert answer.headers["retry-after"] == "7"


# --- what is sent


async def test_every_request_says_who_we_are_and_asks_for_no_compression(outbound: Outbound) -> None:
    async with Peer(answering(http())).listening() as peer:
        await buy(outbound, peer.url)
        await buy(outbound, peer.url, paid=False, method="GET")
        await buy(outbound, peer.url, headers={"Authorization": "Bearer a-key", "Accept": "text/plain"})
        heads = [head.decode().lower() for _, head in peer.heads]
        assert all(f"user-agent: {USER_AGENT}\r\n" in head for head in heads)
        assert all("accept-encoding: identity\r\n" in head for head in heads)
        assert all(head.count("host: ") == 1 for head in heads)
        assert "authorization" not in heads[0]
        assert "authorization: bearer a-key\r\n" in heads[2]
        assert heads[2].count("accept: ") == 1
        assert "content-length" not in heads[1]


@pytest.mark.row("E12")
async def test_the_environment_sends_nothing_elsewhere_and_adds_no_credentials(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    netrc = tmp_path_factory.mktemp("home") / ".netrc"
    netrc.write_text("machine 127.0.0.1 login canary password canary\n")
    async with Peer(answering(http(b"canary"))).listening() as canary, Peer(answering(http())).listening() as peer:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
            monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{canary.port}")
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("SSL_CERT_FILE", str(netrc))
        outbound = Outbound(TIMEOUT, lambda: NOW)
        for paid in (True, False):
            assert (await buy(outbound, peer.url, paid=paid)).content == b'{"id":1}'
        await outbound.close()
        assert canary.connections == 0
        assert all(b"authorization" not in head.lower() for _, head in peer.heads)


@pytest.mark.row("E8")
async def test_cookies_are_not_kept(outbound: Outbound) -> None:
    """Nobody needs them, and a provider could fill every later request with them."""
    raw = http(b"{}", b"Set-Cookie: a=b", b"Set-Cookie: c=d; Path=/; Max-Age=9999")
    async with Peer(answering(raw)).listening() as peer:
        for paid in (True, False, True, False):
            await buy(outbound, peer.url, paid=paid)
        assert all(b"cookie" not in head.lower() for _, head in peer.heads)


async def test_a_purchase_is_told_of_before_it_leaves_and_sends_what_it_is_told(outbound: Outbound) -> None:
    order: list[str] = []

    async def before(request: httpx.Request) -> httpx.Request:
        await asyncio.sleep(0.05)
        order.append(f"before, {peer.connections} connections")
        return httpx.Request(request.method, f"{peer.url}?repeat", headers=request.headers, content=request.content)

    def flow() -> Flow[str]:
        first = yield httpx.Request("GET", peer.url)
        second = yield httpx.Request("POST", peer.url, content=b"{}", extensions=dict(PAID))
        order.append("done")
        return f"{first.status_code} {second.status_code}"

    async with Peer(answering(http())).listening() as peer:
        told = await outbound.run(
            "revid", flow(), on_answer=lambda answer: order.append(f"answered {answer.status_code}"), before_paid=before
        )
        assert told == "200 200"
        assert order == ["answered 200", "before, 1 connections", "answered 200", "done"]
        assert b"?repeat" in peer.heads[1][1]


async def test_a_purchase_that_is_called_off_before_it_leaves_is_not_sent(outbound: Outbound) -> None:
    async def before(_: httpx.Request) -> httpx.Request:
        raise LookupError

    async with Peer(answering(http())).listening() as peer:
        with pytest.raises(LookupError):
            await outbound.run("revid", buying(peer.url), on_answer=lambda _: None, before_paid=before)
        assert peer.connections == 0


# --- connections


@pytest.mark.row("E4")
async def test_purchases_take_fresh_connections_and_others_keep_theirs(outbound: Outbound) -> None:
    async with Peer(answering(http(), keep=True)).listening() as peer:
        for paid in (False, True, False, True, True, False):
            await buy(outbound, peer.url, paid=paid)
        numbers = [number for number, _ in peer.heads]
        assert numbers == [1, 2, 1, 3, 4, 1] or peer.connections == 4


async def test_many_purchases_at_once_never_share_a_connection() -> None:
    outbound = Outbound(TIMEOUT, lambda: NOW)
    async with Peer(answering(http(), keep=True)).listening() as peer:
        await asyncio.gather(*(buy(outbound, peer.url) for _ in range(2 * MAX_REQUESTS + 3)))
        assert peer.connections == 2 * MAX_REQUESTS + 3
    await outbound.close()


@pytest.mark.row("E4")
async def test_a_kept_connection_that_was_closed_meanwhile_is_not_used(outbound: Outbound) -> None:
    async with Peer(answering(http())).listening() as peer:  # it says nothing of closing, and closes
        for number in range(10):
            await buy(outbound, peer.url, paid=False, method="GET")
            await until(lambda closed=number + 1: peer.closed == closed)  # type: ignore[misc]
            assert peer.connections == number + 1


@pytest.mark.row("E3")
async def test_an_account_that_hangs_holds_up_no_other() -> None:
    outbound = Outbound(TIMEOUT, lambda: NOW)
    async with (
        Peer(answering(b"", linger=True)).listening() as stuck,
        Peer(answering(http())).listening() as well,
    ):
        hanging = [
            asyncio.create_task(buy(outbound, stuck.url, "stuck", paid=number % 2 == 0))
            for number in range(2 * MAX_REQUESTS + 20)
        ]
        await stuck.asked(2 * MAX_REQUESTS)
        for paid in (True, False):
            async with asyncio.timeout(HANG):
                assert (await buy(outbound, well.url, "well", paid=paid)).status_code == 200
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
    await outbound.close()


async def test_a_cancelled_request_gives_its_connection_back() -> None:
    outbound = Outbound(TIMEOUT, lambda: NOW)
    async with (
        Peer(answering(b"", linger=True)).listening() as stuck,
        Peer(answering(http())).listening() as well,
    ):
        for number in range(3):
            hanging = [asyncio.create_task(buy(outbound, stuck.url)) for _ in range(MAX_REQUESTS)]
            await stuck.asked((number + 1) * MAX_REQUESTS)
            for task in hanging:
                task.cancel()
            results = await asyncio.gather(*hanging, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)
        async with asyncio.timeout(HANG):
            assert (await buy(outbound, well.url)).status_code == 200
    await outbound.close()


@pytest.mark.row("E14")
async def test_a_purchase_waits_for_its_turn_before_it_is_told_of_and_outside_its_own_time() -> None:
    outbound, told, release = Outbound(TIMEOUT, lambda: NOW), [0], asyncio.Event()

    async def behave(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await peer.take(reader)
        await release.wait()
        writer.write(http())

    async def before(request: httpx.Request) -> httpx.Request:
        told[0] += 1
        return request

    async def order(peer: Peer) -> httpx.Response:
        return await outbound.run("revid", buying(peer.url), on_answer=lambda _: None, before_paid=before)

    async with Peer(behave).listening() as peer:
        orders = [asyncio.create_task(order(peer)) for _ in range(2 * MAX_REQUESTS)]
        await peer.asked(MAX_REQUESTS)
        assert (told[0], peer.connections) == (MAX_REQUESTS, MAX_REQUESTS)
        release.set()
        assert [answer.status_code for answer in await asyncio.gather(*orders)] == [200] * len(orders)
        assert told[0] == len(orders)
    await outbound.close()


@pytest.mark.row("E14")
async def test_what_waits_for_its_turn_too_long_was_not_sent_and_says_why(outbound: Outbound) -> None:
    async with Peer(answering(b"", linger=True)).listening() as peer:
        waits = [asyncio.create_task(buy(outbound, peer.url)) for _ in range(3 * MAX_REQUESTS)]
        await peer.asked(MAX_REQUESTS)
        while not all(task.done() for task in waits):
            move_on(TIMEOUT / 4)
            await asyncio.sleep(0.01)
        ended = await asyncio.gather(*waits, return_exceptions=True)
        unsent = [error for error in ended if isinstance(error, NotSent)]
        assert len(unsent) >= MAX_REQUESTS
        assert all("were under way" in error.message and error.retry_after for error in unsent)
        assert peer.connections == len(ended) - len(unsent)


@pytest.mark.row("E14")
async def test_hanging_purchases_do_not_keep_others_kinds_of_requests_waiting() -> None:
    outbound = Outbound(TIMEOUT, lambda: NOW)
    async with (
        Peer(answering(b"", linger=True)).listening() as stuck,
        Peer(answering(http())).listening() as well,
    ):
        hanging = [asyncio.create_task(buy(outbound, stuck.url)) for _ in range(3 * MAX_REQUESTS)]
        await stuck.asked(MAX_REQUESTS)
        async with asyncio.timeout(HANG):
            assert (await buy(outbound, well.url, paid=False)).status_code == 200
        assert outbound.free_slots("revid", Kind.ORDER) == 0
        assert outbound.free_slots("revid", Kind.CHECK) == MAX_REQUESTS
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        assert outbound.free_slots("revid", Kind.ORDER) == MAX_REQUESTS
    await outbound.close()


@pytest.mark.row("E14")
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_request_that_is_called_off_closes_its_connection_however_far_it_came(scheme: str) -> None:
    closed = asyncio.Event()

    async def mute(_: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began.set()
        while await reader.read(1000):
            pass
        closed.set()

    outbound, began = Outbound(TIMEOUT, lambda: NOW), asyncio.Event()
    async with Peer(mute).listening() as peer:
        calling = asyncio.create_task(buy(outbound, f"{scheme}://127.0.0.1:{peer.port}/"))
        await began.wait()
        await asyncio.sleep(0)
        calling.cancel()
        ended = await asyncio.gather(calling, return_exceptions=True)
        async with asyncio.timeout(HANG):
            await closed.wait()  # not only when nobody knows of its end any more, and Python throws it away
        assert isinstance(ended[0], asyncio.CancelledError)
    await outbound.close()


async def test_no_more_connections_are_kept_than_a_few() -> None:
    outbound = Outbound(TIMEOUT, lambda: NOW)
    async with Peer(answering(http(), keep=True)).listening() as peer:
        for _ in range(2):
            await asyncio.gather(*(buy(outbound, peer.url, paid=False) for _ in range(MAX_REQUESTS)))
        assert peer.connections >= 2 * MAX_REQUESTS - MAX_IDLE_CONNECTIONS
    await outbound.close()


@pytest.mark.row("E14")
async def test_places_whose_holders_are_stuck_are_replaced_and_told_of() -> None:
    outbound, lost, never = Outbound(0.1, lambda: NOW, stuck_margin=0.0), list[str](), asyncio.Event()
    outbound.on_lost_slot = lost.append

    async def stuck(request: httpx.Request) -> httpx.Request:
        await never.wait()
        return request

    async with Peer(answering(http())).listening() as peer:
        flows = [buying(peer.url) for _ in range(MAX_REQUESTS)]
        holding = [
            asyncio.create_task(outbound.run("revid", flow, on_answer=lambda _: None, before_paid=stuck))
            for flow in flows
        ]
        await until(lambda: len(lost) >= MAX_REQUESTS)
        assert set(lost) == {"revid"}
        assert outbound.free_slots("revid", Kind.ORDER) == MAX_REQUESTS
        for one in holding:
            one.cancel()
        await asyncio.gather(*holding, return_exceptions=True)
        assert outbound.free_slots("revid", Kind.ORDER) == MAX_REQUESTS, "they do not come back as further places"
    await outbound.close()
