"""The places in a submission's life at which a process can die, each reached from outside of the service.

A place is a coroutine that waits until the service has come there and kills it. The provider stands in the tests' own
process: it sees a request arrive, and the killed service has no say in what it did with it.
"""

import asyncio
import contextlib
import re
import signal
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.behaviour.families import FAMILIES
from tests.behaviour.provider import Exchange, Provider, Received, Script, family_of, says, slams
from tests.behaviour.service import Database
from tests.measuring import HANG
from tests.system.processes import Process

GONE = (7, 8)
"""A TCP connection's states when the other side has closed it: CLOSE and CLOSE_WAIT."""
MARK = re.compile(rb"place-\d+")
DEAD = "gateway-dead"
"""An account whose provider takes no connection."""


@dataclass
class Scene:
    """A service, its provider, and what is to happen to the requests about each order, which its prompt names."""

    serving: Process
    provider: Provider
    database: Database
    creates: dict[str, Script] = field(default_factory=dict)
    checks: dict[str, Script] = field(default_factory=dict)
    bought: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """The charges for each order: create requests, where a repeat under a known key counts once."""

    def open(self) -> None:
        """Let the provider follow this scene."""
        for family in FAMILIES.values():
            self.provider.on_create(family, self._create)
            self.provider.on_check(family, self._check)

    async def until(self, query: str, *values: str) -> None:
        """Wait until the database holds something; looks as often as it can."""
        async with asyncio.timeout(HANG):
            while not self.database.rows(query, *values):  # noqa: ASYNC110 - another process writes
                await asyncio.sleep(0)

    def kill(self) -> None:
        """Kill the service at this very moment."""
        self.serving.send(signal.SIGKILL)

    @contextlib.asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Keep the service from writing."""
        with self.database.connected() as connection:
            connection.execute("PRAGMA busy_timeout=60000")
            connection.execute("BEGIN IMMEDIATE")
            yield

    async def _create(self, exchange: Exchange) -> None:
        mark = mark_of(exchange.request)
        charges = self.bought[mark]
        charges.add(exchange.request.headers.get("idempotency-key") or f"request {len(charges)}")
        await self.creates.get(mark, accepts)(exchange)

    async def _check(self, exchange: Exchange) -> None:
        await self.checks.get(asked_id(exchange.request), finds_it_done)(exchange)


Place = Callable[[Scene, str], Coroutine[Any, Any, None]]


def mark_of(request: Received) -> str:
    """Tell which order a create request is for."""
    found = MARK.search(request.body)
    assert found
    return found[0].decode()


async def accepts(exchange: Exchange) -> None:
    """Take an order; its mark is the id."""
    request = exchange.request
    await says(family_of(request.account).accepted(mark_of(request)))(exchange)


async def finds_it_done(exchange: Exchange) -> None:
    """Answer that the work is done."""
    asked = asked_id(exchange.request)
    await says(family_of(exchange.request.account).done(asked, result_of(asked)))(exchange)


async def finds_it_working(exchange: Exchange) -> None:
    """Answer that the work goes on."""
    await says(family_of(exchange.request.account).working(asked_id(exchange.request)))(exchange)


def asked_id(request: Received) -> str:
    """Tell which id a status request is about."""
    return request.query.get("taskId", [request.path])[0].rpartition("/")[2]


async def was_read(exchange: Exchange) -> None:
    """Wait until the service has the whole answer: then it closes the connection."""
    connection = exchange.writer.get_extra_info("socket")
    async with asyncio.timeout(HANG):
        while connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] not in GONE:  # noqa: ASYNC110 - as it is
            await asyncio.sleep(0.001)


def result_of(mark: str) -> str:
    """The file that the provider made for an order."""
    return f"https://cdn.example.com/{mark}.mp4"


async def stored_and_not_begun(scene: Scene, mark: str) -> None:
    """The order is committed; its attempt may be."""
    await scene.until("SELECT 1 FROM task WHERE prompt = ?", mark)
    scene.kill()


async def attempt_committed(scene: Scene, mark: str) -> None:
    """The attempt is committed, and its request has not left: nobody takes the connection."""
    query = "SELECT 1 FROM attempt JOIN task ON task.id = attempt.task_id WHERE prompt = ?"
    await scene.until(query, mark)
    scene.kill()


async def request_arrived(scene: Scene, mark: str) -> None:
    """The provider has the whole request, and answers nothing."""
    await _at(scene.creates, mark, scene.kill, first=None, then=slams())


async def answered(scene: Scene, mark: str) -> None:
    """The answer is on the wire."""
    await _at(scene.creates, mark, scene.kill, first=accepts, then=None)


async def answer_read(scene: Scene, mark: str) -> None:
    """The service has read the answer, and cannot commit it: somebody else writes."""
    over = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        async with scene.locked():
            await accepts(exchange)
            await was_read(exchange)
            scene.kill()
            await asyncio.to_thread(scene.serving.kill)
        over.set()

    scene.creates[mark] = script
    async with asyncio.timeout(HANG):
        await over.wait()


async def answer_committed(scene: Scene, mark: str) -> None:
    """The answer is committed; the caller may not know."""
    await scene.until("SELECT 1 FROM task WHERE prompt = ? AND state = 'submitted'", mark)
    scene.kill()


async def asked_about(scene: Scene, mark: str) -> None:
    """A check holds the lease, and its request has arrived."""
    await _at(scene.checks, mark, scene.kill, first=None, then=finds_it_done)


async def repeated(scene: Scene, mark: str) -> None:
    """The answer to the first try was lost, and the repeat under the same key has arrived."""
    over = asyncio.Event()

    async def repeat(exchange: Exchange) -> None:
        scene.kill()
        over.set()
        await slams()(exchange)

    async def first(exchange: Exchange) -> None:
        scene.creates[mark] = repeat
        await slams()(exchange)

    scene.creates[mark] = first
    async with asyncio.timeout(HANG):
        await over.wait()


async def _at(
    scripts: dict[str, Script], mark: str, kill: Callable[[], None], *, first: Script | None, then: Script | None
) -> None:
    """Kill when a request about an order has arrived, and `first` was done; `then` happens to the connection."""
    over = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        del scripts[mark]
        if first is not None:
            await first(exchange)
        kill()
        over.set()
        if then is not None:
            await then(exchange)

    scripts[mark] = script
    async with asyncio.timeout(HANG):
        await over.wait()


PLACES: dict[str, tuple[Place, tuple[str, ...]]] = {
    "stored and not begun": (stored_and_not_begun, ("revid", "rivya")),
    "attempt committed": (attempt_committed, (DEAD,)),
    "request arrived": (request_arrived, ("apixo", "rivya")),
    "answered": (answered, ("gateway", "revid")),
    "answer read": (answer_read, ("revid", "rivya")),
    "answer committed": (answer_committed, ("apixo", "gateway")),
    "asked about": (asked_about, ("revid", "rivya")),
    "repeated": (repeated, ("rivya",)),
}
"""Each place by its name, with the accounts at which it is tried in turn."""


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """Hold a port whose queue of connections is full: whoever connects there waits until it gives up."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port: int = listening.getsockname()[1]
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)  # noqa: FBT003 - the socket's own signature
            waiting.connect_ex(("127.0.0.1", port))
        yield port
