"""Interface, section 2, `RECEIVER_HEARTBEAT_URL`: fetched after a sweep that did its work."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from receiver.services import Services
from receiver.tasks.poller import Poller
from tests.behaviour.families import REVID
from tests.behaviour.provider import says
from tests.behaviour.service import Stage
from tests.measuring import HANG, until

pytestmark = pytest.mark.anyio

SECRET = "the-secret-of-the-switch"


@dataclass
class Switch:
    """A dead man's switch: a server that takes GETs and answers as it is told to."""

    url: str = ""
    status: int = 200
    hangs: bool = False
    heard: list[str] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heard.append(head.partition("\r\n")[0])
            if self.hangs:
                await self.released.wait()
            writer.write(f"HTTP/1.1 {self.status} Heard\r\nContent-Length: 2\r\n\r\nok".encode())
            await writer.drain()
        writer.close()


@pytest.fixture
async def switch() -> AsyncIterator[Switch]:
    switch = Switch()
    server = await asyncio.start_server(switch.connected, "127.0.0.1", 0)
    switch.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/ping/{SECRET}?create=1"
    async with server:
        yield switch
        switch.released.set()


async def settled(services: Services) -> None:
    """Wait for what goes on beside the answers."""
    await services.background.drain(HANG)


async def test_a_sweep_fetches_it_at_most_once_a_minute(stage: Stage, switch: Switch) -> None:
    async with stage.serve(HEARTBEAT_URL=switch.url) as service:
        for seconds, heard in ((0, 1), (30, 1), (29.9, 1), (0.1, 2), (3600, 3)):
            await service.poll_after(seconds)
            await settled(service.app.state.services)
            assert len(switch.heard) == heard
    assert set(switch.heard) == {f"GET /ping/{SECRET}?create=1 HTTP/1.1"}


async def test_of_several_services_one_fetches_it(stage: Stage, switch: Switch) -> None:
    async with stage.serve(HEARTBEAT_URL=switch.url) as one, stage.serve(HEARTBEAT_URL=switch.url) as other:
        await asyncio.gather(one.poll(), other.poll())
        await asyncio.gather(settled(one.app.state.services), settled(other.app.state.services))
    assert len(switch.heard) == 1


async def test_the_services_poller_fetches_it_with_nothing_to_do(stage: Stage, switch: Switch) -> None:
    async with stage.serve(HEARTBEAT_URL=switch.url, POLLER="on"):
        await until(lambda: len(switch.heard) == 1)


async def test_who_does_not_sweep_does_not_fetch_it(stage: Stage, switch: Switch) -> None:
    async with stage.serve(HEARTBEAT_URL=switch.url) as service:
        task = await service.order(REVID.order())
        await service.call_back(task["id"], REVID.done(task["remote_id"], "https://cdn.example.com/out.mp4"))
        await settled(service.app.state.services)
    assert switch.heard == []


@pytest.mark.row("E17")
async def test_a_sweep_that_could_not_write_tells_nobody_that_it_worked(stage: Stage, switch: Switch) -> None:
    async with stage.serve(HEARTBEAT_URL=switch.url) as service:
        services: Services = service.app.state.services
        poller = Poller(services, heartbeat_interval=0.01)
        with service.database.locked():
            assert (await service.post("/api/poll")).status_code == 503
            running = asyncio.create_task(poller.run())
            with capture_logs() as logged:
                await until(lambda: any(line["event"] == "poller_waits" for line in logged))
            assert switch.heard == []
        await until(lambda: len(switch.heard) == 1)
        services.stopping.set()
        await running


@pytest.mark.row("E17")
async def test_a_switch_that_hangs_delays_no_sweep(stage: Stage, switch: Switch) -> None:
    switch.hangs = True
    async with stage.serve(HEARTBEAT_URL=switch.url) as service:
        for number in range(3):
            task = await service.order(REVID.order())
            service.provider.on_check(REVID, says(REVID.done(task["remote_id"], "https://cdn.example.com/out.mp4")))
            assert (await service.poll_after(300))["settled"] == 1
            await until(lambda number=number: len(switch.heard) == number + 1)  # type: ignore[misc]
        switch.released.set()


async def test_only_a_change_is_logged_and_never_the_url(stage: Stage, switch: Switch) -> None:
    async with stage.serve(HEARTBEAT_URL=switch.url) as service:
        with capture_logs() as logged:
            for status in (200, 500, 500, 404, 302, 200, 200):
                switch.status = status
                await service.poll_after(60)
                await settled(service.app.state.services)
    told = [(line["event"], line.get("reason")) for line in logged if line["event"].startswith("heartbeat_url")]
    assert told == [
        ("heartbeat_url_failed", "it answered 500"),
        ("heartbeat_url_failed", "it answered 404"),
        ("heartbeat_url_failed", "it answered 302"),
        ("heartbeat_url_answers", None),
    ]
    assert SECRET not in str(logged)
    assert len(switch.heard) == 7, "no redirect is followed"


async def test_nobody_there_is_told_in_one_line_and_the_sweep_goes_on(stage: Stage) -> None:
    async with stage.serve(HEARTBEAT_URL=f"http://127.0.0.1:9/{SECRET}") as service:
        with capture_logs() as logged:
            for _ in range(2):
                await service.poll_after(60)
                await settled(service.app.state.services)
    (line,) = (line for line in logged if line["event"].startswith("heartbeat_url"))
    assert line["log_level"] == "warning"
    assert SECRET not in str(logged)
