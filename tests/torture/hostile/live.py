"""A live service beside a live simulated provider, with what an attacker, and who watches him, need to know of both."""

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from receiver.core.links import Links
from tests.measuring import FRESH, HANG, Duration, longest, quantile
from tests.system.processes import Process, free_port, provider, service
from tests.torture.harness import ROOT, Torture

TOKEN = "a-token-for-the-tests"
KEY = "the-secret-key-of-a-live-service"
MODELS = {
    "apixo": "sora-2",
    "revid": "sora-2-text-to-video",
    "gateway": "sora-2",
    "kie": "wan/2-7-text-to-video",
    "rivya": "sora-2",
}
CALLING_BACK = ("apixo", "revid", "gateway", "kie")
CALM = dict.fromkeys(
    ("RECEIVER_POLL_AFTER", "RECEIVER_CALLBACK_GRACE", "RECEIVER_POLL_EVERY", "RECEIVER_POLL_MAX"), "3600"
) | {"RECEIVER_DEADLINE": "86400"}
"""Nobody asks the provider but on a callback's word."""
MEGABYTE = 1024 * 1024
HEALTHY = 0.25
"""Seconds in which 99 of 100 questions after its health are answered (I10)."""


@dataclass(frozen=True)
class Target:
    """A task that is called back about: its id, what its provider calls it, and the path of its URL."""

    family: str
    task_id: str
    remote_id: str
    path: str


@dataclass
class Watched:
    """What was seen from outside while something went on."""

    latencies: list[Duration] = field(default_factory=list)
    failures: int = 0


@dataclass
class Live:
    """A running service."""

    process: Process
    port: int
    provider_port: int
    client: httpx.Client
    links: Links
    idle: int = 0
    """Its memory in bytes when it had done everything once and had nothing to do."""
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def pid(self) -> int:
        assert self.process.running is not None
        return self.process.running.pid

    def order(self, family: str, prompt: str = "x", **more: Any) -> httpx.Response:
        """Order a task, whose work does not end while a test lasts."""
        knobs = "[sandbox: after=3600 callback=drop]"
        order = {"provider": family, "model": MODELS[family], "input": {"prompt": f"{prompt} {knobs}"}, **more}
        return self.client.post("/api/tasks", content=json.dumps(order))

    def target(self, family: str) -> Target:
        """Follow a task bought elsewhere: its callback URL is made as for any other."""
        remote_id = f"bought-elsewhere-{next(self._numbers)}"
        body = {"provider": family, "model": MODELS[family], "remote_id": remote_id}
        answer = self.client.post("/api/tasks", json=body)
        assert answer.status_code == 201, answer.text
        return self.aim(family, answer.json()["id"], remote_id)

    def aim(self, family: str, task_id: str, remote_id: str) -> Target:
        """Give the target that a task is."""
        url = self.links.account_url(family) if family == "rivya" else self.links.callback_url(family, task_id)
        assert url is not None
        return Target(family, task_id, remote_id, httpx.URL(url).path)

    def task(self, task_id: str) -> dict[str, Any]:
        answer = self.client.get(f"/api/tasks/{task_id}")
        assert answer.status_code == 200, answer.text
        task: dict[str, Any] = answer.json()
        return task

    def deliveries(self, task_id: str) -> list[dict[str, Any]]:
        """What was stored of the callbacks to a task."""
        answer = self.client.get(f"/api/tasks/{task_id}/history")
        assert answer.status_code == 200, answer.text
        return [event for event in answer.json()["events"] if event["kind"] == "delivery"]

    def deliver(self, path: str, body: bytes, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(path, content=body, headers={"Authorization": "", **named})

    def memory(self) -> int:
        """The memory that it has now, in bytes."""
        return self._status("VmRSS")

    def most_memory(self) -> int:
        """The most memory that it ever had since `forget_memory`, in bytes."""
        return self._status("VmHWM")

    def forget_memory(self) -> None:
        """Let the most memory be what it is now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def cpu(self) -> float:
        """The seconds that all its threads have computed: no thread can have kept another waiting for longer."""
        return sum(map(_computed, Path(f"/proc/{self.pid}/task").iterdir())) / 1e9

    def loop_cpu(self) -> float:
        """The seconds that its event loop's thread has computed."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/schedstat").read_text().split()[0]) / 1e9

    def log(self) -> str:
        return self.process.log.read_text(errors="replace")

    @contextlib.contextmanager
    def watched(self) -> Iterator[Watched]:
        """Ask it how it is, from another process, as long as this lasts; tells what came of it at the end."""
        words = [sys.executable, "-m", "tests.torture.hostile.probe", str(self.port)]
        pipe = subprocess.PIPE
        found = Watched()
        with subprocess.Popen(words, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as probe:  # noqa: S603 - our own
            try:
                assert probe.stdout is not None
                assert probe.stdout.readline() == "ready\n"
                yield found
            finally:
                out, _ = probe.communicate(timeout=HANG)
        seen = json.loads(out)
        found.latencies, found.failures = [Duration(each) for each in seen["latencies"]], seen["failures"]

    def _status(self, name: str) -> int:
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(rf"{name}:\s+(\d+) kB", text)[0]) * 1024


@contextlib.contextmanager
def live(directory: Path, **settings: str) -> Iterator[Live]:
    """Run a service and a provider; what it logs must not tell of a fault in the end."""
    port, provider_port = free_port(), free_port()
    selling = provider(directory, provider_port)
    given = CALM | {"RECEIVER_SECRET_KEYS": KEY} | settings
    serving = service(directory, port, provider_port, **given)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with contextlib.ExitStack() as stack:
        for process in (selling, serving):
            stack.callback(process.kill)
            process.start()
        url = f"http://127.0.0.1:{port}"
        client = stack.enter_context(
            httpx.Client(base_url=url, headers=headers, timeout=HANG, limits=FRESH, trust_env=False)
        )
        made = Live(serving, port, provider_port, client, Links(given["RECEIVER_SECRET_KEYS"].split(","), url))
        yield made
        assert '"unexpected_error"' not in made.log(), made.log()[-3000:]
        assert "Traceback" not in made.log(), made.log()[-3000:]


@contextlib.contextmanager
def healthy(serving: Live, torture: Torture) -> Iterator[None]:
    """Whatever goes on meanwhile: somebody else who asks is answered in time (I10)."""
    with serving.watched() as watched:
        yield
    torture.figures(healthz_p99_s=quantile(watched.latencies, 0.99), healthz_max_s=longest(watched.latencies))
    torture.figures(megabytes_above_idle=(serving.most_memory() - serving.idle) / 1e6)
    assert watched.failures == 0
    torture.within(quantile(watched.latencies, 0.99), HEALTHY)


def _computed(thread: Path) -> int:
    """Return the nanoseconds that a thread has computed; none if it has ended meanwhile."""
    try:
        return int((thread / "schedstat").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return 0
