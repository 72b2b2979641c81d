"""Processes that stand still: what SIGSTOP does, and when it has done it."""

import asyncio
from pathlib import Path

from tests.system.processes import Process


async def until_still(process: Process) -> None:
    """Wait until every thread of a process that was sent SIGSTOP has stopped."""
    assert process.running is not None
    while not _is_still(process.running.pid):  # noqa: ASYNC110 - the kernel stops them
        await asyncio.sleep(0.01)


def _is_still(pid: int) -> bool:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all((thread / "stat").read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)
