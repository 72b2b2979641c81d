"""A database that says nothing: a PostgreSQL behind a proxy that stops passing anything on, a disk whose syncs stall.

Every caller is told in time to come again, the service stops in time, and what was stored all the same is known when it
is sent again.
"""

import asyncio
import json
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine, make_url, text

from receiver.config.addresses import check_database_url
from tests.behaviour.families import REVID
from tests.cli.rig import Home, serving
from tests.measuring import FRESH, HANG, longest, until
from tests.store.rig import look
from tests.system import postgres
from tests.system.processes import free_port, provider, service
from tests.system.silence import Proxy, proxy
from tests.torture.callbacks import DELIVERED, TIGHTEST, Callback, Caller, calling, home_with_tasks, pulse, shape
from tests.torture.driver import TOKEN, Driver
from tests.torture.harness import Torture

pytestmark = [pytest.mark.anyio, pytest.mark.row("A14")]

COMPILER = shutil.which("cc")
STOP_SECONDS = 10.0


class Trouble(ABC):
    """A database that can fall silent, and the settings of a service that has it."""

    @property
    @abstractmethod
    def settings(self) -> dict[str, str]: ...

    @abstractmethod
    def fall_silent(self) -> None: ...

    @abstractmethod
    def speak(self) -> None: ...

    @abstractmethod
    def delivered(self, home: Home) -> set[str]:
        """The tasks whose callback is stored."""


@dataclass
class SilentPostgreSQL(Trouble):
    """A PostgreSQL behind a proxy."""

    direct: str
    proxy: Proxy

    @property
    def settings(self) -> dict[str, str]:
        url = make_url(check_database_url(self.direct)).set(port=self.proxy.port)
        return {"RECEIVER_DATABASE_URL": url.render_as_string(hide_password=False)}

    def fall_silent(self) -> None:
        self.proxy.fall_silent()

    def speak(self) -> None:
        self.proxy.speak()

    def delivered(self, home: Home) -> set[str]:  # noqa: ARG002 - it is not in the home
        engine = create_engine(check_database_url(self.direct))
        with engine.connect() as connection:
            found = {str(task_id) for task_id in connection.scalars(text(DELIVERED))}
        engine.dispose()
        return found


@dataclass
class StalledDisk(Trouble):
    """A disk under an SQLite database that goes on taking writes and does not come back from a sync."""

    directory: Path

    def begin(self) -> None:
        source = Path(__file__).with_name("stall.c")
        command = [COMPILER or "", "-shared", "-fPIC", "-O1", "-o", str(self._library), str(source)]
        subprocess.run(command, check=True)  # noqa: S603 - the compiler that is installed
        self._switch.write_bytes(b"\0")

    @property
    def settings(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "DISK_STALLED": str(self._switch)}

    def fall_silent(self) -> None:
        self._write(b"\1")

    def speak(self) -> None:
        self._write(b"\0")

    def delivered(self, home: Home) -> set[str]:
        return {str(row[0]) for row in look(home.data / "receiver.db", DELIVERED)}

    def _write(self, word: bytes) -> None:
        with self._switch.open("r+b") as file:
            file.write(word)  # at once, since it is mapped into the process

    @property
    def _library(self) -> Path:
        return self.directory / "stall.so"

    @property
    def _switch(self) -> Path:
        return self.directory / "stalled"


@contextmanager
def silent_postgresql(_directory: Path) -> Iterator[Trouble]:
    if postgres.binaries() is None:
        pytest.skip("SKIPPED, NOT TESTED: PostgreSQL is not installed")
    with postgres.server() as url, proxy(make_url(check_database_url(url)).port or 5432) as made:
        yield SilentPostgreSQL(url, made)


@contextmanager
def stalled_disk(directory: Path) -> Iterator[Trouble]:
    if COMPILER is None or sys.platform != "linux":
        pytest.skip("SKIPPED, NOT TESTED: no C compiler for Linux")
    disk = StalledDisk(directory)
    disk.begin()
    yield disk


@pytest.fixture(params=[silent_postgresql, stalled_disk])
def trouble(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trouble]:
    with ExitStack() as stack:
        yield stack.enter_context(request.param(tmp_path))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_silent_database_is_told_in_time_and_what_it_stored_all_the_same_is_known(
    torture: Torture, tmp_path: Path, trouble: Trouble
) -> None:
    """The callbacks keep coming; while it is silent nobody is told 200, and afterwards everything is stored once."""
    seconds, number = torture.size(8, 45), torture.size(160, 2_000)
    database = {name: value for name, value in trouble.settings.items() if name.startswith("RECEIVER_")}
    home, waiting = await asyncio.to_thread(home_with_tasks, tmp_path, number, **database)
    with serving(home, **trouble.settings), pulse(home) as felt:
        async with calling(home, number) as caller, asyncio.timeout(seconds + 3 * HANG):
            await caller.at_rate(waiting[:20], 100)
            assert len(caller.told) == 20
            loading = asyncio.create_task(caller.at_rate(waiting[20:], (number - 20) / seconds))
            await caller_is_busy(caller, 30)
            trouble.fall_silent()
            told, began = set(caller.told), len(caller.answers)
            (ready, _), (read, _) = await asyncio.gather(caller.get("/readyz"), asked(caller, home.token()))
            await loading
            refused = caller.answers[began:]
            during = {answer.callback.task_id for answer in refused if answer.status == 200}
            trouble.speak()
            await until_ready(caller)
            known = trouble.delivered(home) - caller.told
            outcomes = [await outcome_of(caller, one) for one in waiting if one.task_id in known]
            await caller.until_stored(waiting, HANG)
    assert ready == 503
    assert read in (200, 503), "a stalled sync holds up no reader"
    assert {answer.status for answer in caller.answers} <= {200, 503}
    assert all(int(answer.retry_after or 0) > 0 for answer in caller.answers if answer.status == 503)
    assert len(during - told) <= 256, "only what was answered while it fell silent"
    assert trouble.delivered(home) == {callback.task_id for callback in waiting}
    refusal = longest(answer.took for answer in caller.answers if answer.status == 503)
    torture.within(refusal, TIGHTEST)
    assert set(outcomes) <= {"repeated"}, "what was stored after its 503 is known when it comes again"
    torture.figures(silent_s=seconds, longest_refusal_s=refusal, worst_healthz_s=felt.worst, **shape(caller.answers))
    torture.figures(stored_after_503=len(outcomes))


async def caller_is_busy(caller: Caller, answers: int) -> None:
    await until(lambda: len(caller.answers) >= answers)


async def asked(caller: Caller, token: str) -> tuple[int | None, bytes]:
    """Ask for the list of tasks."""
    request = f"GET /api/tasks HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"
    status, _, body = await caller.ask(request.encode())
    return status, body


async def until_ready(caller: Caller) -> None:
    while (await caller.get("/readyz"))[0] != 200:  # noqa: ASYNC110 - another process gets ready
        await asyncio.sleep(0.05)


async def outcome_of(caller: Caller, callback: Callback) -> str:
    """Deliver a callback; gives what was made of it."""
    head = f"POST {callback.path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(callback.body)}\r\n\r\n"
    status, _, body = await caller.ask(head.encode() + callback.body)
    assert status == 200, body
    return str(json.loads(body)["outcome"])


async def test_a_stop_ends_in_time_while_a_database_is_silent(
    torture: Torture, tmp_path: Path, trouble: Trouble
) -> None:
    """With callbacks that wait for it, and readers; the next start finds everything as it was told."""
    number = torture.size(60, 600)
    database = {name: value for name, value in trouble.settings.items() if name.startswith("RECEIVER_")}
    home, waiting = await asyncio.to_thread(home_with_tasks, tmp_path, number, **database)
    with serving(home, **trouble.settings) as served:
        async with calling(home, number) as caller, asyncio.timeout(3 * HANG):
            await caller.at_rate(waiting[:20], 100)
            trouble.fall_silent()
            sending = [asyncio.create_task(caller.post(callback)) for callback in waiting[20:]]
            reading = [asyncio.create_task(asked(caller, home.token())) for _ in range(10)]
            await asyncio.sleep(0.5)  # so that some are in the middle of it; any other moment must do as well
            code, took = await asyncio.to_thread(served.stop)
            await asyncio.gather(*sending, *reading)
        log = served.told()
    assert code == 0, log
    assert "Traceback" not in log, log
    assert "stop_takes_too_long" not in log, log
    assert {answer.status for answer in caller.answers[20:]} <= {503, None}
    trouble.speak()
    with serving(home, **trouble.settings):
        async with calling(home, number) as again:
            await again.until_stored(waiting, HANG)
    assert trouble.delivered(home) == {callback.task_id for callback in waiting}
    torture.within(took, STOP_SECONDS)
    torture.figures(stop_s=took)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Trouble]:
    with stalled_disk(tmp_path) as made:
        yield made


async def test_an_order_whose_commit_stalls_is_not_bought_beside_the_one_that_its_caller_sends_instead(
    torture: Torture, tmp_path: Path, disk: Trouble
) -> None:
    """Without a key nobody can tell that it is the same; what was stored after its 503 must not be sent."""
    number = torture.size(12, 200)
    port, provider_port = free_port(), free_port()
    selling, selling_to = provider(tmp_path, provider_port), service(tmp_path, port, provider_port, **disk.settings)
    selling.start()
    selling_to.start()
    try:
        async with Driver(f"http://127.0.0.1:{port}", tmp_path / "acked.log") as driving, asyncio.timeout(3 * HANG):
            url = f"http://127.0.0.1:{port}/api/tasks"
            headers = {"Authorization": f"Bearer {TOKEN}"}
            async with httpx.AsyncClient(headers=headers, timeout=HANG, limits=FRESH, trust_env=False) as client:
                disk.fall_silent()
                orders = [REVID.order(f"order {number}") for number in range(number)]
                refused = await asyncio.gather(*(client.post(url, json=order) for order in orders))
                disk.speak()
                assert {answer.status_code for answer in refused} == {503}
                while (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code != 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                again = await asyncio.gather(*(client.post(url, json=order) for order in orders))
                assert {answer.status_code for answer in again} == {201}
                await driving.all_settled(HANG)
                listed = (await client.get(url, params={"limit": 200, "state": "cancelled"})).json()["tasks"]
                ledger = (await client.get(f"http://127.0.0.1:{provider_port}/ledger")).json()["purchases"]
        assert selling_to.stop() == 0
    finally:
        selling_to.kill()
        selling.kill()
    bought = Counter(purchase["prompt"] for purchase in ledger)
    assert bought == Counter(str(order["input"]["prompt"]) for order in orders)
    assert listed, "at least the first one was in its commit when the disk stalled"
    torture.figures(orders=number, stored_after_503_and_withdrawn=len(listed), bought_twice=0)
