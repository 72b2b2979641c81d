"""The calls of the API, each written once for both clients: it builds its request and reads the answer.

A method here is a generator of steps, or returns one: `steps` says what that is, `kinds` how it becomes a method.
"""

import builtins
import os
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from receiver.client import feed, files
from receiver.client.kinds import call, stream
from receiver.client.results import Attention, FeedEvent, HistoryEvent, Link, Provider, State, Task
from receiver.client.steps import Item, Outage, Request, Steps, StepsWithItems, fetch_object
from receiver.client.tasks import fetch_task, path_of, require_field, wait_for

KEY = "Idempotency-Key"
PAGE = 200
"""Tasks that one request lists at most."""
Query = builtins.list[tuple[str, str]]


class Calls:
    """What both clients can do. A task is given by its id or its document.

    A service that is unreachable or unavailable is tried again for `patience` seconds, where that is safe.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience

    @call
    def submit(
        self,
        provider: str,
        model: str,
        input: Mapping[str, Any],  # noqa: A002 - the API's word
        *,
        key: str | None = None,
        wait: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        validate: bool = True,
        notify_url: str | None = None,
    ) -> Steps[Task]:
        """Submit a task; with `wait`, return it when it is settled, or as it is after so many seconds.

        `key` is an idempotency key: the same order under the same key buys only once. Without one each call buys, but
        a lost answer does not buy twice: the request is repeated under a random key.
        """
        body: dict[str, Any] = {"provider": provider, "model": model, "input": dict(input)}
        body |= {"metadata": dict(metadata)} if metadata else {}
        body |= {} if validate else {"validate": False}
        body |= {} if notify_url is None else {"notify_url": notify_url}
        task = yield from fetch_task(_order(body, key), self.patience)
        return (yield from wait_for(task, wait, self.patience)) if wait else task

    @call
    def track(
        self,
        provider: str,
        model: str,
        remote_id: str,
        *,
        key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Steps[Task]:
        """Follow a task that was bought elsewhere: only status requests are sent."""
        body: dict[str, Any] = {"provider": provider, "model": model, "remote_id": remote_id}
        body |= {"metadata": dict(metadata)} if metadata else {}
        return fetch_task(_order(body, key), self.patience)

    @call
    def get(self, task: str | Task) -> Steps[Task]:
        """Return a task as it is now."""
        return fetch_task(Request("GET", path_of(task)), self.patience)

    @call
    def wait(self, task: str | Task, seconds: float | None = None) -> Steps[Task]:
        """Return a task when it is settled, or as it is after so many seconds; survives a restart of the service."""
        return wait_for(task, seconds, self.patience)

    @call
    def download(
        self, task: str | Task, directory: str | os.PathLike[str], *, seconds: float | None = None
    ) -> Steps[list[Path]]:
        """Write a task's archived files into a directory, and return their paths.

        Waits until the task is settled and its files are archived, at most so many seconds. What can be had is
        written; then `NotFound` says why another cannot.
        """
        return files.download(task, Path(directory), seconds, self.patience)

    @call
    def link(self, task: str | Task, number: int = 0, seconds: float = 3600) -> Steps[Link]:
        """Return a signed link to an archived file, which needs no token for so many seconds."""
        request = Request("POST", path_of(task, "outputs", number, "link"), body={"seconds": seconds})
        document = yield from fetch_object(request, Outage(self.patience))
        return {"url": require_field(document, "url"), "expires_at": require_field(document, "expires_at")}

    @call
    def history(self, task: str | Task) -> Steps[list[HistoryEvent]]:
        """Return what happened to a task, oldest first."""
        document = yield from fetch_object(Request("GET", path_of(task, "history")), Outage(self.patience))
        return cast("list[HistoryEvent]", require_field(document, "events"))

    @call
    def check(self, task: str | Task) -> Steps[Task]:
        """Check a task at its provider now."""
        return fetch_task(Request("POST", path_of(task, "check")), self.patience)

    @call
    def retry(self, task: str | Task, *, key: str | None = None) -> Steps[Task]:
        """Place the same order again as a new task: this buys."""
        return fetch_task(Request("POST", path_of(task, "retry"), headers=_with_key(key)), self.patience)

    @call
    def cancel(self, task: str | Task) -> Steps[Task]:
        """Cancel a task that is still queued."""
        return fetch_task(Request("POST", path_of(task, "cancel"), may_repeat=False), self.patience)

    @call
    def adopt(self, task: str | Task, remote_id: str) -> Steps[Task]:
        """Follow an unconfirmed task under the id that you found at the provider."""
        return _resolve(task, {"remote_id": remote_id}, self.patience)

    @call
    def not_bought(self, task: str | Task) -> Steps[Task]:
        """Close an unconfirmed task that was never bought: you looked at the provider."""
        return _resolve(task, {"not_bought": True}, self.patience)

    @call
    def acknowledge(self, task: str | Task) -> Steps[Task]:
        """Take a task off the attention list until something new happens to it."""
        return fetch_task(Request("POST", path_of(task, "acknowledge")), self.patience)

    @call
    def attention(self) -> Steps[Attention]:
        """Return what a person should look at, most costly first."""
        document = yield from fetch_object(Request("GET", "/api/attention"), Outage(self.patience))
        return {"items": require_field(document, "items"), "counts": require_field(document, "counts")}

    @call
    def providers(self) -> Steps[list[Provider]]:
        """Return the provider accounts, their models and prices."""
        document = yield from fetch_object(Request("GET", "/api/providers"), Outage(self.patience))
        return cast("list[Provider]", require_field(document, "providers"))

    @stream
    def events(self, last_id: str | None = None) -> StepsWithItems[FeedEvent]:
        """Yield the changes of all tasks, after the event with this id or from now on; connects again by itself."""
        return feed.follow(last_id, self.patience)

    @stream
    def list(
        self,
        *,
        state: State | Iterable[State] = (),
        provider: str | None = None,
        model: str | None = None,
        q: str | None = None,
        metadata: Mapping[str, str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> StepsWithItems[Task]:
        """Yield tasks, newest first, at most `limit`; `q` is part of a prompt, id or remote id."""
        query: Query = [("state", each) for each in ([state] if isinstance(state, str) else state)]
        query += _given({"provider": provider, "model": model, "q": q})
        query += [(f"metadata.{name}", value) for name, value in (metadata or {}).items()]
        query += _given({"since": _write_time("since", since), "until": _write_time("until", until)})
        return _list(query, limit, self.patience)


def _list(query: Query, limit: int | None, patience: float) -> StepsWithItems[Task]:
    """Give tasks page by page."""
    left, cursor = float("inf") if limit is None else limit, _given({})
    while left > 0:
        request = Request("GET", "/api/tasks", (*query, ("limit", str(min(left, PAGE))), *cursor))
        document = yield from fetch_object(request, Outage(patience))
        for task in require_field(document, "tasks"):
            yield Item(cast("Task", task))
            left -= 1
        following = require_field(document, "next")
        if following is None:
            return
        cursor = [("cursor", following)]


def _given(values: Mapping[str, str | None]) -> Query:
    return [(name, value) for name, value in values.items() if value is not None]


def _write_time(name: str, moment: datetime | None) -> str | None:
    if moment is not None and moment.tzinfo is None:
        raise ValueError(f"{name}: must have a time zone, such as that of datetime.now(UTC)")
    return None if moment is None else moment.isoformat()


def _order(body: Mapping[str, Any], key: str | None) -> Request:
    return Request("POST", "/api/tasks", body=body, headers=_with_key(key))


def _with_key(key: str | None) -> dict[str, str]:
    """Return the header of an order that may be repeated: without a key of the caller's, under a random one."""
    return {KEY: uuid.uuid4().hex if key is None else key}


def _resolve(task: str | Task, body: Mapping[str, Any], patience: float) -> Steps[Task]:
    return fetch_task(Request("POST", path_of(task, "adopt"), body=body, may_repeat=False), patience)
