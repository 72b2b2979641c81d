"""`receiver serve` as a process: its start, its stop, slow and hostile connections, its log and its memory."""

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.core.links import Links
from receiver.serving.connections import HEAD_SECONDS
from receiver.store.engine import sqlite_module
from tests.cli.rig import QUICK, Home, Served, serving
from tests.measuring import HANG, Duration, Stopwatch, longest, wait_for
from tests.torture.harness import Torture

STOP_SECONDS = 10.0
IDLE_BYTES = 100_000_000
REVID = {"provider": "revid", "model": "sora-2-text-to-video"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service whose database is there already: who creates it keeps some megabytes of Alembic."""
    home = Home(tmp_path_factory.mktemp("served"), dict(QUICK))
    home.call("migrate")
    with serving(home) as served:
        yield served


@pytest.fixture(scope="module")
def idle_memory(served: Served) -> int:
    """The memory of the service before anybody asked it for anything but whether it is there."""
    with served.home.client() as client:
        assert client.get("/readyz").status_code == 200
    return served.memory()


def connect(served: Served, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", int(served.home.settings["PORT"])), timeout=HANG)
    connection.sendall(sent)
    return connection


@pytest.fixture(scope="module")
def slow(served: Served, idle_memory: int) -> Iterator["Slow"]:
    """Connections whose request heads do not come to an end, begun with the module and looked at by its last test."""
    with contextlib.closing(Slow(served)) as slow:
        yield slow


class Slow:
    """Senders that take their time, each noting when it was cut off."""

    def __init__(self, served: Served) -> None:
        kept = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
        half = b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Slow: "
        self.cut_after: dict[str, Duration] = {}
        self._watch = Stopwatch()
        self._stop = threading.Event()
        kinds = {"nothing": b"", "half a head": half, "a dripping head": half, "half a second head": kept + half}
        self._threads = [threading.Thread(target=self._send, args=(served, kind, raw)) for kind, raw in kinds.items()]
        for thread in self._threads:
            thread.start()

    def _send(self, served: Served, kind: str, raw: bytes) -> None:
        with connect(served, raw) as connection:
            connection.settimeout(0.5)
            while not self._stop.is_set():
                try:
                    if kind == "a dripping head":
                        connection.sendall(b"x")
                    if connection.recv(4096) == b"":
                        break
                except TimeoutError:
                    continue
                except OSError:
                    break
        self.cut_after[kind] = self._watch.read()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(HANG)

    def close(self) -> None:
        self._stop.set()
        self.join()


def test_it_idles_in_little_memory(idle_memory: int, slow: "Slow", stops: dict[str, Future["Stopped"]]) -> None:
    assert idle_memory < IDLE_BYTES, f"{idle_memory / 1e6:.0f} MB"


def test_it_says_where_it_serves_and_that_it_costs_nothing(served: Served) -> None:
    assert served.home.url in served.told()
    assert "sandbox" in served.told()


def test_a_port_in_use_ends_with_2_and_a_clear_line(served: Served, tmp_path: Path) -> None:
    ran = Home(tmp_path, {"PORT": served.home.settings["PORT"]}).run("serve")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("HOST, PORT: cannot listen on 127.0.0.1:")
    assert "in use" in ran.err
    assert "PORT=8001" in ran.err
    assert len(ran.err.splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_a_port_that_another_has_bound_and_not_yet_listens_on_is_in_use_too(tmp_path: Path) -> None:
    """Two services that start at once on one port: one serves, the other says why not."""
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        port = str(probing.getsockname()[1])
    homes = [Home(tmp_path / name, {"PORT": port}) for name in "ab"]
    for home in homes:
        home.directory.mkdir()
    processes = [home.start("serve") for home in homes]
    try:
        wait_for(lambda: any(process.poll() is not None for process in processes))
        ended = [process for process in processes if process.poll() is not None]
        assert [process.returncode for process in ended] == [2]
        assert "in use" in ended[0].communicate()[1]
        wait_for(lambda: answers(port))
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def answers(port: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=HANG, trust_env=False).status_code == 200
    return False


@pytest.mark.row("A9")
@pytest.mark.parametrize("trouble", ["garbage", "future", "directory"])
def test_a_database_it_cannot_use_ends_the_start_with_2_and_is_left_alone(
    torture: Torture, tmp_path: Path, trouble: str
) -> None:
    home = Home(tmp_path, {"PORT": "0"})
    home.data.mkdir(mode=0o700)
    if trouble == "directory":
        home.database.mkdir()
    elif trouble == "garbage":
        home.database.write_bytes(b"no database at all" * 300)
    else:
        assert home.run("migrate").code == 0
        connection = sqlite_module().connect(str(home.database))
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
        connection.close()
    before = home.database.read_bytes() if home.database.is_file() else None
    watch = Stopwatch()
    ran = home.run("serve")
    torture.within(watch.read(), 5)
    assert (ran.code, ran.out) == (2, "")
    assert str(home.database) in ran.err
    assert len(ran.err.splitlines()) == 1
    assert before == (home.database.read_bytes() if home.database.is_file() else None)


HOSTILE = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00" * 20 + b"\r\n\r\n",
    "a head without end": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 200_000,
    "two hosts": b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "a negative length": b"POST /api/tasks HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
}


@pytest.mark.row("D7")
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_broken_request_is_answered_and_closed(served: Served, kind: str) -> None:
    with connect(served, HOSTILE[kind]) as connection:
        answer = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(4096):
                answer += part
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:80]


def test_an_upgrade_that_is_not_offered_breaks_nothing(served: Served) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
    with connect(served, b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + upgrade + b"\r\n") as connection:
        assert connection.recv(4096).startswith((b"HTTP/1.1 200", b"HTTP/1.1 4"))


def links(home: Home) -> Links:
    return Links([(home.data / "secret_keys").read_text().strip()], home.url)


def test_the_log_names_no_token_of_a_callback_nor_of_the_api(served: Served) -> None:
    home = served.home
    with home.client() as client:
        prompt = "canary-prompt [sandbox: after=0.1 callback=forged]"
        task = client.post("/api/tasks", json={**REVID, "input": {"prompt": prompt}}).json()
        settled = client.get(f"/api/tasks/{task['id']}", params={"wait": 60}).json()
        assert settled["state"] == "succeeded"
        stored = client.get(f"/api/tasks/{task['id']}/history").text
        callback_token = (links(home).callback_url("revid", task["id"]) or "").rpartition("/")[2]
        assert client.post(f"/callbacks/revid/{callback_token}", content=b"{").status_code == 200
        client.post(f"/callbacks/revid/{callback_token}x", content=b"{}")
        client.get(f"/callbacks/revid/{callback_token}")
        client.get("/api/tasks", headers={"Authorization": f"Bearer {home.token()}wrong"})
        client.get("/api/tasks", params={"token": home.token()})
    signature = callback_token.rpartition(".")[2]
    assert signature not in stored
    log = wait_for(lambda: served.told() if task["id"] in served.told() else None)
    for secret in (signature, home.token(), (home.data / "secret_keys").read_text().strip(), "canary-prompt"):
        assert secret not in log
    assert "/callbacks/" not in log
    for line in log.splitlines():
        assert not line.startswith("{") or json.loads(line), "one thing, one line"


def test_an_answer_that_the_sandbox_cuts_on_purpose_is_no_error_in_the_log(served: Served) -> None:
    with served.home.client() as client:
        order = {**REVID, "input": {"prompt": "x [sandbox: submit=break callback=drop]"}}
        assert client.post("/api/tasks", json=order).json()["state"] == "unconfirmed"
    assert "ASGI callable" not in served.told()


@pytest.mark.row("D9")
def test_requests_are_answered_beside_hundreds_of_silent_connections(torture: Torture, served: Served) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(connect(served))
        with served.home.client() as client:
            for _ in range(10):
                watch = Stopwatch()
                assert client.get("/readyz").status_code == 200
                torture.within(watch.read(), 2)


# --- the stop


MUTE = {**REVID, "input": {"prompt": "x [sandbox: submit=mute callback=drop]"}}


class Busy:
    """A service in the middle of everything: a purchase without an answer, a slow body, a mute connection."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.ended: dict[str, object] = {}
        self._open = [connect(served), connect(served, b"GET / HT")]
        length = b"POST /api/tasks HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n"
        bearer = b"Authorization: Bearer " + served.home.token().encode() + b"\r\n\r\n{"
        self._open.append(connect(served, length + bearer))
        self._threads = [threading.Thread(target=self._ask, args=(name,)) for name in ("buy", "wait")]
        for thread in self._threads:
            thread.start()
        with served.home.client() as client:
            wait_for(lambda: client.get("/sandbox/ledger").json()["purchases"] or None)

    def _ask(self, name: str) -> None:
        with self.served.home.client() as client, contextlib.suppress(httpx.HTTPError):
            if name == "buy":
                self.ended[name] = client.post("/api/tasks", json=MUTE).status_code
            else:
                tasks = wait_for(lambda: client.get("/api/tasks").json()["tasks"] or None)
                self.ended[name] = client.get(f"/api/tasks/{tasks[0]['id']}", params={"wait": 25}).status_code

    def close(self) -> None:
        for connection in self._open:
            connection.close()
        for thread in self._threads:
            thread.join(HANG)


@dataclass(frozen=True)
class Stopped:
    """How a busy service ended, and how its only task stood after the next start."""

    code: int
    took: Duration
    log: str
    task: dict[str, Any]
    purchases: int


def stop_while_busy(directory: Path, number: signal.Signals, *, locked: bool) -> Stopped:
    directory.mkdir()
    home = Home(directory, QUICK | {"RECEIVER_TIMEOUT": "25"})
    with serving(home) as served:
        with contextlib.closing(Busy(served)), contextlib.closing(lock(home) if locked else contextlib.ExitStack()):
            code, took = served.stop(number)
        log = served.told()
    with serving(home), home.client() as client:
        assert client.get("/readyz").status_code == 200
        (task,) = client.get("/api/tasks").json()["tasks"]
        return Stopped(code, took, log, task, len(client.get("/sandbox/ledger").json()["purchases"]))


def lock(home: Home) -> Any:
    """Another connection that holds the write lock until it is closed."""
    connection = sqlite_module().connect(str(home.database), isolation_level=None, timeout=HANG)
    connection.execute("BEGIN IMMEDIATE")
    return connection


STOPS = {"SIGTERM": (signal.SIGTERM, False), "SIGINT": (signal.SIGINT, False), "locked": (signal.SIGTERM, True)}


@pytest.fixture(scope="module")
def stops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Stopped]]]:
    """Services that are stopped in the middle of everything, at the same time as the other tests: they mostly wait."""
    directory = tmp_path_factory.mktemp("stops")
    with ThreadPoolExecutor(len(STOPS)) as threads:
        yield {
            name: threads.submit(stop_while_busy, directory / name, number, locked=locked)
            for name, (number, locked) in STOPS.items()
        }


def test_a_second_run_says_where_the_demo_tasks_are(tmp_path: Path) -> None:
    home = Home(tmp_path, dict(QUICK))
    with serving(home, "--demo") as first:
        wait_for(lambda: first.told().count('"event": "attempt"') == 5 or None)
        assert "Submitting 5 demo tasks. Watch them at http://127.0.0.1:" in first.told()
        first.stop()
    with serving(home, "--demo") as second:
        wait_for(lambda: "The demo tasks of the first run are listed at http://127.0.0.1:" in second.told() or None)
        second.stop()
        assert "Submitting" not in second.told()


@pytest.mark.row("G2")
def test_an_idle_service_ends_at_once_and_closes_its_database(torture: Torture, tmp_path: Path) -> None:
    home = Home(tmp_path)
    with serving(home) as served:
        assert served.told().count("Serving on") == 1
        code, took = served.stop(signal.SIGINT)
        assert (code, "Traceback" in served.told()) == (0, False)
        torture.within(took, 2)
    assert sorted(path.name for path in home.data.glob("sandbox.db*")) == ["sandbox.db"]


@pytest.mark.row("G2")
@pytest.mark.parametrize("number", [signal.SIGTERM])
def test_a_signal_at_any_moment_of_the_start_ends_it(tmp_path: Path, number: signal.Signals) -> None:
    """Whether it is caught already or not: it ends, and without a traceback."""
    processes = []
    for moment in range(4):
        directory = tmp_path / str(moment)
        directory.mkdir()
        processes.append(Home(directory, {"PORT": "0"}).start("serve"))
    for moment, process in enumerate(processes):
        time.sleep(0.25 if moment else 0.6)  # a spread of moments, not a condition
        process.send_signal(number)
    for process in processes:
        _, err = process.communicate(timeout=HANG)
        assert process.returncode in (0, -number)
        assert "Traceback" not in err


def test_the_simulated_provider_alone_starts_and_ends_as_well(tmp_path: Path) -> None:
    process = Home(tmp_path, {"PORT": "0"}).start("sandbox")
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r"RIVYA_BASE_URL=http://127.0.0.1:(\d+)/rivya", line)
    assert found
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=HANG)
    assert (process.returncode, "Traceback" in err) == (0, False)


# --- the last: what was begun with the module


@pytest.mark.row("G2")
@pytest.mark.parametrize("how", STOPS)
def test_a_signal_ends_a_busy_service_in_time_and_nothing_is_forgotten(
    torture: Torture, stops: dict[str, Future[Stopped]], how: str
) -> None:
    """Also while another process locks its database."""
    stopped = stops[how].result()
    assert stopped.code == 0, stopped.log
    torture.within(stopped.took, STOP_SECONDS)
    assert "Traceback" not in stopped.log
    assert "background_work_failed" not in stopped.log
    # What a lock kept from being written down stays under its lease, and is resolved when that has run out.
    assert stopped.task["state"] in ("unconfirmed", "submitting" if how == "locked" else "unconfirmed")
    assert stopped.task["attempts"] == 1, "never sent again"
    assert stopped.purchases == 1


@pytest.mark.row("D8")
def test_slow_request_heads_are_cut_off(torture: Torture, slow: "Slow") -> None:
    slow.join()
    assert set(slow.cut_after) == {"nothing", "half a head", "a dripping head", "half a second head"}
    torture.within(longest(slow.cut_after.values()), HEAD_SECONDS + 2)
    assert slow.cut_after["nothing"].at_least(HEAD_SECONDS / 2), "an honest sender has time"


@pytest.mark.row("G2")
def test_nothing_of_all_this_broke_it(torture: Torture, served: Served, idle_memory: int) -> None:
    assert "Traceback" not in served.told()
    assert served.memory() < idle_memory + 40_000_000
    code, took = served.stop()
    assert code == 0
    torture.within(took, STOP_SECONDS)


def test_it_can_be_run_as_a_module_of_python() -> None:
    done = subprocess.run([sys.executable, "-m", "receiver", "--help"], check=True, capture_output=True, text=True)
    assert "serve" in done.stdout
