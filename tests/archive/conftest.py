"""A service that archives, a provider whose results are on a scripted host, and that host."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.archive.file_server import FileServer
from tests.behaviour.families import REVID
from tests.behaviour.provider import says
from tests.behaviour.service import Service, Stage, Task, staged
from tests.measuring import LOOP

ID = "the-remote-id"


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return LOOP


@pytest.fixture
async def stage(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path, tmp_path_factory) as stage:
        yield stage


@pytest.fixture
async def host() -> AsyncIterator[FileServer]:
    async with FileServer().serving() as host:
        yield host


@dataclass
class Site:
    """A service with an archive, and what a task goes through until it has one."""

    service: Service
    stage: Stage

    @property
    def directory(self) -> Path:
        return self.stage.directory / "outputs"

    async def succeeded(self, *urls: str, remote_id: str = ID) -> Task:
        """Order a task and call back with its results."""
        self.stage.provider.on_create(REVID, says(REVID.accepted(remote_id)))
        self.stage.provider.on_check(REVID, says(REVID.done(remote_id, *urls)))
        task = await self.service.order(REVID.order())
        await self.service.call_back(task["id"], REVID.done(remote_id, *urls))
        return await self.service.until_state(task["id"], "succeeded")

    async def until_output(self, task_id: str, archive: str, number: int = 0) -> dict[str, Any]:
        """Wait until an output is so far in the archive; returns its document."""
        task = await self.service.until(task_id, lambda task: task["outputs"][number]["archive"] == archive)
        output: dict[str, Any] = task["outputs"][number]
        return output

    async def until_problem(self, task_id: str, words: str) -> dict[str, Any]:
        task = await self.service.until(task_id, lambda task: words in (task["outputs"][0]["problem"] or ""))
        output: dict[str, Any] = task["outputs"][0]
        return output

    def files(self) -> list[str]:
        """What the archive's directory holds, unfinished files included."""
        if not self.directory.exists():
            return []
        return sorted(str(file.relative_to(self.directory)) for file in self.directory.rglob("*") if file.is_file())


@pytest.fixture
async def site(stage: Stage) -> AsyncIterator[Site]:
    async with stage.serve(ARCHIVE=None, ARCHIVE_KEEP_FREE="0") as service:
        yield Site(service, stage)
