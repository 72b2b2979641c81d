"""Both clients with a real service in the sandbox, which is killed and comes back."""

import hashlib
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import UnionType
from typing import Any, NotRequired, get_args, get_origin, get_type_hints

import httpx
import pytest

from receiver.client import (
    SETTLED,
    AsyncClient,
    Client,
    Conflict,
    Invalid,
    NotFound,
    Output,
    State,
    Task,
    Unauthorized,
    results,
)
from receiver.core import states
from receiver.web.api.openapi import SCHEMAS
from tests.cli.rig import QUICK, Home, Served, serving
from tests.measuring import HANG

from .rig import Either

REVID = ("revid", "sora-2-text-to-video")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A sandbox service with short times."""
    with serving(Home(tmp_path_factory.mktemp("served"), dict(QUICK))) as served:
        yield served


@pytest.fixture
def home(served: Served) -> Home:
    """The home of the running service, which has its address and token."""
    return served.home


def prompt(knobs: str) -> dict[str, str]:
    return {"prompt": f"A paper boat [sandbox: {knobs}]"}


def test_a_task_goes_its_way(call: Either, home: Home) -> None:
    key = f"order-{call.kind.__name__}"
    done = call(home, "submit", *REVID, prompt("after=0.2"), key=key, wait=HANG, metadata={"made by": key})
    assert (done["state"], done["settled_by"], done["sandbox"]) == ("succeeded", "callback", True)
    assert call(home, "get", done["id"])["outputs"][0]["kind"] == "video"
    assert call(home, "submit", *REVID, prompt("after=0.2"), key=key, metadata={"made by": key})["id"] == done["id"]
    listed = call(home, "list", state="succeeded", metadata={"made by": key}, since=datetime.now(UTC) - timedelta(1))
    assert [task["id"] for task in listed] == [done["id"]]
    assert {event["kind"] for event in call(home, "history", done)} >= {"move", "attempt", "delivery"}
    again = call(home, "retry", done, key=f"again-{key}")
    assert (again["retry_of"], call(home, "wait", again)["state"]) == (done["id"], "succeeded")
    assert call(home, "track", *REVID, f"bought-{key}")["remote_id"] == f"bought-{key}"
    assert "revid" in [provider["name"] for provider in call(home, "providers")]


def test_more_tasks_than_a_page_holds_are_listed_one_by_one(call: Either, home: Home) -> None:
    batch = call.kind.__name__
    ordered = [
        call(home, "submit", *REVID, prompt(f"after=0.1 {number}"), metadata={"batch": batch})["id"]
        for number in range(3)
    ]
    found = call(home, "list", metadata={"batch": batch})
    assert [task["id"] for task in found] == ordered[::-1]
    assert len(call(home, "list", metadata={"batch": batch}, limit=2)) == 2


def test_an_unconfirmed_task_is_resolved_by_hand(call: Either, home: Home) -> None:
    lost, bought = (call(home, "submit", *REVID, prompt("submit=break after=600 callback=drop")) for _ in range(2))
    assert (lost["state"], bought["state"]) == ("unconfirmed", "unconfirmed")
    closed = call(home, "not_bought", lost)
    assert (closed["state"], closed["settled_by"], closed["error"]["code"]) == ("failed", "hand", "not_bought")
    remote_id = f"found-{call.kind.__name__}"
    assert call(home, "adopt", bought, remote_id)["remote_id"] == remote_id
    with pytest.raises(Conflict):
        call(home, "adopt", lost, "another")


def test_what_is_refused_is_raised_under_its_name(call: Either, home: Home) -> None:
    with pytest.raises(NotFound, match="no task"):
        call(home, "get", "tsk_none")
    with pytest.raises(Conflict):
        call(home, "cancel", call(home, "submit", *REVID, prompt("after=600")))
    with pytest.raises(Invalid) as invalid:
        call(home, "submit", *REVID, {"prompt": "A boat", "n_frames": "12"})
    assert invalid.value.errors[0]["loc"] == ["input", "n_frames"]
    for kind in (Client, AsyncClient):
        stranger = kind(home.url, f"{home.token()}x", timeout=HANG)
        if isinstance(stranger, Client):
            with pytest.raises(Unauthorized, match="token"), stranger:
                stranger.get("tsk_none")


def test_waiting_and_ordering_survive_a_service_that_is_killed_and_comes_back(
    tmp_path: Path,
) -> None:
    call, home = Either(Client), Home(tmp_path, dict(QUICK))
    ended: list[Task] = []
    with serving(home) as before:
        task = call(home, "submit", *REVID, prompt("after=1.5 callback=drop"))
        waiter = threading.Thread(target=lambda: ended.append(call(home, "wait", task)))
        waiter.start()
        before.stop(signal.SIGKILL)
        orderer = threading.Thread(target=lambda: ended.append(call(home, "submit", *REVID, prompt("after=0.1"))))
        orderer.start()
    with serving(home, PORT=home.settings["PORT"]):
        waiter.join(HANG)
        orderer.join(HANG)
        assert sorted(each["id"] == task["id"] for each in ended) == [False, True]
        (waited,) = [each for each in ended if each["id"] == task["id"]]
        assert waited["state"] in states.SETTLED
        assert len(call(home, "list")) == 2, "nothing was ordered twice"


def names(kind: type) -> set[str]:
    return set(get_type_hints(kind))


def test_the_types_have_every_field_that_the_service_sends() -> None:
    for kind, schema in (
        (Task, "Task"),
        (Output, "OutputDocument"),
        (results.TaskError, "ErrorDocument"),
        (results.Credits, "CreditsDocument"),
        (results.Evidence, "EvidenceDocument"),
        (results.HistoryEvent, "HistoryEvent"),
    ):
        assert set(SCHEMAS[schema]["properties"]) <= names(kind), schema
    assert set(get_args(State)) == set(states.State)
    assert set(SETTLED) == states.SETTLED


def test_what_the_service_may_leave_empty_may_be_none() -> None:
    def may_be_null(schema: dict[str, Any]) -> bool:
        kinds = [each.get("type") for each in schema.get("anyOf", [schema])]
        return any(kind == "null" or (isinstance(kind, list) and "null" in kind) for kind in kinds)

    hints = get_type_hints(Task, include_extras=True)
    for name, schema in SCHEMAS["Task"]["properties"].items():
        hint = get_args(hints[name])[0] if get_origin(hints[name]) is NotRequired else hints[name]
        nullable = hint is Any or type(None) in get_args(hint)
        if may_be_null(schema) and name not in ("created_at", "updated_at"):  # null in no task
            assert nullable, name
    assert isinstance(hints["progress"], UnionType)


def test_files_are_downloaded_and_linked_when_they_are_archived(call: Either, home: Home, tmp_path: Path) -> None:
    made = call(home, "submit", *REVID, prompt("after=0.1"))
    (path,) = call(home, "download", made, tmp_path, seconds=HANG)
    (output,) = call(home, "get", made)["outputs"]
    assert output["archive"] == "stored"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == output["stored"]["sha256"]
    assert path.name.startswith(made["id"])
    link = call(home, "link", made, 0, 60)
    assert httpx.get(link["url"], timeout=HANG, trust_env=False).content == path.read_bytes()
    assert datetime.fromisoformat(link["expires_at"]) > datetime.now(UTC)
    with pytest.raises(NotFound, match="no output 7"):
        call(home, "link", made, 7)
    with pytest.raises(Invalid):
        call(home, "link", made, 0, 0)


def test_changes_are_told_and_none_is_missed_between_two_readers(call: Either, home: Home) -> None:
    call(home, "submit", *REVID, prompt("after=600"))
    (first,) = call.first(1, home, "events", "0")
    made = call(home, "submit", *REVID, prompt("after=0.1"), wait=HANG)
    seen = [first]
    while seen[-1].task is None or (seen[-1].task["id"], seen[-1].task["state"]) != (made["id"], "succeeded"):
        seen += call.first(1, home, "events", seen[-1].id)
    assert [event.kind for event in seen[1:]] == ["task"] * (len(seen) - 1)
    numbers = [int(event.id) for event in seen]
    assert numbers == sorted(set(numbers))
    (ahead,) = call.first(1, home, "events", str(numbers[-1] + 10**9))
    assert (ahead.kind, ahead.task) == ("reset", None)


def test_what_a_person_should_look_at_is_listed_until_they_acknowledge_it(call: Either, home: Home) -> None:
    made = call(home, "submit", *REVID, prompt("submit=break after=600 callback=drop"))
    (item,) = [each for each in call(home, "attention")["items"] if each["task"]["id"] == made["id"]]
    assert (item["reason"], item["task"]["state"]) == ("unconfirmed", "unconfirmed")
    assert item["advice"]
    assert call(home, "attention")["counts"]["unconfirmed"] >= 1
    assert call(home, "acknowledge", made)["id"] == made["id"]
    assert made["id"] not in [each["task"]["id"] for each in call(home, "attention")["items"]]
