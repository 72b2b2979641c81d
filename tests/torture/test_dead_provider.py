"""One provider is dead, in every way in which it can be, and the others are as fast as without it."""

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from receiver import services
from tests.behaviour.families import APIXO, FAMILIES, REVID
from tests.behaviour.provider import Exchange, Received, Script, asked_about, drips, family_of, hangs, says, shows
from tests.behaviour.service import Clock, Service, Stage, staged
from tests.measuring import HANG, Duration, Stopwatch, median, until
from tests.outbound.test_client import deaf
from tests.system.processes import Process, free_port, provider, service
from tests.torture.harness import Torture

URL = "https://cdn.example.com/out.mp4"
PATIENT = str(10 * HANG)
"""RECEIVER_TIMEOUT, in seconds: whoever waits for an answer of the dead provider waits for longer than a test does."""
NOISE = 2.0
"""Seconds that a healthy task may take at least."""


class WallClock(Clock):
    """The real time: what is measured here lasts as long as it lasts."""

    def __call__(self) -> int:
        return services.clock()


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def stage(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path, tmp_path_factory) as stage:
        yield Stage(stage.provider, WallClock(), stage.directory, stage.template)


async def is_done(exchange: Exchange) -> None:
    request = exchange.request
    await says(family_of(request.account).done(asked_about(request), URL))(exchange)


@dataclass
class Storm:
    """Orders at the dead provider that are waiting, each with the caller who waits for it."""

    service: Service
    callers: list["asyncio.Task[httpx.Response]"] = field(default_factory=list)

    async def begin(self, number: int) -> None:
        """Order so much, and go on when all of it has been stored."""
        for n in range(number):
            order = REVID.order(f"dead {n}")
            self.callers.append(asyncio.create_task(self.service.post("/api/tasks", order)))
        count = "SELECT count(*) FROM task WHERE provider = 'revid'"
        await until(lambda: self.service.database.rows(count)[0][0] >= number)

    def waits(self) -> bool:
        """Tell whether none of the callers has been answered."""
        return not any(caller.done() for caller in self.callers)

    async def end(self) -> None:
        self.service.provider.release()
        for caller in self.callers:
            caller.cancel()
        await asyncio.gather(*self.callers, return_exceptions=True)


async def time_to_settle(service: Service, number: int) -> list[Duration]:
    """Order at the healthy provider, all at once; returns how long each took until its end was known."""

    async def one(n: int) -> Duration:
        watch = Stopwatch()
        task = await service.order(APIXO.order(f"healthy {n}"))
        done = await service.task(task["id"], wait=60)
        assert done["state"] == "succeeded", done
        return watch.read()

    return list(await asyncio.gather(*(one(n) for n in range(number))))


@dataclass(frozen=True)
class Death:
    """A way to be dead: what the provider does with requests, or where it cannot be reached."""

    script: Script | None = None
    deaf: bool = False
    silent: bool = False
    """Whoever waits for it waits until his own time is over."""


DEATHS = {
    "takes no connection": Death(deaf=True),
    "says nothing": Death(hangs(), silent=True),
    "drips": Death(drips(REVID.accepted("x"), 1.0), silent=True),
    "fails": Death(shows("down", 500)),
    "is busy": Death(says({"message": "busy"}, 429, Retry_After="1")),
}


@pytest.mark.anyio
@pytest.mark.row("E3")
@pytest.mark.parametrize("death", DEATHS)
async def test_a_dead_provider_delays_no_other(death: str, stage: Stage, torture: Torture) -> None:
    it = DEATHS[death]
    variables: dict[str, str | None] = {
        "POLLER": "on", "PUBLIC_URL": None, "TIMEOUT": PATIENT,
        "POLL_AFTER": "0.2", "POLL_EVERY": "0.2", "POLL_MAX": "1",
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        if it.deaf:
            variables["REVID_BASE_URL"] = f"http://127.0.0.1:{stack.enter_context(deaf())}"
        async with stage.serve(**variables) as service:
            stage.provider.on_check(APIXO, is_done)
            if it.script is not None:
                stage.provider.on_create(REVID, it.script)
            alone, beside = [], []
            storm = Storm(service)
            number, rounds = torture.size(8, 20), torture.size(1, 5)
            await time_to_settle(service, number)  # to get warm
            for _ in range(rounds):
                alone += await time_to_settle(service, number)
            await storm.begin(torture.size(60, 200))
            for _ in range(rounds):
                beside += await time_to_settle(service, number)
            assert storm.waits() or not it.silent, "the healthy ones waited for the dead one"
            await storm.end()
    without, with_it = median(alone), median(beside)
    torture.figures(**{f"median s beside one that {death}": with_it, "without": without})
    torture.within(with_it, NOISE, without.times(2))


@pytest.mark.anyio
@pytest.mark.row("E3")
@pytest.mark.parametrize("death", ["takes no connection", "says nothing", "drips"])
async def test_sixty_orders_at_a_hanging_provider_all_end_in_time(death: str, stage: Stage, torture: Torture) -> None:
    it = DEATHS[death]
    with contextlib.ExitStack() as stack:
        variables: dict[str, str | None] = {"TIMEOUT": "1"}
        if it.deaf:
            variables["REVID_BASE_URL"] = f"http://127.0.0.1:{stack.enter_context(deaf())}"
        async with stage.serve(**variables) as service:
            if it.script is not None:
                stage.provider.on_create(REVID, it.script)
            watch = Stopwatch()
            tasks = await asyncio.gather(*(service.order(REVID.order(f"{n}")) for n in range(60)))
            answered = watch.read()
            states = [(await service.until_state(it["id"], "queued", "unconfirmed"))["state"] for it in tasks]
            ended = watch.read()
            torture.within(answered, 1 + NOISE)
            torture.within(ended, 1 + NOISE)
            bought = stage.provider.bought()
            assert states.count("unconfirmed") >= len(bought)
            assert len({_prompt(request) for request in bought}) == len(bought)
    torture.figures(**{f"s until 60 orders ended where it {death}": ended})


def _prompt(request: Received) -> str:
    prompt: str = request.json["input"]["prompt"]
    return prompt


# --- a name whose servers keep silent, with the real processes


SILENT_SERVER = "127.0.0.153"
DEAD_NAME = "provider.silent.test"


@contextlib.contextmanager
def silent_resolver(directory: Path) -> Iterator[tuple[str, ...]]:
    """A name server that never answers; yields the command that lets a process use it."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("SKIPPED, NOT TESTED: only root can give a process a name server of its own, and with unshare")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((SILENT_SERVER, 53))
        configuration = directory / "resolv.conf"
        configuration.write_text(f"nameserver {SILENT_SERVER}\noptions timeout:15 attempts:2\n")
        bound = f"mount --bind {configuration} /etc/resolv.conf"
        yield "unshare", "--mount", "sh", "-c", f'{bound} && exec "$@"', "sh"


@pytest.mark.row("E6")
def test_a_name_whose_servers_keep_silent_delays_no_other_nor_the_end(tmp_path: Path, torture: Torture) -> None:
    port, provider_port = free_port(), free_port()
    selling = provider(tmp_path, provider_port)
    with silent_resolver(tmp_path) as within:
        serving = _service(tmp_path, port, provider_port, within)
        selling.start()
        serving.start()
        try:
            alone, beside, stopped = asyncio.run(_beside_a_dead_name(serving, port, torture.size(6, 20)))
        finally:
            serving.kill()
            selling.kill()
    torture.figures(**{"median s beside a silent name": beside, "without a silent name": alone, "s to stop": stopped})
    torture.within(beside, NOISE, alone.times(2))
    torture.within(stopped, 10)


def _service(directory: Path, port: int, provider_port: int, within: tuple[str, ...]) -> Process:
    """A service whose healthy providers have a name, too: names are what this is about."""
    places = {f"{name.upper()}_BASE_URL": f"http://localhost:{provider_port}/{name}" for name in FAMILIES}
    places |= {
        "REVID_BASE_URL": f"http://{DEAD_NAME}:{provider_port}",
        "RECEIVER_TIMEOUT": "30",
        "RECEIVER_CALLBACK_GRACE": "0.3",
        "RECEIVER_POLL_EVERY": "0.3",
    }
    process = service(directory, port, provider_port, **places)
    process.within = within
    return process


async def _beside_a_dead_name(serving: Process, port: int, number: int) -> tuple[Duration, Duration, Duration]:
    """Measure the median time to settle without and beside a dead name, and the time to stop."""
    headers = {"Authorization": "Bearer a-token-for-the-tests"}
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=HANG, trust_env=False, limits=httpx.Limits()
    ) as client:

        async def one(n: int) -> Duration:
            watch = Stopwatch()
            order = APIXO.order(f"boat {n} [sandbox: callback=drop after=0.1]")
            task = (await client.post("/api/tasks", json=order)).json()
            done = (await client.get(f"/api/tasks/{task['id']}", params={"wait": "60"})).json()
            assert done["state"] == "succeeded", done
            return watch.read()

        alone = await asyncio.gather(*(one(n) for n in range(number)))
        dead = [asyncio.create_task(client.post("/api/tasks", json=REVID.order(f"dead {n}"))) for n in range(40)]
        async with asyncio.timeout(HANG):
            while True:
                stored = (await client.get("/api/tasks", params={"provider": "revid", "limit": 200})).json()["tasks"]
                if len(stored) == len(dead):
                    break
                await asyncio.sleep(0.1)
        beside = await asyncio.gather(*(one(number + n) for n in range(number)))
        watch = Stopwatch()
        assert await asyncio.to_thread(serving.stop) == 0
        stopped = watch.read()
        await asyncio.gather(*dead, return_exceptions=True)
    return median(alone), median(beside), stopped
