"""A provider's TLS is not what it should be: then nothing was sent, and no key of ours was shown to anybody."""

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from receiver.core.errors import NotSent, Unconfirmed
from receiver.outbound.client import Outbound
from receiver.outbound.connecting import Network
from tests.measuring import HANG
from tests.outbound.test_client import NOW, buy, http

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.row("E4"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="SKIPPED, NOT TESTED: openssl is not installed"),
]

NAME = "api.provider.test"
KEY = {"Authorization": "Bearer the-key"}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the tests, made with openssl."""

    directory: Path

    def begin(self) -> None:
        fresh = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
        self._openssl(f"{fresh} -x509 -days 30 -subj /CN=ours -keyout ca.key -out ca.pem")
        self._openssl(f"{fresh} -subj /CN=x -keyout server.key -out server.csr")

    def certificate(self, name: str, days: int = 1) -> Path:
        """Make a server's certificate; with negative days it is over already."""
        (self.directory / "extensions").write_text(f"subjectAltName=DNS:{name}")
        signed = "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem"
        self._openssl(f"{signed} -days {days} -extfile extensions")
        return self.directory / "server.pem"

    def trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.directory / "ca.pem"))

    def _openssl(self, words: str) -> None:
        done = subprocess.run(["openssl", *words.split()], cwd=self.directory, capture_output=True, check=False)  # noqa: S603, S607 - the one on the path
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    authority.begin()
    return authority


@dataclass
class Server:
    """A TLS server that counts what it is asked, and reads not a byte unless the handshake has succeeded."""

    port: int = 0
    handshakes: int = 0
    requests: list[bytes] = field(default_factory=list)
    hangs_up: bool = False

    async def behave(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.handshakes += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            if not self.hangs_up:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(http())
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def serving(context: ssl.SSLContext, *, hangs_up: bool = False) -> AsyncIterator[Server]:
    it = Server(hangs_up=hangs_up)
    server = await asyncio.start_server(it.behave, "127.0.0.1", 0, ssl=context)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        await server.wait_closed()


def presenting(authority: Authority, certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, authority.directory / "server.key")
    return context


@pytest.fixture
async def outbound(authority: Authority) -> AsyncIterator[Outbound]:
    """Trusts our authority, and finds every name on this machine."""
    outbound = Outbound(HANG, lambda: NOW, Network(lambda _host, _port: ["127.0.0.1"]), authority.trusted())
    yield outbound
    await outbound.close()


async def test_a_good_certificate_is_believed(authority: Authority, outbound: Outbound) -> None:
    """Otherwise the others would prove nothing."""
    async with serving(presenting(authority, authority.certificate(NAME))) as server:
        answer = await buy(outbound, f"https://{NAME}:{server.port}/", headers=KEY)
        assert (answer.status_code, len(server.requests)) == (200, 1)


@pytest.mark.parametrize(
    ("name", "days", "words"),
    [(NAME, -1, "expired"), ("another.test", 1, "mismatch"), ("127.0.0.1", 1, "mismatch")],
    ids=["expired", "of another name", "of the address"],
)
async def test_a_wrong_certificate_is_shown_no_request(
    name: str, days: int, words: str, authority: Authority, outbound: Outbound
) -> None:
    async with serving(presenting(authority, authority.certificate(name, days))) as server:
        for paid in (True, False):
            with pytest.raises(NotSent, match=words):
                await buy(outbound, f"https://{NAME}:{server.port}/", headers=KEY, paid=paid)
        assert server.requests == []


async def test_a_certificate_of_an_authority_that_nobody_knows_is_shown_no_request(authority: Authority) -> None:
    outbound = Outbound(HANG, lambda: NOW, Network(lambda _host, _port: ["127.0.0.1"]))
    async with serving(presenting(authority, authority.certificate(NAME))) as server:
        with pytest.raises(NotSent, match="certificate"):
            await buy(outbound, f"https://{NAME}:{server.port}/", headers=KEY)
        assert server.requests == []
    await outbound.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # which ssl gives for naming the old version
async def test_an_old_tls_is_shown_no_request(authority: Authority, outbound: Outbound) -> None:
    context = presenting(authority, authority.certificate(NAME))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    async with serving(context) as server:
        with pytest.raises(NotSent):
            await buy(outbound, f"https://{NAME}:{server.port}/", headers=KEY)
        assert (server.handshakes, server.requests) == (0, [])


async def test_a_server_that_hangs_up_after_the_handshake_leaves_open_what_it_received(
    authority: Authority, outbound: Outbound
) -> None:
    async with serving(presenting(authority, authority.certificate(NAME)), hangs_up=True) as server:
        with pytest.raises((NotSent, Unconfirmed)) as caught:
            await buy(outbound, f"https://{NAME}:{server.port}/", headers=KEY)
        assert server.handshakes == 1, "and it is never tried again by itself"
        assert isinstance(caught.value, Unconfirmed)


@contextlib.contextmanager
def _poisoned(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as environment:
        environment.setenv("SSL_CERT_FILE", str(authority.directory / "ca.pem"))
        environment.setenv("SSL_CERT_DIR", str(authority.directory))
        yield


@pytest.mark.row("E12")
async def test_authorities_that_the_environment_names_are_not_trusted(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _poisoned(authority, monkeypatch):
        outbound = Outbound(HANG, lambda: NOW, Network(lambda _host, _port: ["127.0.0.1"]))
        async with serving(presenting(authority, authority.certificate(NAME))) as server:
            with pytest.raises(NotSent, match="certificate"):
                await buy(outbound, f"https://{NAME}:{server.port}/", headers=KEY)
            assert server.requests == []
        await outbound.close()
