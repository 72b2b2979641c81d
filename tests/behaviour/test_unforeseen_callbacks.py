"""Whatever an adapter does with a callback, its bytes are stored and it is answered; and beyond a bound nobody asks."""

from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from receiver.core.messages import Event
from receiver.core.states import State
from tests.behaviour.families import GATEWAY, REVID
from tests.behaviour.provider import says
from tests.behaviour.service import Service, Stage

pytestmark = pytest.mark.anyio

ID, URL = "remote-1", "https://cdn.example.com/out.mp4"
KEPT = 100


class Faulty:
    """A provider's adapter, one of whose methods is another one."""

    def __init__(self, adapter: Any, method: str, instead: Callable[[Any], Any]) -> None:
        self.adapter = adapter
        self.method = method
        self.instead = instead

    def __getattr__(self, name: str) -> Any:
        return self.instead if name == self.method else getattr(self.adapter, name)


def break_adapter(service: Service, account: str, method: str, instead: Callable[[Any], Any]) -> None:
    providers = service.app.state.services.providers
    providers[account] = Faulty(providers[account], method, instead)


def raising(error: Exception) -> Callable[[Any], Any]:
    def method(_: Any) -> Any:
        raise error

    return method


ERRORS = [
    KeyError("data"),
    TypeError("no"),
    RecursionError(),
    MemoryError(),
    AssertionError(),
    UnicodeError("x"),
    StopIteration(),
]


@pytest.mark.parametrize("method", ["verify", "read"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_an_adapter_that_raises_costs_no_callback(error: Exception, method: str, stage: Stage) -> None:
    async with stage.serve() as service:
        stage.provider.on_create(REVID, says(REVID.accepted(ID)))
        stage.provider.on_check(REVID, says(REVID.done(ID, URL)))
        task = await service.order(REVID.order())
        break_adapter(service, "revid", method, raising(error))
        with capture_logs() as logged:
            answer = await service.deliver(service.link(task["id"]), b'{"some": "thing"}')
        assert (answer.status_code, answer.json()) == (200, {"outcome": "unreadable"})
        assert service.database.rows("SELECT outcome, body FROM delivery") == [("unreadable", b'{"some": "thing"}')]
        [fault] = [entry for entry in logged if entry["event"] == "callback_not_read"]
        assert fault["exc_info"], "the log has the traceback"
        task = await service.until_state(task["id"], "succeeded")
        assert any(type(error).__name__ in words for words in task["notices"])


NONSENSE: list[Any] = [
    None,
    "done",
    Event("succeeded"),  # type: ignore[arg-type]
    Event(State.RUNNING, progress="half"),  # type: ignore[arg-type]
    Event(State.RUNNING, remote_id=b"x"),  # type: ignore[arg-type]
    Event(State.RUNNING, remote_state="\ud800"),
    Event(State.FAILED, charged=2**80),
    Event(State.SUCCEEDED, result=object()),
]


@pytest.mark.parametrize("event", NONSENSE, ids=range(len(NONSENSE)))
async def test_an_event_that_makes_no_sense_costs_no_callback(event: Any, stage: Stage) -> None:
    async with stage.serve() as service:
        stage.provider.on_create(REVID, says(REVID.accepted(ID)))
        task = await service.order(REVID.order())
        break_adapter(service, "revid", "read", lambda _: event)
        answer = await service.deliver(service.link(task["id"]), b"something")
        assert answer.status_code == 200, answer.text
        assert service.database.rows("SELECT body, count(*) FROM delivery") == [(b"something", 1)]


async def test_beyond_the_bound_callbacks_are_counted_and_cause_no_request_at_once(stage: Stage) -> None:
    async with stage.serve() as service:
        stage.provider.on_create(GATEWAY, says(GATEWAY.accepted(ID)))
        task = await service.order(GATEWAY.order())
        for number in range(KEPT):
            await service.call_back(task["id"], GATEWAY.working(ID) if number else b"?")
        await service.until_checked(task["id"])
        asked = len(stage.provider.asked())
        for body in (b"?", GATEWAY.done(ID), b"?"):
            await service.call_back(task["id"], body)
        await service.app.state.services.background.drain(10)
        assert len(stage.provider.asked()) == asked
        assert (await service.task(task["id"]))["next_check_at"] is not None, "it is asked about in its time"
        assert service.database.rows("SELECT count(*), unstored FROM delivery, task") == [(KEPT, 3)]
        stage.provider.on_check(GATEWAY, says(GATEWAY.done(ID, URL)))
        await service.poll_when_due(task["id"])
        assert (await service.task(task["id"]))["state"] == "succeeded"


async def test_a_second_callback_while_the_provider_is_asked_is_asked_about_too(stage: Stage) -> None:
    """Also where nothing is swept, and whoever asks does not know of it."""
    async with stage.serve(POLL_EVERY="3600", POLL_MAX="3600") as service:
        stage.provider.on_create(REVID, says(REVID.accepted(ID)))
        task = await service.order(REVID.order())
        now = stage.clock.now
        with service.database.connected() as connection:  # somebody else asks
            connection.execute("UPDATE task SET claim = claim + 1, leased_until = ?", (now + 30_000,))
        stage.provider.on_check(REVID, says(REVID.done(ID, URL)))
        assert await service.call_back(task["id"], b"?") == "unreadable"
        for _ in range(5):  # writes are made in turn: by then it was tried to claim it
            await service.app.state.services.store.write(lambda _: None)
        assert stage.provider.asked() == []
        with service.database.connected() as connection:
            connection.execute("UPDATE task SET leased_until = NULL")
        await service.until_state(task["id"], "succeeded")
        assert len(stage.provider.asked()) == 1
