"""Senders and readers who take their time, by the hundred, and connections by the thousand, beside honest callbacks."""

import asyncio
import contextlib
import json
import resource
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import httpx
import pytest

from receiver.serving.connections import HEAD_SECONDS
from tests.behaviour.families import REVID
from tests.measuring import HANG, Duration, Stopwatch, longest, quantile
from tests.torture.harness import Torture
from tests.torture.hostile.live import TOKEN, Live, Target, live

CUT_WITHIN = 15.0
"""Seconds after its beginning in which every attacker's connection is closed."""
LARGE = "a large unread answer"
"""Only a few: whoever may ask for one may do worse."""
HONEST_EVERY = 0.02
Act = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Attack:
    """Connections that are kept open as long as the service lets them; how long each lasted, by kind."""

    port: int
    lasted: dict[str, list[Duration]] = field(default_factory=dict)
    never_cut: list[str] = field(default_factory=list)

    async def open(self, kind: str, act: Act) -> None:
        """Connect, do the evil deed until the other side closes, and note how long that took."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # the kernel shall not read for us
        connection.settimeout(0)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=connection, limit=1024)
        watch = Stopwatch()
        try:
            async with asyncio.timeout(HANG):
                await act(reader, writer)
        except ConnectionError:
            pass
        except TimeoutError:
            self.never_cut.append(kind)
        self.lasted.setdefault(kind, []).append(watch.read())
        writer.transport.abort()


async def _until_closed(reader: asyncio.StreamReader) -> None:
    while await reader.read(4096):
        pass


async def silence(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Connect, and say nothing."""
    await _until_closed(reader)


def dripping(head: str) -> Act:
    """Send this, then a byte each half second."""

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head.encode())
        closed = asyncio.create_task(_until_closed(reader))
        while not closed.done():
            writer.write(b"x")
            await writer.drain()
            await asyncio.wait({closed}, timeout=0.5)
        await closed

    return act


def late(body: Act) -> Act:
    """Take almost as long for the head as one may, and then for the body."""

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"P")
        await asyncio.sleep(HEAD_SECONDS - 0.7)
        await body(reader, writer)

    return act


def mute(request: str, times: int) -> Act:
    """Ask for much, and read nothing of it; that the other side has closed is found out by writing."""

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # every socket's transport has it
        writer.write(request.encode() * times)
        while True:
            await asyncio.sleep(0.5)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            await writer.drain()

    return act


def kinds(target: Target) -> dict[str, Act]:
    """Every way to be slow. The bodies are of requests that are read, that are refused, and that have none."""

    def head(path: str, **headers: str) -> str:
        named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n{named}\r\n"

    history = f"GET /api/tasks/{target.task_id}/history HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    return {
        "silence": silence,
        "a slow head": dripping("GET /healthz HTTP/1.1\r\nHost: x\r\nX: "),
        "a slow second head": dripping("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nX: "),
        "a slow callback": dripping(head(target.path) + "{"),
        "a slow callback to nobody": dripping(head("/callbacks/revid/no-token")),
        "a slow order of a stranger": dripping(head("/api/tasks")),
        "a slow login": dripping(
            head("/login", Content_Type="application/x-www-form-urlencoded").replace("100000", "10000")
        ),
        "a slow body of a GET": dripping(head("/healthz").replace("POST", "GET")),
        "a slow chunk": dripping(
            f"POST {target.path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFF\r\n"
        ),
        "a slow head and body": late(dripping(head(target.path).removeprefix("P"))),
        LARGE: mute(history, 1),
        "unread answers to a stranger": mute("GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    }


async def honest(serving: Live, target: Target, seconds: float) -> list[Duration]:
    """Send honest callbacks, each on its own connection, at a steady pace; returns how long each took."""
    took: list[Duration] = []
    body = json.dumps(REVID.working(target.remote_id)).encode()
    head = f"POST {target.path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"

    async def send() -> None:
        watch = Stopwatch()
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(head.encode() + body)
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
        took.append(watch.read())

    async with asyncio.TaskGroup() as group:
        for _ in range(round(seconds / HONEST_EVERY)):
            group.create_task(send())
            await asyncio.sleep(HONEST_EVERY)
    return took


@pytest.mark.row("D8")
def test_slow_senders_and_readers_are_cut_off_and_keep_no_honest_callback_waiting(
    serving: Live, torture: Torture
) -> None:
    target, large = serving.target("revid"), serving.target("revid")
    for _ in range(10):
        serving.deliver(large.path, b"\x01" * 1_000_000)
    attack = Attack(serving.port)
    each = torture.size(12, 50)

    async def run() -> tuple[list[Duration], list[Duration]]:
        quiet = await honest(serving, target, 1.0)
        async with asyncio.TaskGroup() as group:
            for kind, act in kinds(Target("revid", large.task_id, large.remote_id, target.path)).items():
                for _ in range(each if kind != LARGE else 2):
                    group.create_task(attack.open(kind, act))
            under_fire = await honest(serving, target, torture.size(13, 60))
        return quiet, under_fire

    quiet, under_fire = asyncio.run(run())
    lasted = longest(chain(*attack.lasted.values()))
    torture.figures(
        attackers=sum(map(len, attack.lasted.values())),
        longest_seconds=lasted,
        honest=len(under_fire),
        honest_p99_s=quantile(under_fire, 0.99),
        quiet_p99_s=quantile(quiet, 0.99),
        megabytes_above_idle=(serving.most_memory() - serving.idle) / 1e6,
    )
    assert set(attack.lasted) == set(kinds(target))
    assert attack.never_cut == []
    torture.within(lasted, CUT_WITHIN)
    torture.within(quantile(under_fire, 0.99), 0.5, quantile(quiet, 0.99).times(20))


# --- more connections than files


@contextlib.contextmanager
def few_files(number: int) -> Iterator[None]:
    """Let whatever is started now have no more open files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def answers(serving: Live) -> Duration:
    """Ask how it is on a new connection; returns how long the answer took."""
    watch = Stopwatch()
    assert httpx.get(f"http://127.0.0.1:{serving.port}/healthz", timeout=HANG, trust_env=False).status_code == 200
    return watch.read()


def flood(serving: Live, number: int, request: bytes) -> list[socket.socket]:
    """Connect so many times without waiting for any of it, and say the same on each."""
    connections = [socket.socket() for _ in range(number)]
    for connection in connections:
        connection.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            connection.connect(("127.0.0.1", serving.port))
    time.sleep(0.3)  # a flood lasts; no condition
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.sendall(request)
    return connections


@pytest.mark.row("D9")
def test_more_connections_than_files_neither_end_it_nor_keep_it_busy(tmp_path: Path, torture: Torture) -> None:
    """Silent ones give way to honest ones; those that wait for their answers are waited for."""
    files, number, seconds = torture.size(128, 1024), torture.size(400, 5000), torture.size(2, 10)
    with contextlib.ExitStack() as stack:
        with few_files(files):
            serving = stack.enter_context(live(tmp_path))
        path = f"/api/tasks/{serving.target('revid').task_id}"
        wait = f"GET {path}?wait={seconds + 1} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        for kind, request in {"silent": b"", "asking": wait.encode()}.items():
            connections = flood(serving, number, request)
            before, log = serving.cpu(), len(serving.log())
            if kind == "silent":
                torture.figures(answered_beside_the_flood_seconds=longest(answers(serving) for _ in range(10)))
            watch = Stopwatch()
            time.sleep(seconds)  # what is measured is a rate
            busy = watch.read().each_second(serving.cpu() - before)
            for connection in connections:
                connection.close()
            back = answers(serving)
            torture.figures(**{f"{kind}_share_of_a_cpu": busy, f"{kind}_normal_after_seconds": back})
            assert busy < 0.5
            torture.within(back, 5)
            assert len(serving.log()) - log < 10_000
        assert serving.log().count("too_many_connections") == 1
        assert serving.client.get(path).json()["state"] == "submitted"
