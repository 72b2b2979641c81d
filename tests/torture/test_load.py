"""Rows F6, G5 and G6: many tasks, many callbacks, and for long; the service stays quick, complete and small."""

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from receiver.store.engine import sqlite_module
from tests.bench.filling import Waiting, fill
from tests.measuring import FRESH, HANG, Duration, Stopwatch, longest, median, quantile, until
from tests.system.processes import Process
from tests.torture.callbacks import Callback, Caller
from tests.torture.harness import Torture

pytestmark = pytest.mark.anyio

TOKEN = "a-token-for-the-tests"
BODY = (Path(__file__).parents[1] / "bench" / "callback.json").read_text()
PAGES = ("/", "/?state=submitted", "/?q=boat", "/?q=nothing-has-this", "/providers")
COUNTS = ("/api/tasks?limit=200", "/api/stats", "/metrics")
PAGE_SECONDS, PAGE_BYTES = 0.3, 200_000
"""What a page may take at the 95th percentile, and how large it may be."""
OWN_SOCKETS = 4
"""Sockets of a service that nobody is connected to: one to listen, the rest within its event loop."""
ANSWER_SECONDS = 0.1
"""Within which a callback is answered under a steady stream, at the 99th percentile."""
GROWTH_AN_HOUR = 1_000_000.0
"""Bytes by which a service under steady load may grow in an hour, once it is warm."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass(frozen=True)
class Crowd:
    """A running service with many tasks that await their callbacks."""

    url: str
    database: Path
    pid: int
    waiting: Sequence[Waiting]
    environ: Mapping[str, str]
    """The settings of the service, for another one beside it."""

    def memory(self) -> int:
        """The service's memory in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024

    def handles(self) -> tuple[int, int]:
        """How many files and threads the service has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir())), len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def sockets(self) -> list[str]:
        """Which sockets the service has open."""
        opened = []
        for handle in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since it was listed
                opened.append(str(handle.readlink()))
        return [name for name in opened if name.startswith("socket:")]

    @contextmanager
    def caller(self, connections: int) -> Iterator[Caller]:
        """Deliver callbacks over so many connections."""
        caller = Caller(urlsplit(self.url).port or 0, connections)
        try:
            yield caller
        finally:
            caller.close()

    def callbacks(self) -> list[Callback]:
        """The good news of every task."""
        return [
            Callback(task.task_id, task.path, BODY.replace("REMOTE_ID", task.remote_id).encode())
            for task in self.waiting
        ]


@contextmanager
def crowded(directory: Path, number: int, *, prompt: str = "a paper boat") -> Iterator[Crowd]:
    """Run the service on so many tasks; its provider is not there, and need not be."""
    environ = {
        "RECEIVER_DATA_DIR": str(directory / "data"),
        "RECEIVER_PUBLIC_URL": "http://127.0.0.1:8000",
        "RECEIVER_API_TOKENS": TOKEN,
        "REVID_API_KEY": "a-key-for-revid",
        "REVID_BASE_URL": "http://127.0.0.1:9",
        "PORT": "0",
    }
    with ThreadPoolExecutor(1) as elsewhere:  # whoever asks may have an event loop of its own
        waiting = elsewhere.submit(asyncio.run, fill(environ, number, prompt=prompt)).result()
    log = directory / "service.log"
    process = Process(["serve"], environ, log, r"Serving on")
    process.start()
    assert process.running is not None
    try:
        url = re.findall(r"Serving on (\S+)", log.read_text())[0]
        yield Crowd(url, directory / "data" / "receiver.db", process.running.pid, waiting, environ)
    finally:
        process.kill()


def applied(database: Path) -> Counter[str]:
    """Count the tasks' states and what they counted of callbacks, as another process sees them."""
    connection = sqlite_module().connect(str(database))
    try:
        return Counter(dict(connection.execute("SELECT state, COUNT(*) FROM task WHERE deliveries = 1 GROUP BY state")))
    finally:
        connection.close()


@pytest.mark.row("F6")
def test_pages_stay_quick_and_small_with_very_many_tasks(torture: Torture, tmp_path: Path) -> None:
    number, each = torture.size(3_000, 100_000), torture.size(10, 40)
    with crowded(tmp_path, number, prompt="A paper boat in the rain. " * 10) as crowd:
        asked = [*PAGES, *COUNTS, f"/tasks/{crowd.waiting[number // 2].task_id}"]
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=crowd.url, headers=headers, trust_env=False, timeout=HANG, limits=FRESH) as client:
            entered = client.post("/login", data={"password": TOKEN}, headers={"Sec-Fetch-Site": "same-origin"})
            assert entered.status_code == 303, entered.text
            found = {path: [_timed(client, path) for _ in range(each)] for path in asked}
    slow = {path: quantile((took for took, _ in times), 0.95) for path, times in found.items()}
    pages = {path: took for path, took in slow.items() if path in PAGES or path.startswith("/tasks/")}
    large = {path: max(size for _, size in found[path]) for path in pages}
    torture.figures(
        tasks=number,
        page_p95_s=longest(pages.values()),
        page_kb=max(large.values()) // 1000,
        stats_p95_s=longest(slow.values()),
    )
    assert max(large.values()) <= PAGE_BYTES, large
    torture.within(longest(pages.values()), PAGE_SECONDS)


def _timed(client: httpx.Client, path: str) -> tuple[Duration, int]:
    watch = Stopwatch()
    answer = client.get(path)
    assert answer.status_code == 200, (path, answer.text[:200])
    return watch.read(), len(answer.content)


@pytest.mark.row("G6")
async def test_a_burst_of_callbacks_is_answered_and_all_of_it_is_stored(torture: Torture, tmp_path: Path) -> None:
    number = torture.size(500, 5_000)
    with crowded(tmp_path, number) as crowd:
        with crowd.caller(connections=200) as caller:
            watch = Stopwatch()
            await caller.until_stored(crowd.callbacks())
            took = watch.read()
        torture.figures(burst=number, seconds=took, sent_again=len(caller.answers) - number)
        assert {answer.status for answer in caller.answers} <= {200, 503}
        assert applied(crowd.database) == {"succeeded": number}


@pytest.mark.row("G6")
async def test_a_steady_stream_of_callbacks_is_answered_in_time(torture: Torture, tmp_path: Path) -> None:
    rate, seconds = torture.size(100, 500), torture.size(4, 60)
    number = rate * seconds
    with crowded(tmp_path, number) as crowd:
        with crowd.caller(connections=64) as caller:
            await caller.at_rate(crowd.callbacks(), rate)
        took = [answer.took for answer in caller.answers]
        torture.figures(a_second=rate, p50_s=median(took), p99_s=quantile(took, 0.99))
        assert {answer.status for answer in caller.answers} == {200}
        assert applied(crowd.database) == {"succeeded": number}
        torture.within(quantile(took, 0.99), ANSWER_SECONDS)


async def until_hung_up(crowd: Crowd) -> None:
    """Wait until the service has closed the connections of a client that is gone."""
    await until(lambda: len(crowd.sockets()) <= OWN_SOCKETS)


@pytest.mark.row("G5")
async def test_under_steady_load_nothing_grows(torture: Torture, tmp_path: Path) -> None:
    rate, rounds = 50, torture.size(4, 60)
    number = torture.size(100, 500)
    with crowded(tmp_path, number * rounds) as crowd:
        memory, handles = [], []
        callbacks = crowd.callbacks()
        for position in range(rounds):
            with crowd.caller(connections=16) as caller:
                part = callbacks[position * number : (position + 1) * number]
                await caller.at_rate(part, rate * torture.size(4, 1))
            assert {answer.status for answer in caller.answers} == {200}
            await until_hung_up(crowd)
            memory.append(crowd.memory())
            handles.append(crowd.handles())
        journal = crowd.database.with_name(f"{crowd.database.name}-wal").stat().st_size
    warm = rounds // 2
    files = [opened for opened, _ in handles[warm:]]
    threads = [running for _, running in handles[warm:]]
    growth = (memory[-1] - memory[warm]) / max(1, (rounds - 1 - warm) * number)
    torture.figures(callbacks=number * rounds, bytes_a_callback=growth, memory_mb=memory[-1] // 10**6)
    assert max(files) - min(files) <= 5, files
    assert max(threads) - min(threads) <= 5, threads
    assert journal <= 64 * 1024 * 1024
    assert memory[-1] <= 256 * 10**6
    if torture.full:
        assert growth * rate * 3600 < GROWTH_AN_HOUR, memory
