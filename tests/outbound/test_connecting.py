"""Names are looked up once at a time, and a resolver that keeps silent holds up nobody but its own name."""

import asyncio
import contextlib
import gc
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence

import httpcore
import pytest

from receiver.core.errors import NotSent, Unconfirmed
from receiver.outbound.client import Outbound
from receiver.outbound.connecting import Network, resolve
from tests.measuring import HANG, until
from tests.outbound.test_client import NOW, Peer, answering, buy, deaf, http

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


class Resolver:
    """Answers for names as a test says, and counts what it is asked."""

    def __init__(self, addresses: dict[str, Sequence[str]]) -> None:
        self.addresses = addresses
        self.asked: list[str] = []
        self.speaks = threading.Event()

    def __call__(self, host: str, _port: int) -> Sequence[str]:
        self.asked.append(host)
        if host.startswith("silent"):
            self.speaks.wait(10 * HANG)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        if host not in self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self.addresses[host]


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    resolver = Resolver({"well.test": ["127.0.0.1"], "twice.test": ["127.0.0.3", "127.0.0.1"], "nothing.test": []})
    yield resolver
    resolver.speaks.set()


@contextlib.asynccontextmanager
async def sending(seconds: float, resolver: Resolver) -> AsyncIterator[Outbound]:
    outbound = Outbound(seconds, lambda: NOW, Network(resolver))
    try:
        yield outbound
    finally:
        resolver.speaks.set()  # the loop waits in its end for threads of its own
        await outbound.close()


def url(peer: Peer, host: str) -> str:
    return f"http://{host}:{peer.port}/"


@pytest.mark.row("E6")
async def test_a_name_is_looked_up_and_connected_to(resolver: Resolver) -> None:
    async with Peer(answering(http())).listening() as peer, sending(HANG, resolver) as outbound:
        assert (await buy(outbound, url(peer, "well.test"))).status_code == 200
        assert resolver.asked == ["well.test"]
        assert f"host: well.test:{peer.port}".encode() in peer.heads[0][1].lower()


@pytest.mark.row("E6")
async def test_an_address_is_looked_up_by_nobody(resolver: Resolver) -> None:
    async with Peer(answering(http())).listening() as peer, sending(HANG, resolver) as outbound:
        assert (await buy(outbound, url(peer, "127.0.0.1"))).status_code == 200
        assert resolver.asked == []


@pytest.mark.row("E6")
@pytest.mark.parametrize("host", ["unknown.test", "nothing.test"])
async def test_a_name_that_leads_nowhere_was_not_sent_and_is_asked_for_anew(host: str, resolver: Resolver) -> None:
    async with sending(HANG, resolver) as outbound:
        for _ in range(2):
            with pytest.raises(NotSent, match=host):
                await buy(outbound, f"http://{host}/")
        assert resolver.asked == [host, host]


@pytest.mark.row("E6")
async def test_a_silent_resolver_keeps_one_thread_and_no_other_name_waiting(resolver: Resolver) -> None:
    """asyncio's own lookups would fill the few threads that all share, and wait for them at the end."""
    threads = threading.active_count()
    async with Peer(answering(http())).listening() as peer, sending(10 * HANG, resolver) as outbound:
        stuck = [asyncio.create_task(buy(outbound, "http://silent.test/", account=f"a-{n % 3}")) for n in range(60)]
        await asyncio.sleep(0)
        for _ in range(5):
            async with asyncio.timeout(HANG):
                assert (await buy(outbound, url(peer, "well.test"), account="well")).status_code == 200
        async with asyncio.timeout(HANG):
            await asyncio.to_thread(lambda: None)
        assert resolver.asked.count("silent.test") == 1
        assert threading.active_count() <= threads + 2
        resolver.speaks.set()
        ended = await asyncio.gather(*stuck, return_exceptions=True)
        assert {type(end) for end in ended} == {NotSent}


@pytest.mark.row("E3")
async def test_a_lookup_that_hangs_ends_with_the_time_for_connecting(resolver: Resolver) -> None:
    async with sending(0.4, resolver) as outbound:
        for _ in range(3):
            async with asyncio.timeout(HANG):
                with pytest.raises(NotSent, match=r"silent\.test"):
                    await buy(outbound, "http://silent.test/")
        assert resolver.asked == ["silent.test"], "the lookup that is under way is waited for, not begun again"
        resolver.speaks.set()
        resolver.addresses["silent.test"] = ["127.0.0.1"]


async def test_a_lookup_that_answers_when_nobody_waits_any_more_troubles_nobody(resolver: Resolver) -> None:
    async with sending(0.2, resolver) as outbound:
        with pytest.raises(NotSent):
            await buy(outbound, "http://silent.test/")
        resolver.speaks.set()
        await until(lambda: all(thread.name != "lookup silent.test" for thread in threading.enumerate()))
        await asyncio.sleep(0)
        gc.collect()


@pytest.mark.row("E6")
async def test_the_next_address_of_a_name_is_tried_when_one_refuses(resolver: Resolver) -> None:
    async with Peer(answering(http())).listening() as peer, sending(HANG, resolver) as outbound:
        assert (await buy(outbound, url(peer, "twice.test"))).status_code == 200
        assert peer.connections == 1


@pytest.mark.row("E6")
async def test_the_next_address_of_a_name_is_tried_when_one_keeps_silent(resolver: Resolver) -> None:
    with deaf() as port:  # at 127.0.0.1; another address has a server at the same port
        server = await asyncio.start_server(_answer, "127.0.0.2", port)
        resolver.addresses["half.test"] = ["127.0.0.1", "127.0.0.2"]
        async with sending(HANG, resolver) as outbound:
            async with asyncio.timeout(HANG):
                assert (await buy(outbound, f"http://half.test:{port}/")).status_code == 200
        server.close()
        await server.wait_closed()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(http())
    writer.close()


async def test_when_no_address_answers_the_last_ones_fault_is_told(resolver: Resolver) -> None:
    resolver.addresses["dead.test"] = ["127.0.0.1", "127.0.0.2"]
    network = Network(resolver)
    with pytest.raises(httpcore.ConnectError):
        await network.connect_tcp("dead.test", 9, timeout=HANG)


async def test_a_broken_answer_behind_a_name_is_as_unclear_as_any(resolver: Resolver) -> None:
    async with Peer(answering(b"")).listening() as peer, sending(HANG, resolver) as outbound:
        with pytest.raises(Unconfirmed):
            await buy(outbound, url(peer, "twice.test"))
        assert peer.connections == 1


def test_the_systems_own_answer_names_each_address_once() -> None:
    found = resolve("localhost", 80)
    assert "127.0.0.1" in found
    assert len(set(found)) == len(found)


END = """
import asyncio, sys, threading
from receiver.outbound.connecting import Network

async def main():
    network = Network(lambda host, port: threading.Event().wait() and [])
    try:
        await network.connect_tcp("silent.test", 80, timeout=0.1)
    except Exception as error:
        print(type(error).__name__)

asyncio.run(main())
"""


@pytest.mark.row("E6")
async def test_a_process_ends_although_a_lookup_hangs() -> None:
    """It has ten seconds after SIGTERM, and nobody can call a lookup off."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", END, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(HANG):
            out, _ = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert (process.returncode, out) == (0, b"ConnectTimeout\n")
