"""Results come home whatever happens on the way: processes die, servers lie, links lead into private networks."""

import asyncio
import hashlib
import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from receiver.archive.archiver import FROM_ONE_HOST
from tests.archive.file_server import MP4, FileServer, Script, Visit, breaks_off, head, says, serves
from tests.behaviour.families import REVID
from tests.behaviour.provider import Provider
from tests.behaviour.service import Database
from tests.measuring import HANG, Duration, Stopwatch, median
from tests.system.processes import Process, free_port, service
from tests.torture import driver
from tests.torture.driver import Driver
from tests.torture.fire import DATABASE, Restarts
from tests.torture.front import needs_nginx, nginx
from tests.torture.harness import Torture
from tests.torture.places import Scene

pytestmark = pytest.mark.anyio

LINK_SECONDS = 300.0
"""How long links work at the full size."""
OF_ONE_TASK = 20
MIB = 1024 * 1024
ZEROS = bytes(256 * 1024)
NOT_STORED = "SELECT count(*) FROM output WHERE archive <> 'stored'"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def content_of(path: str) -> bytes:
    """Return the bytes of the file at a path: no two are equal."""
    return MP4 + random.Random(path).randbytes(2000 + len(path))  # noqa: S311 - any bytes will do


@dataclass
class Host(FileServer):
    """A host whose links die, and that does not do well before: it fails, and breaks off."""

    chance: random.Random = field(default_factory=random.Random)
    dead: asyncio.Event = field(default_factory=asyncio.Event)

    def links(self, mark: str) -> list[str]:
        return [self.at(f"/{mark}-{number}.mp4", self._visit) for number in range(OF_ONE_TASK)]

    async def _visit(self, visit: Visit) -> None:
        content, kind = content_of(visit.asked.path), self.chance.random()
        script = serves(content) if kind < 0.9 else breaks_off(content, 100) if kind < 0.95 else says(502)
        await (says(404) if self.dead.is_set() else script)(visit)


@dataclass
class Archiving:
    """A service that archives, killed again and again, and the host of its results."""

    serving: Process
    host: Host
    driver: Driver
    restarts: Restarts
    directory: Path

    def files(self) -> dict[str, str]:
        """Return the digest of each file in the archive, by its path; unfinished ones, too."""
        outputs = self.directory / "data" / "outputs"
        found = (file for file in outputs.rglob("*") if file.is_file())
        return {str(file.relative_to(outputs)): hashlib.sha256(file.read_bytes()).hexdigest() for file in found}

    def rows(self, query: str) -> list[tuple[object, ...]]:
        return Database(self.directory / DATABASE).rows(query)


@asynccontextmanager
async def archiving(directory: Path, chance: random.Random) -> AsyncIterator[Archiving]:
    provider, host, port = Provider(), Host(chance=chance), free_port()
    async with provider.serving(), host.serving():
        settings = driver.SETTINGS | {
            "RECEIVER_ARCHIVE": str(directory / "data" / "outputs"),
            "RECEIVER_ARCHIVE_KEEP_FREE": "0",
            "RECEIVER_DEADLINE": "3600",
            "RECEIVER_CALLBACK_GRACE": "3600",
        }
        serving = service(directory, port, int(provider.url.rpartition(":")[2]), **settings)
        Scene(serving, provider, Database(directory / DATABASE)).open()
        url = f"http://127.0.0.1:{port}"
        async with Driver(url, directory / "acked.log") as driving:
            restarts = Restarts(url)
            await restarts.start(serving)
            try:
                yield Archiving(serving, host, driving, restarts, directory)
            finally:
                serving.kill()


@pytest.mark.row("E11")
async def test_no_result_is_lost_while_its_link_lives_however_often_the_service_is_killed(
    tmp_path: Path, torture: Torture
) -> None:
    tasks, kills = torture.size(3, 500), torture.size(3, 50)
    async with archiving(tmp_path, torture.random) as site:
        watch = Stopwatch()
        if torture.full:
            asyncio.get_running_loop().call_later(LINK_SECONDS, site.host.dead.set)
        await asyncio.gather(_order(site, tasks), _kill(site, kills, torture.random))
        async with asyncio.timeout(10 * HANG):
            while site.rows(NOT_STORED) != [(0,)]:  # noqa: ASYNC110 - another process writes
                await asyncio.sleep(0.1)
        took = watch.read()
        assert site.serving.stop() == 0
    stored = site.rows("SELECT stored, sha256, url FROM output")
    assert len(stored) == tasks * OF_ONE_TASK
    assert site.files() == {str(name): digest for name, digest, _ in stored}, "whole, and nothing beside them"
    for _, digest, url in stored:
        path = str(url).partition("://")[2].partition("/")[2]
        assert digest == hashlib.sha256(content_of(f"/{path}")).hexdigest()
    torture.figures(results=len(stored), lost=0, kills=site.restarts.number, seconds=took)


async def _order(site: Archiving, tasks: int) -> None:
    for number in range(tasks):
        mark = f"place-{number}"
        task_id = await site.driver.order(REVID.order(mark), mark)
        await site.driver.deliver(driver.done("revid", task_id, mark, mark, *site.host.links(mark)))


async def _kill(site: Archiving, kills: int, chance: random.Random) -> None:
    """Kill the service each time some more downloads have begun."""
    for number in range(kills):
        await site.host.until_asked((number + 1) * (5 + chance.randrange(10)))
        await asyncio.to_thread(site.serving.kill)
        site.restarts.number += 1
        await site.restarts.start(site.serving)


@pytest.mark.row("E13")
async def test_many_large_files_at_once_take_little_memory(tmp_path: Path, torture: Torture) -> None:
    size = torture.size(12, 200) * MIB
    async with archiving(tmp_path, torture.random) as site:
        urls = [site.host.at(f"/large-{number}.mp4", streams(size)) for number in range(OF_ONE_TASK)]
        task_id = await site.driver.order(REVID.order("place-0"), "place-0")
        idle = memory(site.serving.pid)
        await site.driver.deliver(driver.done("revid", task_id, "place-0", "place-0", *urls))
        most, watch = idle, Stopwatch()
        while site.rows(NOT_STORED) != [(0,)]:
            most = max(most, memory(site.serving.pid))
            await asyncio.sleep(0.02)
        took = watch.read()
    assert site.host.most_at_once > 4, "several at once"
    torture.figures(files=len(urls), megabytes_each=size // MIB, memory_above_idle=(most - idle) // MIB, seconds=took)
    assert most - idle < 60 * MIB


def streams(size: int) -> Script:
    """Serve so many bytes without ever holding them."""

    async def script(visit: Visit) -> None:
        visit.writer.write(head(200, Content_Length=size))
        visit.writer.write(MP4)
        left = size - len(MP4)
        while left > 0:
            visit.writer.write(ZEROS[:left])
            left -= len(ZEROS)
            await visit.writer.drain()

    return script


def memory(pid: int) -> int:
    """Return the bytes of memory that a process uses."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory in which nginx may read, as the user that it runs as."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@needs_nginx
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.row("E18")
async def test_archiving_is_nearly_as_quick_as_curl(tmp_path: Path, torture: Torture, public: Path) -> None:
    if not torture.full:
        pytest.skip("only at full size: it measures")
    content = MP4 + random.Random(0).randbytes(200 * MIB)  # noqa: S311 - any bytes will do
    for number in range(FROM_ONE_HOST):
        await asyncio.to_thread((public / f"{number}.mp4").write_bytes, content)
    async with archiving(tmp_path, torture.random) as site:
        rules = f"location /files/ {{ alias {public}/; }}"
        with nginx(tmp_path / "nginx", int(site.driver.url.rpartition(":")[2]), rules) as port:
            urls = [f"http://127.0.0.1:{port}/files/{number}.mp4" for number in range(FROM_ONE_HOST)]
            curl, archive = list[Duration](), list[Duration]()
            for number in range(5):
                curl.append(await asyncio.to_thread(_curl, urls, tmp_path / "curled"))
                archive.append(await _archive(site, f"place-{number}", urls))
    torture.figures(files_of_200_megabytes=len(urls), by_curl=median(curl), into_the_archive=median(archive))
    torture.within(median(archive), median(curl).times(1 / 0.8))


def _curl(urls: list[str], place: Path) -> Duration:
    """Download files with curl, as many at once."""
    place.mkdir(exist_ok=True)
    words = [word for number, url in enumerate(urls) for word in ("-o", str(place / str(number)), url)]
    watch = Stopwatch()
    command = ["curl", "-fsS", "-Z", "--parallel-max", str(len(urls)), *words]
    subprocess.run(command, check=True)  # noqa: S603 - our own words
    took = watch.read()
    shutil.rmtree(place)
    return took


async def _archive(site: Archiving, mark: str, urls: list[str]) -> Duration:
    """Download files into the archive: from their callback to the last commit."""
    task_id = await site.driver.order(REVID.order(mark), mark)
    watch = Stopwatch()
    await site.driver.deliver(driver.done("revid", task_id, mark, mark, *urls))
    while site.rows(NOT_STORED) != [(0,)]:  # noqa: ASYNC110 - another process writes
        await asyncio.sleep(0.01)
    took = watch.read()
    shutil.rmtree(site.directory / "data" / "outputs")
    return took
