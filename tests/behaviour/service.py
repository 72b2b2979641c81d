"""The service under test: the whole application with its lifespan, on a test's own database, clock and settings."""

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from starlette.applications import Starlette

from receiver.app import create_app
from receiver.config.keys import with_generated_secrets
from receiver.config.settings import Settings
from receiver.providers import CONFIG_TYPES
from receiver.store import schema
from receiver.store.engine import sqlite_module
from tests.behaviour.families import FAMILIES, KNOWN, Body
from tests.behaviour.provider import Provider
from tests.measuring import HANG, move_on

PUBLIC_URL = "https://hooks.example.com"
TOKEN = "the-api-token"
NOW = 1_795_176_000_000
"""2026-11-20T12:00:00Z, where every test's clock begins."""

Task = dict[str, Any]
T = TypeVar("T")
DEAD_PORT = "http://127.0.0.1:9"
"""The discard port, where nobody listens."""


@dataclass
class Clock:
    """Unix milliseconds that pass only when a test says so."""

    now: int = NOW

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += round(seconds * 1000)


@dataclass(frozen=True)
class Database:
    """A second look at the service's database file, as another process would have it."""

    file: Path

    @contextlib.contextmanager
    def connected(self) -> Iterator[Any]:
        connection = sqlite_module().connect(str(self.file), isolation_level=None, timeout=0)
        try:
            yield connection
        finally:
            connection.close()

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.connected() as connection:
            found: list[tuple[Any, ...]] = connection.execute(query, values).fetchall()
        return found

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the write lock, as another process might."""
        with self.connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")

    def image(self, copy: Path) -> None:
        """Copy what is committed at this moment, as a crash would leave it."""
        target = sqlite_module().connect(str(copy))
        with self.connected() as source:
            source.backup(target)
        target.close()


@dataclass(repr=False)
class Service:
    """One running service and a client that may use its API."""

    app: Starlette
    client: httpx.AsyncClient
    database: Database
    clock: Clock
    provider: Provider
    public_url: str | None = PUBLIC_URL
    stranger: httpx.AsyncClient = field(default_factory=httpx.AsyncClient)
    """A client without a token."""

    def __repr__(self) -> str:
        return "Service()"  # hypothesis shows it with every example

    async def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        content = None if body is None else json.dumps(body)
        return await self.client.post(path, content=content, headers=named)

    async def order(self, order: Mapping[str, Any], **headers: str) -> Task:
        """Order a new task, which is granted."""
        answer = await self.post("/api/tasks", order, **headers)
        assert answer.status_code == 201, answer.text
        task: Task = answer.json()
        return task

    async def task(self, task_id: str, **query: Any) -> Task:
        answer = await self.client.get(f"/api/tasks/{task_id}", params=query)
        assert answer.status_code == 200, answer.text
        task: Task = answer.json()
        return task

    async def history(self, task_id: str, kind: str | None = None) -> list[dict[str, Any]]:
        answer = await self.client.get(f"/api/tasks/{task_id}/history")
        assert answer.status_code == 200, answer.text
        return [event for event in answer.json()["events"] if kind in (None, event["kind"])]

    async def moves(self, task_id: str) -> list[str]:
        """The states a task went through."""
        return [event["to"] for event in await self.history(task_id, "move")]

    async def poll(self) -> dict[str, int]:
        """One sweep; returns its report."""
        answer = await self.post("/api/poll")
        assert answer.status_code == 200, answer.text
        report: dict[str, int] = answer.json()
        return report

    async def poll_after(self, seconds: float) -> dict[str, int]:
        self.clock.advance(seconds)
        return await self.poll()

    async def poll_when_due(self, task_id: str) -> dict[str, int]:
        """Move the clock to the task's next check and sweep."""
        due = (await self.task(task_id))["next_check_at"]
        assert due is not None
        self.clock.now = max(self.clock.now, milliseconds(due))
        return await self.poll()

    async def until(self, task_id: str, condition: Callable[[Task], bool]) -> Task:
        """Wait until a task is as told."""
        async with asyncio.timeout(HANG):
            while True:
                if condition(task := await self.task(task_id)):
                    return task
                await asyncio.sleep(0.005)

    async def when_time_is_over(self, work: Coroutine[Any, Any, T], condition: Callable[[], bool]) -> T:
        """Do something that waits for a provider who hangs; as soon as the condition holds, the request's time is over.

        Nobody waits for it: the time of the loop moves on.
        """
        working = asyncio.create_task(work)
        await self.provider.until(condition)
        assert not working.done(), "it did not wait"
        move_on(self.app.state.services.settings.timeout)
        return await asyncio.wait_for(working, HANG)

    async def until_state(self, task_id: str, *states: str) -> Task:
        return await self.until(task_id, lambda task: task["state"] in states)

    async def until_checked(self, task_id: str, times: int = 1) -> Task:
        return await self.until(task_id, lambda task: task["checks"] >= times)

    def link(self, task_id: str) -> str:
        """The path at which the provider of a task calls back, as the create request named it."""
        for request in self.provider.bought():
            url = request.callback_url
            if url is not None and f"/{task_id}." in url:
                assert self.public_url is not None
                return url.removeprefix(self.public_url)
        raise AssertionError(f"no create request named a callback URL of {task_id}")

    async def deliver(self, path: str, body: Body | bytes) -> httpx.Response:
        """Call back, as a provider does."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.stranger.post(path, content=content, headers={"Content-Type": "application/json"})

    async def call_back(self, task_id: str, body: Body | bytes) -> str:
        """Call back to a task's own URL; returns the outcome."""
        answer = await self.deliver(self.link(task_id), body)
        assert answer.status_code == 200, answer.text
        outcome: str = answer.json()["outcome"]
        return outcome


def milliseconds(time: str) -> int:
    """Read a time of the API as Unix milliseconds."""
    return round(datetime.fromisoformat(time).timestamp() * 1000)


def environment(provider: Provider, directory: Path, **more: str | None) -> dict[str, str]:
    """Every family configured at the scripted provider, no timed sweeps, no archive; None takes a variable away."""
    given: dict[str, str | None] = {
        "RECEIVER_DATA_DIR": str(directory),
        "RECEIVER_PUBLIC_URL": PUBLIC_URL,
        "RECEIVER_API_TOKENS": TOKEN,
        "RECEIVER_SECRET_KEYS": "the-signing-key",
        "RECEIVER_POLLER": "off",
        "RECEIVER_ARCHIVE": "off",
    }
    for family in FAMILIES:
        given[f"{family.upper()}_API_KEY"] = f"the-key-of-{family}"
        given[f"{family.upper()}_BASE_URL"] = f"{provider.url}/{family}"
    return {name: value for name, value in (given | more).items() if value is not None}


@dataclass(frozen=True)
class Stage:
    """What services of one test have in common; any number may run on it, also side by side."""

    provider: Provider
    clock: Clock
    directory: Path
    template: Path

    def beside(self, name: str) -> "Stage":
        """The same stage with another, still empty directory: for what a crash leaves."""
        directory = self.directory.with_name(name)
        directory.mkdir()
        return Stage(self.provider, self.clock, directory, self.template)

    @contextlib.asynccontextmanager
    async def serve(self, **variables: str | None) -> AsyncIterator[Service]:
        """Run a service; variables are named without their prefix `RECEIVER_` where they are the service's own."""
        settings = self.settings(**variables)
        app = create_app(settings, clock=self.clock)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://service", timeout=HANG) as client,
            httpx.AsyncClient(transport=transport, base_url="http://service", timeout=HANG) as stranger,
        ):
            client.headers["Authorization"] = f"Bearer {TOKEN}"
            database = Database(settings.data_dir / "receiver.db")
            service = Service(app, client, database, self.clock, self.provider, settings.public_url, stranger)
            try:
                yield service
            finally:
                self.provider.release()

    def settings(self, **variables: str | None) -> Settings:
        """Load settings, with the database they name in place."""
        named = {name if name.split("_")[0].lower() in KNOWN else f"RECEIVER_{name}": value
                 for name, value in variables.items()}  # fmt: skip
        directory = Path(named.get("RECEIVER_DATA_DIR") or self.directory)
        settings = with_generated_secrets(Settings.load(environment(self.provider, directory, **named), CONFIG_TYPES))
        file = directory / "receiver.db"
        if not file.exists():
            directory.mkdir(exist_ok=True)
            shutil.copyfile(self.template, file)
        return settings


@contextlib.asynccontextmanager
async def staged(directory: Path, factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Set the stage of a test: its own provider, clock and directory."""
    provider = Provider()
    async with provider.serving():
        yield Stage(provider, Clock(), directory / "data", _template(factory))


def _template(factory: pytest.TempPathFactory) -> Path:
    """A migrated database to copy, since migrating one takes longer than most tests."""
    file = factory.getbasetemp() / "template.db"
    if not file.exists():
        schema.migrate(f"sqlite:///{file}")
    return file
