"""Starts and kills the real processes: `receiver serve` and `receiver sandbox`."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.measuring import HANG, slowness, wait_for

ENDS = frozenset({"succeeded", "failed", "cancelled", "expired"})
TIMES = ("RECEIVER_TIMEOUT", "RECEIVER_DEADLINE", "RECEIVER_CALLBACK_GRACE", "RECEIVER_POLL_AFTER")
"""What a service may take for something, or wait with something: on a slow machine all of it takes longer."""


def free_port() -> int:
    """Find a port that nobody listens on, for a server that has to come back to it."""
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        port: int = probing.getsockname()[1]
        return port


@dataclass
class Process:
    """One `receiver` command that serves, with its standard error in a file."""

    arguments: list[str]
    environ: Mapping[str, str]
    log: Path
    ready: str
    """The pattern on standard error that says that it serves."""
    within: tuple[str, ...] = ()
    """A command that runs it, such as one that gives it a world of its own."""
    running: "subprocess.Popen[str] | None" = field(default=None)

    _told: int = 0
    """How much its log said before this start."""

    def start(self) -> None:
        """Start it, and return when it serves."""
        self.spawn()
        self.await_ready()

    def spawn(self) -> None:
        """Start it, in a process group of its own, and do not wait."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("RECEIVER_", "HOST"))}
        with self.log.open("a") as log:
            self._told = self.log.stat().st_size
            self.running = subprocess.Popen(  # noqa: S603 - our own command
                [*self.within, sys.executable, "-m", "receiver", *self.arguments],
                env={**environ, **self.environ},
                cwd=self.log.parent,
                stdout=subprocess.DEVNULL,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The id of the process that runs, and of its group."""
        assert self.running is not None, "it does not run"
        return self.running.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process and whatever it started."""
        os.killpg(self.pid, number)

    def kill(self) -> None:
        """Kill it with -9: nothing gets a chance to tidy up."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to stop; returns its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self.running is None:
            return 0
        if self.running.poll() is None:
            self.send(number)
        return self.ended()

    def ended(self) -> int:
        """Wait for its end; returns its exit code."""
        assert self.running is not None, "it does not run"
        code = self.running.wait(HANG)
        self.running = None
        return code

    def await_ready(self) -> None:
        """Wait until it serves."""

        def is_ready() -> bool:
            if re.search(self.ready, self.said()):
                return True
            assert self.running is not None, self.said()
            assert self.running.poll() is None, f"it did not start:\n{self.said()}"
            return False

        wait_for(is_ready)

    def said(self) -> str:
        """Everything that it has written since its last start."""
        with self.log.open("rb") as log:
            log.seek(self._told)
            return log.read().decode(errors="replace")


def provider(directory: Path, port: int) -> Process:
    """Make the simulated provider, whose ledger counts purchases."""
    return Process(
        ["sandbox", "--ledger", str(directory / "ledger.jsonl"), "--late-by", "4"],
        {"PORT": str(port), "RECEIVER_DATA_DIR": str(directory / "none")},
        directory / "provider.log",
        r"RIVYA_BASE_URL=",
    )


def service(directory: Path, port: int, provider_port: int, **settings: str) -> Process:
    """Make the service with an account at each family of the simulated provider, and short times.

    All of them are longer on a machine that is slow just now: what is in time on a quick one is in time there, too.
    """
    accounts = {f"{family}_API_KEY": f"a-key-for-{family}" for family in ("RIVYA", "APIXO", "REVID", "GATEWAY", "KIE")}
    places = {
        f"{family.upper()}_BASE_URL": f"http://127.0.0.1:{provider_port}/{family}"
        for family in ("rivya", "apixo", "revid", "gateway", "kie")
    }
    times = {
        "RECEIVER_TIMEOUT": "3",
        "RECEIVER_POLL_AFTER": "1",
        "RECEIVER_CALLBACK_GRACE": "3",
        "RECEIVER_POLL_EVERY": "1",
        "RECEIVER_POLL_MAX": "3",
        "RECEIVER_DEADLINE": "25",
    }
    own = {
        "PORT": str(port),
        "RECEIVER_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "RECEIVER_DATA_DIR": str(directory / "data"),
        "RECEIVER_API_TOKENS": "a-token-for-the-tests",
    }
    environ = {**accounts, **places, **times, **own, **settings}
    slower = slowness()
    environ |= {name: f"{float(environ[name]) * slower:.3f}" for name in TIMES}
    return Process(["serve"], environ, directory / "service.log", r"Serving on")


def settled(client: httpx.Client, task_id: str) -> Any:
    """Wait until a task has come to its end; returns it."""

    def ended() -> Any:
        task = client.get(f"/api/tasks/{task_id}", params={"wait": "20"}).json()
        return task if task["state"] in ENDS else None

    return wait_for(ended, 10 * HANG)
