"""Interface, section 1: an attempt "is committed *before* the request leaves", and what the provider answers is kept
even where the database cannot be written just then."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session

from receiver.core.errors import OutcomeUnknown, StoreUnavailable
from receiver.store import Store, reading
from receiver.store.reading import Filter
from tests.behaviour.families import FAMILIES, REVID, RIVYA, Family
from tests.behaviour.provider import Provider, Received, after, hangs, says, slams
from tests.behaviour.service import Database, Service, Stage

pytestmark = pytest.mark.anyio

every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
URL = "https://cdn.example.com/out.mp4"
ATTEMPT = "SELECT number, method, url, body, ended_at, outcome FROM attempt ORDER BY number"
TASK = "SELECT state, attempts, submitted_at, leased_until FROM task"


@pytest.mark.row("A2")
@every_family
async def test_task_and_attempt_are_committed_before_the_request_leaves(
    family: Family, service: Service, provider: Provider, tmp_path: Path
) -> None:
    image = Database(tmp_path / "image.db")

    async def look(_: Received) -> None:
        service.database.image(image.file)

    provider.on_create(family, after(look, says(family.accepted("r-1"))))
    await service.order(family.order())
    [request] = provider.bought()
    [(number, method, url, body, ended_at, outcome)] = image.rows(ATTEMPT)
    assert (number, method, bytes(body)) == (1, "POST", request.body), "the request's bytes"
    assert url == f"{provider.url}/{family.name}{request.path}"
    assert (ended_at, outcome) == (None, None)
    [(state, attempts, submitted_at, leased_until)] = image.rows(TASK)
    assert (state, attempts, submitted_at) == ("submitting", 1, service.clock.now)
    assert leased_until > service.clock.now


@pytest.mark.row("A2")
async def test_a_repeat_has_an_attempt_of_its_own_before_it_leaves(service: Service, provider: Provider) -> None:
    seen: list[int] = []

    async def look(_: Received) -> None:
        seen.append(len(service.database.rows(ATTEMPT)))

    provider.on_create(RIVYA, after(look, slams()), after(look, slams()), after(look, says(RIVYA.accepted("r-1"))))
    task = await service.order(RIVYA.order())
    for _ in range(2):
        await service.poll_when_due(task["id"])
    assert seen == [1, 2, 3]


@every_family
async def test_the_order_is_stored_as_the_caller_gave_it(family: Family, service: Service) -> None:
    given = family.order("A 🐈 “quoted”\n\tand\u2028broken", metadata={"order": 7, "ünï": [None, {"a": 1.5}]})
    task = await service.order(given)
    assert (task["input"], task["metadata"]) == (given["input"], given["metadata"])
    [(stored,)] = service.database.rows("SELECT input FROM task")
    assert json.loads(stored) == given["input"]


async def test_a_paid_answer_is_kept_although_the_database_is_locked_when_it_comes(stage: Stage) -> None:
    """The lock outlasts the patience of a single write (3 s), as a long backup would."""
    family = FAMILIES["revid"]
    release = asyncio.Event()

    async def lock(_: Received) -> None:
        async def hold() -> None:
            with service.database.locked():
                locked.set()
                await release.wait()

        locked = asyncio.Event()
        holding.append(asyncio.create_task(hold()))
        await locked.wait()

    holding: list[asyncio.Task[None]] = []
    stage.provider.on_create(family, after(lock, says(family.accepted("r-1"))))
    async with stage.serve() as service:
        ordering = asyncio.create_task(service.order(family.order()))
        await stage.provider.until(lambda: len(stage.provider.bought()) == 1)
        done, _ = await asyncio.wait({ordering}, timeout=3.5)
        assert not done
        release.set()
        task = await ordering
        await asyncio.gather(*holding)
        assert (task["state"], task["remote_id"]) == ("submitted", "r-1")


@every_family
async def test_a_caller_that_gives_up_changes_nothing(family: Family, stage: Stage) -> None:
    release = asyncio.Event()

    async def wait(_: Received) -> None:
        await release.wait()

    stage.provider.on_create(family, after(wait, says(family.accepted("r-1"))))
    async with stage.serve() as service:
        ordering = asyncio.create_task(service.post("/api/tasks", family.order(), Idempotency_Key="k"))
        await stage.provider.until(lambda: len(stage.provider.bought()) == 1)
        ordering.cancel()
        await asyncio.wait({ordering})
        release.set()
        answer = await service.post("/api/tasks", family.order(), Idempotency_Key="k")
        assert answer.status_code == 200
        task = await service.until_state(answer.json()["id"], "submitted")
        assert task["remote_id"] == "r-1"
        assert len(stage.provider.bought()) == 1


@pytest.mark.row("G2")
async def test_a_stop_while_requests_are_under_way_sends_nothing_twice_and_gives_leases_back(stage: Stage) -> None:
    """A stop waits 4 s for answers; the providers here stay silent for longer."""
    async with stage.serve() as service:
        checked = await service.order(REVID.order())
        stage.provider.on_check(REVID, hangs(stubborn=True), says(REVID.done("revid-1", URL)))
        for family in FAMILIES.values():
            stage.provider.on_create(family, hangs(stubborn=True), says(family.accepted("second")))
        calls = [service.post("/api/tasks", it.order()) for it in FAMILIES.values()]
        calls.append(service.post(f"/api/tasks/{checked['id']}/check"))
        under_way = [asyncio.create_task(call) for call in calls]
        await stage.provider.until(lambda: len(stage.provider.received) == 1 + len(under_way))
        for call in under_way:
            call.cancel()
        await asyncio.wait(under_way)
    async with stage.serve() as service:
        tasks = (await service.client.get("/api/tasks")).json()["tasks"]
        states = {it["provider"]: it["state"] for it in tasks if it["id"] != checked["id"]}
        assert states == dict.fromkeys(FAMILIES, "unconfirmed") | {"rivya": "submitting"}
        report = await service.poll_after(300)
        assert (report["checked"], report["settled"]) == (1, 1)
        sent = {name: len(stage.provider.bought(it)) for name, it in FAMILIES.items()}
        assert sent == {"rivya": 2, "apixo": 1, "revid": 2, "gateway": 1}, "rivya's one repeat; revid's two orders"
        assert len({it.headers["idempotency-key"] for it in stage.provider.bought(RIVYA)}) == 1


@dataclass(frozen=True)
class Unreadable:
    """A store that takes what is written, and can be read no more once something was."""

    whole: Store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    async def read(self, query: Callable[[Session], Any]) -> Any:
        if await self.whole.read(lambda session: reading.listing(session, Filter())):
            raise StoreUnavailable("the database does not answer")
        return await self.whole.read(query)


async def test_an_order_that_is_stored_and_cannot_be_read_back_is_told_as_stored(stage: Stage) -> None:
    async with stage.serve() as service:
        services = service.app.state.services
        service.app.state.services = replace(services, store=Unreadable(services.store))
        answer = await service.post("/api/tasks", REVID.order())
        assert answer.status_code == 201, "whoever is told 503 orders again"
        task_id = answer.json()["id"]
        assert answer.headers["location"].endswith(f"/api/tasks/{task_id}")
        assert "stored" in answer.json()["notices"][0]
        service.app.state.services = services
        assert (await service.task(task_id))["id"] == task_id


@dataclass(frozen=True)
class Untold:
    """A store that writes down how a try ended, and says that nobody knows whether it did."""

    whole: Store
    told: list[str]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    async def write(self, unit: Callable[[Any], Any]) -> Any:
        result = await self.whole.write(unit)
        if getattr(unit, "__name__", "") == "record" and not self.told:
            self.told.append("unknown")
            raise OutcomeUnknown("the database does not answer")
        return result


@pytest.mark.parametrize(
    ("status", "state"), [(200, "submitted"), (400, "failed"), (429, "queued"), (500, "unconfirmed")]
)
async def test_an_end_that_was_written_down_and_not_told_counts_once(status: int, state: str, stage: Stage) -> None:
    body = REVID.accepted("once") if status == 200 else {"code": status, "message": "no"}
    stage.provider.on_create(REVID, says(body, status))
    told: list[str] = []
    async with stage.serve() as service:
        services = service.app.state.services
        service.app.state.services = replace(services, store=Untold(services.store, told))
        task = await service.order(REVID.order())
        assert (told, task["state"]) == (["unknown"], state)
        assert not any("callback" in notice for notice in task["notices"])
        assert len(task["notices"]) == (state == "queued")
        [(gaps,)] = service.database.rows("SELECT gaps FROM task")
        assert gaps == (state == "queued")


@dataclass(frozen=True)
class Stopped:
    """A store that takes the order and says that nobody knows whether it did, and then nothing more: it is stopped."""

    whole: Store
    taken: list[str]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    async def write(self, unit: Callable[[Any], Any]) -> Any:
        if self.taken:
            raise StoreUnavailable("the database does not answer")
        await self.whole.write(unit)
        self.taken.append("order")
        raise OutcomeUnknown("the database does not answer")


@pytest.mark.row("B11")
async def test_an_order_without_a_key_whose_caller_was_refused_is_not_sent_by_the_next_start_either(
    stage: Stage,
) -> None:
    async with stage.serve(DEADLINE="60") as service:
        services = service.app.state.services
        service.app.state.services = replace(services, store=Stopped(services.store, []))
        assert (await service.post("/api/tasks", REVID.order())).status_code == 503
    async with stage.serve(DEADLINE="60") as service:
        [(task_id, state)] = service.database.rows("SELECT id, state FROM task")
        assert state == "queued"
        await service.poll_after(50)
        assert stage.provider.bought() == [], "its caller has ordered it again"
        await service.poll_after(20)
        task = await service.task(task_id)
        assert (task["state"], task["error"]["code"]) == ("expired", "never_sent")
        assert stage.provider.bought() == []


async def test_an_order_with_a_key_whose_caller_was_refused_is_sent_by_the_next_start(stage: Stage) -> None:
    async with stage.serve() as service:
        services = service.app.state.services
        service.app.state.services = replace(services, store=Stopped(services.store, []))
        assert (await service.post("/api/tasks", REVID.order(), Idempotency_Key="k")).status_code == 503
    async with stage.serve() as service:
        await service.poll_after(300)
        answer = await service.post("/api/tasks", REVID.order(), Idempotency_Key="k")
        assert (answer.status_code, answer.json()["state"]) == (200, "submitted")
        assert len(stage.provider.bought()) == 1


async def test_an_order_without_a_key_that_waits_for_its_place_is_sent_after_a_stop(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller was told that it is stored."""
    stopped = asyncio.Event()

    async def waits(*_: object) -> None:
        await stopped.wait()

    async with stage.serve(TIMEOUT="0.2") as service:
        monkeypatch.setattr("receiver.tasks.submission.attempt", waits)
        assert (await service.post("/api/tasks", REVID.order())).status_code == 201
        stopped.set()
    async with stage.serve() as service:
        await service.poll_after(300)
        assert service.database.rows("SELECT state FROM task") == [("submitted",)]
