"""Reads the recorded messages and drives a provider's generators with them."""

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
from pydantic import SecretStr

from receiver.core import errors
from receiver.core.messages import Callback, Event, Order, Remote
from receiver.providers import FAMILIES
from receiver.providers.base import Flow, HasBalance, Provider

T = TypeVar("T")

HERE = Path(__file__).parent
ANY = "_any"
API_KEY = "the-api-key"

OUTCOMES = (errors.Refused, errors.KeyConflict, errors.Busy, errors.Unconfirmed, errors.Unreadable)
"""Everything that may come out of a provider besides an event."""


@dataclass(frozen=True)
class Recording:
    """One message and what it means."""

    folder: str
    name: str
    start: str
    headers: Mapping[str, str]
    body: bytes
    meaning: Mapping[str, Any]

    @property
    def direction(self) -> str:
        return str(self.meaning["direction"])

    @property
    def error(self) -> str | None:
        """The name of the error that it is."""
        error: str | None = self.meaning.get("raises", {}).get("error")
        return error

    @property
    def state(self) -> str | None:
        """The state that it tells."""
        state: str | None = self.meaning.get("event", {}).get("state")
        return state

    def response(self) -> httpx.Response:
        """Give it as the answer to a request."""
        return httpx.Response(int(self.start.split()[1]), headers=dict(self.headers), content=self.body)

    def callback(self) -> Callback:
        """Give it as a request to us."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Callback(headers, self.body, received_at=self.meaning.get("received_at", 0))


def read(path: Path) -> Recording:
    """Read one message and its meaning."""
    head, _, body = path.read_bytes().partition(b"\r\n\r\n")
    start, *lines = head.decode("ascii").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    meaning = json.loads(path.with_suffix(".json").read_text("utf-8"))
    return Recording(path.parent.name, path.stem, start, headers, body, meaning)


def recorded(folder: str) -> list[Recording]:
    """Read every message of a folder; of one that is not there, none."""
    return [read(path) for path in sorted((HERE / folder).glob("*.http"))]


def account(family: str, **settings: Any) -> Provider:
    """Make a family's provider with the settings of its folder, and others."""
    file = HERE / family / "account.json"
    given = json.loads(file.read_text("utf-8")) if file.exists() else {}
    kind = FAMILIES[family]
    return kind(family, kind.config_type(**{"api_key": SecretStr(API_KEY), **given, **settings}))


def order(**changes: Any) -> Order:
    """Make an order that no family knows a model for."""
    plain: dict[str, Any] = {
        "task_id": "tsk_example",
        "model": "some-model",
        "input": {"prompt": "x"},
        "fill_defaults": False,
    }
    return Order(**plain | changes)


def submitting(provider: Provider, *, callback_url: str | None = None, **changes: Any) -> Flow[Event]:
    """Begin to submit such an order."""
    return provider.submit(order(**changes), callback_url, "attempt-1")


def asking(provider: Provider, remote_id: str = "remote-1") -> Flow[Event]:
    """Begin to ask about a task."""
    return provider.status(Remote(remote_id, "some-model"))


def weighing(provider: Provider) -> Flow[float]:
    """Begin to ask for the balance."""
    assert isinstance(provider, HasBalance)
    return provider.balance()


def asked(flow: Generator[httpx.Request, httpx.Response, Any]) -> httpx.Request:
    """Take the request that a flow begins with."""
    return next(flow)


def answered(flow: Generator[httpx.Request, httpx.Response, T], response: httpx.Response) -> T:
    """Answer a flow's only request; raises what the answer means."""
    next(flow)
    try:
        flow.send(response)
    except StopIteration as stop:
        told: T = stop.value
        return told
    raise AssertionError("it asked for more than one answer")


def told(event: Event) -> dict[str, Any]:
    """Spell an event as the recordings do: without what is None or empty, its notices counted."""
    spelled = {
        "state": event.state and event.state.value,
        "remote_id": event.remote_id,
        "remote_state": event.remote_state,
        "progress": event.progress,
        "outputs": [{"url": output.url, "kind": output.kind} for output in event.outputs] or None,
        "result": event.result,
        "error": event.error and {"code": event.error.code, "message": event.error.message},
        "reserved": event.reserved,
        "charged": event.charged,
        "ended_at": event.ended_at,
        "found_at": event.found_at,
        "notices": len(event.notices) or None,
    }
    return {name: value for name, value in spelled.items() if value is not None or name == "state"}
