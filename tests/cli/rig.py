"""Runs `receiver` commands in a directory of their own, alone or beside a running service."""

import contextlib
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest

from receiver.cli import main
from tests.measuring import FRESH, HANG, Duration, Stopwatch, wait_for

QUICK = {
    "RECEIVER_POLL_AFTER": "0.3",
    "RECEIVER_CALLBACK_GRACE": "1.5",
    "RECEIVER_POLL_EVERY": "0.3",
    "RECEIVER_POLL_MAX": "1",
    "RECEIVER_TIMEOUT": "10",
}
"""Short times, so that a lost callback is found out within two seconds."""
OURS = re.compile(r"RECEIVER_.*|.*_API_KEY|DATABASE_URL|HOST|PORT|COLUMNS|FORCE_COLOR|PYTEST_.*")


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def task_id(self) -> str:
        """The id that a command which makes one task begins its only line with."""
        (line,) = self.out.splitlines()
        return line.split("\t")[0]


@dataclass
class Home:
    """One installation: a working directory with a data directory, and the settings of its environment."""

    directory: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def database(self) -> Path:
        return self.data / "sandbox.db"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings['PORT']}"

    def environ(self, **changes: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not OURS.fullmatch(name)}
        return {**kept, "RECEIVER_DATA_DIR": str(self.data), **self.settings, **changes}

    def start(self, *words: str, **changes: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "receiver", *words],
            cwd=self.directory,
            env=self.environ(**changes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )

    def run(self, *words: str, **changes: str) -> Ran:
        process = self.start(*words, **changes)
        out, err = process.communicate(timeout=HANG)
        assert "Traceback" not in err, err
        return Ran(process.returncode, out, err)

    def run_all(self, commands: Sequence[Sequence[str]], **changes: str) -> list[Ran]:
        """Run several commands at once."""
        with ThreadPoolExecutor(len(commands)) as threads:
            return list(threads.map(lambda words: self.run(*words, **changes), commands))

    def call(self, *words: str, **changes: str) -> Ran:
        """Run a command in this process: for what it does and says, not for how a process begins and ends."""
        with contextlib.ExitStack() as stack:
            out, err = stack.enter_context(_pipe("strict")), stack.enter_context(_pipe("backslashreplace"))
            nothing = stack.enter_context(Path(os.devnull).open())
            stack.enter_context(mock.patch.dict(os.environ, self.environ(**changes), clear=True))
            stack.enter_context(mock.patch.multiple(sys, argv=["receiver", *words], stdin=nothing))
            stack.enter_context(mock.patch.object(logging.root, "handlers", []))  # those of pytest are kept out of it
            stack.enter_context(contextlib.chdir(self.directory))
            stack.enter_context(contextlib.redirect_stdout(out))
            stack.enter_context(contextlib.redirect_stderr(err))
            with pytest.raises(SystemExit) as ended:
                main()
            return Ran(int(ended.value.code or 0), _written(out), _written(err))

    def call_all(self, commands: Sequence[Sequence[str]], **changes: str) -> list[Ran]:
        """Run several commands in this process, one after the other."""
        return [self.call(*words, **changes) for words in commands]

    def token(self) -> str:
        return (self.data / "api_tokens").read_text().strip()

    def client(self) -> httpx.Client:
        """A client that may use the running service's API."""
        headers = {"Authorization": f"Bearer {self.token()}"}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=HANG, limits=FRESH)


def _pipe(errors: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors)


def _written(pipe: io.TextIOWrapper) -> str:
    pipe.flush()
    pipe.seek(0)
    return pipe.read()


@dataclass
class Served:
    """A running `receiver serve`."""

    home: Home
    process: "subprocess.Popen[str]"
    log: Path

    def told(self) -> str:
        """Everything it has written so far."""
        return self.log.read_text(errors="replace")

    def memory(self) -> int:
        """The memory that it keeps to itself or shares, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, Duration]:
        """Send a signal; give the exit code and how long it took."""
        watch = Stopwatch()
        self.process.send_signal(number)
        code = self.process.wait(HANG)
        return code, watch.read()


@contextlib.contextmanager
def serving(home: Home, *words: str, **changes: str) -> Iterator[Served]:
    """Run the service on a free port, and its home's commands with it."""
    handle, name = tempfile.mkstemp(dir=home.directory, prefix="serve", suffix=".log")
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "receiver", "serve", *words],
        cwd=home.directory,
        env=home.environ(**{"PORT": "0"} | changes),
        stdin=subprocess.DEVNULL,
        stdout=handle,
        stderr=handle,
        text=True,
    )
    os.close(handle)
    served = Served(home, process, Path(name))
    try:
        home.settings["PORT"] = wait_for(lambda: bound_port(served))
        yield served
    finally:
        process.kill()
        process.wait()


def bound_port(served: Served) -> str | None:
    """The port in the line that says that it serves; it must not have ended before."""
    found = re.search(r"Serving on http://\S*:(\d+)", served.told())
    assert found or served.process.poll() is None, served.told()
    return found[1] if found else None
