"""Durable callbacks a second on one core: our service beside the handler that people write by hand, in one run.

`scripts/bench` runs it. Each server has one core to itself and `wrk` the other; each callback is the first news of its
task, and each answer is given after its commit is on disk. Ratios count: the machine is whatever it is.
"""

import argparse
import asyncio
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.bench.filling import fill

HERE = Path(__file__).parent
BODY = (HERE / "callback.json").read_text()
CONNECTIONS = 64


@dataclass(frozen=True)
class Result:
    """What wrk measured: requests a second, failures, milliseconds at the median and the 99th percentile."""

    rate: float
    failed: int
    p50: float
    p99: float


def main() -> None:
    """Measure both, alternately, and print a table with the ratio of the medians."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=int, default=6)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--at-least", type=float, default=0.0, help="exit 1 below this ratio")
    chosen = options.parse_args()
    ours, theirs = [], []
    for _ in range(chosen.rounds):
        theirs.append(handwritten(chosen.seconds))
        ours.append(receiver(chosen.seconds))
    ratio = statistics.median(r.rate for r in ours) / statistics.median(r.rate for r in theirs)
    print(f"{'':24}{'callbacks/s':>12}{'p50 ms':>10}{'p99 ms':>10}{'failed':>8}")
    for name, results in (("by hand (FastAPI)", theirs), ("receiver", ours)):
        for result in results:
            print(f"{name:24}{result.rate:12.0f}{result.p50:10.1f}{result.p99:10.1f}{result.failed:8}")
    print(f"ratio of the medians: {ratio:.1f}")
    if ratio < chosen.at_least or any(result.failed for result in ours):
        sys.exit(1)


def receiver(seconds: int) -> Result:
    """Measure our service, as `receiver serve` runs it."""
    with tempfile.TemporaryDirectory() as directory:
        environ = {
            "RECEIVER_DATA_DIR": directory,
            "RECEIVER_PUBLIC_URL": "http://127.0.0.1:8000",
            "REVID_API_KEY": "bench",
            "REVID_BASE_URL": "http://127.0.0.1:9",
            "RECEIVER_POLLER": "off",
            "PORT": "0",
        }
        lines = [f"{task.path} {task.remote_id}" for task in asyncio.run(fill(environ, seconds * 7000))]
        command = [sys.executable, "-m", "receiver", "serve"]
        with _serving(command, environ, r"Serving on (\S+)") as url:
            return _wrk(url, lines, seconds, Path(directory))


def handwritten(seconds: int) -> Result:
    """Measure the handler written by hand, under a plain uvicorn."""
    with tempfile.TemporaryDirectory() as directory:
        environ = {"HANDWRITTEN_DATABASE": f"sqlite:///{directory}/jobs.db"}
        number = seconds * 2000
        fill = [sys.executable, "-m", "tests.bench.handwritten", str(number)]
        subprocess.run(fill, check=True, env={**os.environ, **environ})  # noqa: S603
        lines = [f"/callback remote{position}" for position in range(number)]
        command = [sys.executable, "-m", "uvicorn", "tests.bench.handwritten:app", "--port", "0", "--no-access-log"]
        with _serving(command, environ, r"running on (\S+)") as url:
            return _wrk(url, lines, seconds, Path(directory))


@contextmanager
def _serving(command: list[str], environ: dict[str, str], pattern: str) -> Iterator[str]:
    """Run a server on the first core until the measurement is over; gives its URL."""
    pinned = ["taskset", "-c", "0", *command]
    process = subprocess.Popen(pinned, env={**os.environ, **environ}, stderr=subprocess.PIPE, text=True)  # noqa: S603
    try:
        yield _await_url(process, pattern)
    finally:
        process.terminate()
        process.wait(20)


def _await_url(process: "subprocess.Popen[str]", pattern: str) -> str:
    if process.stderr is None:
        raise AssertionError("standard error is a pipe")
    for line in process.stderr:
        if found := re.search(pattern, line):
            break
    else:
        raise RuntimeError("the server did not start")
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            httpx.get(found[1], timeout=1, trust_env=False)
        except httpx.HTTPError:
            continue
        return found[1]
    raise RuntimeError("the server does not answer")


def _wrk(url: str, lines: list[str], seconds: int, directory: Path) -> Result:
    listed = directory / "list"
    listed.write_text("\n".join(lines))
    template = directory / "body"
    template.write_text(BODY)
    load = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(HERE / "callbacks.lua"), url]
    command = ["taskset", "-c", "1", *load, "--", str(listed), str(template)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    if found is None:
        raise RuntimeError(output)
    requests, microseconds, failed, p50, p99 = map(int, found.groups())
    return Result(requests / (microseconds / 1e6), failed, p50 / 1000, p99 / 1000)


if __name__ == "__main__":
    main()
