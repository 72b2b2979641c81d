"""Callbacks of tasks that wait for them, posted to a running service as providers do, and every answer to them."""

import asyncio
import contextlib
import http.client
import json
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from receiver.config.keys import with_generated_secrets
from receiver.config.settings import Settings
from receiver.core.ids import new_id
from receiver.core.links import CALLBACKS
from receiver.core.states import State
from receiver.providers import CONFIG_TYPES
from receiver.services import Services
from receiver.store import schema
from tests.cli.rig import Home
from tests.measuring import HANG, Duration, Stopwatch, longest
from tests.store.rig import add_tasks, look, task_row
from tests.torture.harness import Torture

KEPT_SECONDS = 2.0
"""A connection that was quiet for longer is not used again: the service closes it after five."""
TIGHTEST = 4.5
"""Seconds within which every callback must be answered: 4, since the tightest documented sender gives up after 5, and
half a second more."""
ALIVE = 1.0
"""Seconds within which /healthz must answer, whatever the database does; idle it takes a few milliseconds."""
DELIVERED = "SELECT DISTINCT task_id FROM delivery"
SETTINGS = {
    "REVID_API_KEY": "a-key",
    "REVID_BASE_URL": "http://127.0.0.1:9",
    "RECEIVER_PUBLIC_URL": "http://127.0.0.1:8000",
    "RECEIVER_POLLER": "off",
}


@dataclass(frozen=True)
class Callback:
    """The good news of one task."""

    task_id: str
    path: str
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What came back to one callback; no status where nothing did."""

    callback: Callback
    status: int | None
    retry_after: str | None
    took: Duration


def home_with_tasks(
    directory: Path, number: int, account: str = "revid", **settings: str
) -> tuple[Home, list[Callback]]:
    """Make an installation with tasks that are at the provider, and the callbacks that they wait for."""
    home = Home(directory, {**SETTINGS, **settings})
    return home, tasks_at_the_provider(home, number, account)


def tasks_at_the_provider(home: Home, number: int, account: str = "revid") -> list[Callback]:
    """Create the database, if need be, and put tasks into it."""
    settings = with_generated_secrets(Settings.load(home.environ(), CONFIG_TYPES))
    schema.migrate(settings.database)
    return asyncio.run(_put(settings, number, account))


async def _put(settings: Settings, number: int, account: str) -> list[Callback]:
    services = Services.open(settings)
    now = services.clock()
    ids = [new_id(now) for _ in range(number)]
    rows = [
        task_row(task_id, state=State.SUBMITTED.value, remote_id=f"remote-{task_id}", callback_url=True,
                 created_at=now, submitted_at=now, updated_at=now, next_check_at=now + 3_600_000, provider=account)
        for task_id in ids
    ]  # fmt: skip
    await services.store.write(add_tasks(*rows))
    urls = [services.links.callback_url(account, task_id) or "" for task_id in ids]
    await services.close()
    return [
        Callback(task_id, f"{CALLBACKS}{url.partition(CALLBACKS)[2]}", good_news(f"remote-{task_id}"))
        for task_id, url in zip(ids, urls, strict=True)
    ]


def good_news(remote_id: str) -> bytes:
    """The body of RevidAPI's callback about a finished video."""
    result = json.dumps({"resultUrls": [f"https://files.example.com/{remote_id}.mp4"]})
    data = {"taskId": remote_id, "state": "success", "resultJson": result, "failCode": None, "failMsg": None}
    return json.dumps({"code": 200, "msg": "success", "data": data}).encode()


@dataclass
class _Line:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    quiet: Stopwatch


@dataclass
class Caller:
    """Posts over kept connections, and remembers every answer."""

    port: int
    connections: int = 16
    answers: list[Answer] = field(default_factory=list)
    _lines: list[_Line] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._gate = asyncio.Semaphore(self.connections)

    @property
    def told(self) -> set[str]:
        """The tasks whose callback was answered 200."""
        return {answer.callback.task_id for answer in self.answers if answer.status == 200}

    @property
    def worst(self) -> Duration:
        """The longest that anybody waited for an answer."""
        return longest(answer.took for answer in self.answers)

    async def post(self, callback: Callback) -> Answer:
        """Deliver one callback once."""
        head = f"POST {callback.path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(callback.body)}\r\n\r\n"
        async with self._gate:  # whoever waits here waits for us, not for the service
            watch = Stopwatch()
            status, headers, _ = await self._exchange(head.encode() + callback.body)
            answer = Answer(callback, status, headers.get("retry-after"), watch.read())
        self.answers.append(answer)
        return answer

    async def get(self, path: str) -> tuple[int | None, str]:
        """Ask for something that needs no token."""
        status, _, body = await self.ask(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        return status, body.decode()

    async def at_rate(self, callbacks: Iterable[Callback], rate: float) -> None:
        """Begin so many deliveries a second, whether or not earlier ones were answered, and await all answers."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            for number, callback in enumerate(callbacks):
                await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
                group.create_task(self.post(callback))

    async def until_stored(self, callbacks: Sequence[Callback], seconds: float = 10 * HANG, pause: float = 0.2) -> None:
        """Deliver again what was not answered 200, as providers do, until all of it is."""
        async with asyncio.timeout(seconds):
            while left := [callback for callback in callbacks if callback.task_id not in self.told]:
                await asyncio.gather(*(self.post(callback) for callback in left))
                await asyncio.sleep(pause)

    async def ask(self, request: bytes) -> tuple[int | None, dict[str, str], bytes]:
        """Send a request; no status where the service is away or hangs up."""
        async with self._gate:
            return await self._exchange(request)

    async def _exchange(self, request: bytes) -> tuple[int | None, dict[str, str], bytes]:
        line = None
        try:
            line = await self._line()
            line.writer.write(request)
            head = (await line.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = (text.partition(":") for text in head[1:] if text)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            body = await line.reader.readexactly(int(headers.get("content-length", 0)))
        except (OSError, asyncio.IncompleteReadError):
            if line is not None:
                line.writer.close()
            return None, {}, b""
        if headers.get("connection") == "close":
            line.writer.close()
        else:
            line.quiet = Stopwatch()
            self._lines.append(line)
        return int(head[0].split()[1]), headers, body

    async def _line(self) -> _Line:
        while self._lines:
            line = self._lines.pop()
            if not line.quiet.read().at_least(KEPT_SECONDS) and not line.reader.at_eof():
                return line
            line.writer.close()
        return _Line(*await asyncio.open_connection("127.0.0.1", self.port), Stopwatch())

    def close(self) -> None:
        for line in self._lines:
            line.writer.close()


@contextlib.asynccontextmanager
async def calling(home: Home, connections: int = 16) -> AsyncIterator[Caller]:
    """Call a running service."""
    caller = Caller(int(home.settings["PORT"]), connections)
    try:
        yield caller
    finally:
        caller.close()


@dataclass
class Pulse:
    """How long the service took to say that it is alive, over and over."""

    beats: list[Duration] = field(default_factory=list)

    @property
    def worst(self) -> Duration:
        return longest(self.beats)


@contextlib.contextmanager
def pulse(home: Home) -> Iterator[Pulse]:
    """Ask /healthz again and again; each answer must be 200. It has a thread of its own, since our loop may be late."""
    felt, stop = Pulse(), threading.Event()

    def feel() -> None:
        line = http.client.HTTPConnection("127.0.0.1", int(home.settings["PORT"]), timeout=HANG)
        with contextlib.closing(line):
            while not stop.wait(0.05):
                watch = Stopwatch()
                line.request("GET", "/healthz")
                answer = line.getresponse()
                answer.read()
                felt.beats.append(watch.read())
                assert answer.status == 200

    with ThreadPoolExecutor(1) as thread:
        feeling = thread.submit(feel)
        try:
            yield felt
        finally:
            stop.set()
    feeling.result()


def assert_kept(file: Path, caller: Caller, callbacks: Iterable[Callback] = ()) -> None:
    """Every callback that was answered 200 is in the database, and these are; the database is sound."""
    assert look(file, "PRAGMA integrity_check") == [("ok",)]
    assert look(file, "PRAGMA foreign_key_check") == []
    stored = {row[0] for row in look(file, DELIVERED)}
    counted = {row[0] for row in look(file, "SELECT id FROM task WHERE state = 'succeeded' AND deliveries > 0")}
    wanted = caller.told | {callback.task_id for callback in callbacks}
    assert wanted <= stored, f"{len(wanted - stored)} answered 200 and not stored"
    assert wanted <= counted, f"{len(wanted - counted)} stored and not counted"


def assert_honest(torture: Torture, caller: Caller, felt: Pulse) -> None:
    """Everybody was answered in time: that it is stored, or when to come again; and it was alive all the time."""
    assert {answer.status for answer in caller.answers} <= {200, 503}
    torture.within(caller.worst, TIGHTEST)
    torture.within(felt.worst, ALIVE)
    assert all(int(answer.retry_after or 0) > 0 for answer in caller.answers if answer.status == 503)


def shape(answers: Iterable[Answer]) -> dict[str, Any]:
    """Count answers by their status."""
    counted: dict[str, Any] = {}
    for answer in answers:
        name = f"answered_{answer.status or 'not'}"
        counted[name] = counted.get(name, 0) + 1
    return counted
