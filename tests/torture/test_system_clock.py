"""The real processes under a system clock that jumps: the same promises as under an injected one."""

import asyncio
import shutil
import struct
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.behaviour.families import FAMILIES
from tests.measuring import FRESH, HANG, Duration, Stopwatch
from tests.system.processes import Process, free_port, provider, service
from tests.torture.harness import Torture

COMPILER = shutil.which("cc")
HEADERS = {"Authorization": "Bearer a-token-for-the-tests"}
SHORTEST_GAP = 0.8
"""Seconds: RECEIVER_POLL_EVERY is 1, jittered."""
HOUR, DAY = 3600, 86_400
JUMPS = (HOUR, 0, -HOUR, 0, HOUR, -HOUR, 0, -30 * DAY, -50 * 365 * DAY, 0)
ORDERED_LONG_AGO = tuple(f"{number + 1} " for number, jump in enumerate(JUMPS) if jump < -4 * HOUR)
"""Beginnings of the prompts of orders whose deadline is over when the clock is right again."""
KNOBS = ("", "callback=drop", "callback=late", "submit=busy", "submit=break", "callback=twice", "callback=early")


@dataclass(frozen=True)
class SystemClock:
    """The system clock of one process: how far it is off stands in a file. Monotonic time stays true."""

    directory: Path

    def begin(self) -> None:
        self.jump(0)
        source = Path(__file__).with_name("set_back.c")
        command = [COMPILER or "", "-shared", "-fPIC", "-O1", "-o", str(self._library), str(source)]
        subprocess.run(command, check=True)  # noqa: S603 - the compiler that is installed

    def jump(self, seconds: int) -> None:
        with self._offset.open("r+b" if self._offset.exists() else "wb") as file:
            file.write(struct.pack("q", seconds))  # at once, since it is mapped into the process

    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "CLOCK_OFFSET": str(self._offset)}

    @property
    def _offset(self) -> Path:
        return self.directory / "offset"

    @property
    def _library(self) -> Path:
        return self.directory / "set_back.so"


@pytest.mark.row("G1")
@pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="SKIPPED, NOT TESTED: no C compiler for Linux")
def test_a_system_clock_that_jumps_loses_and_repeats_nothing(tmp_path: Path, torture: Torture) -> None:
    if not torture.full:
        pytest.skip("takes a minute: only at full size, scripts/torture G1")
    clock = SystemClock(tmp_path)
    clock.begin()
    port, provider_port = free_port(), free_port()
    selling = provider(tmp_path, provider_port)
    serving = _service(tmp_path, port, provider_port, clock)
    selling.start()
    serving.start()
    try:
        tasks, purchases, took = asyncio.run(_live(clock, port, provider_port))
        assert serving.stop() == 0
    finally:
        serving.kill()
        selling.kill()
    states = Counter(task["state"] for task in tasks)
    bought = Counter(purchases)
    torture.figures(jumps=len(JUMPS), tasks=len(tasks), most_checks=max(task["checks"] for task in tasks), **states)
    open_ends = [task for task in tasks if task["state"] != "succeeded" and not _nobody_can_know(task)]
    assert [(task["id"], task["provider"], task["input"], task["state"], task["error"]) for task in open_ends] == []
    assert max(bought.values()) == 1
    assert took.at_least(max(task["checks"] for task in tasks) * SHORTEST_GAP / 2)
    assert "Traceback" not in serving.log.read_text()


def _nobody_can_know(task: dict[str, Any]) -> bool:
    """Tell whether a task may have no end: the provider of its lost answer neither calls back nor, after so long, knows
    the key; or it was ordered so long ago, by a clock that is right again, that its deadline is over."""
    prompt: str = task["input"]["prompt"]
    return (task["provider"] == "rivya" and "submit=break" in prompt) or prompt.startswith(ORDERED_LONG_AGO)


def _service(directory: Path, port: int, provider_port: int, clock: SystemClock) -> Process:
    # Longer than the two hours between an hour behind and an hour ahead, which pass here within seconds.
    settings = {"RECEIVER_DEADLINE": "14400", "RECEIVER_TIMEOUT": "5"}
    return service(directory, port, provider_port, **settings, **clock.environment())


async def _live(clock: SystemClock, port: int, provider_port: int) -> tuple[list[Any], list[str], Duration]:
    """Order some tasks after every jump, then wait for all; returns the tasks, what was bought, and the time."""
    url, watch = f"http://127.0.0.1:{port}", Stopwatch()
    async with httpx.AsyncClient(base_url=url, headers=HEADERS, timeout=HANG, limits=FRESH, trust_env=False) as client:
        ordered = []
        for number, jump in enumerate(JUMPS):
            orders = [
                client.post("/api/tasks", json=family.order(f"{number} {knob} [sandbox: {knob} after=4]"))
                for family in FAMILIES.values()
                for knob in KNOBS
            ]
            answers = await asyncio.gather(*orders)
            assert {answer.status_code for answer in answers} == {201}, [answer.text for answer in answers]
            ordered += [answer.json()["id"] for answer in answers]
            clock.jump(jump)
            await asyncio.sleep(3)
        tasks = await _settled(client, ordered)
        ledger = (await client.get(f"http://127.0.0.1:{provider_port}/ledger")).json()["purchases"]
    return tasks, [f"{purchase['family']} {purchase['prompt']}" for purchase in ledger], watch.read()


async def _settled(client: httpx.AsyncClient, ids: list[str]) -> list[Any]:
    async with asyncio.timeout(10 * HANG):
        while True:
            tasks = [(await client.get(f"/api/tasks/{task_id}")).json() for task_id in ids]
            going = [task for task in tasks if task["state"] in ("queued", "submitting", "submitted", "running")]
            if not going:
                return tasks
            await asyncio.sleep(1)
