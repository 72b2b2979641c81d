"""Processes that stand still: what SIGSTOP does, and when it has done it."""

from pathlib import Path

from tests.measuring import until
from tests.system.processes import Process


async def until_still(process: Process) -> None:
    """Wait until every thread of a process that was sent SIGSTOP has stopped."""
    assert process.running is not None
    pid = process.running.pid
    await until(lambda: _is_still(pid))


def _is_still(pid: int) -> bool:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all((thread / "stat").read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)
