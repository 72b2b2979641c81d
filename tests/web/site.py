"""The pages over a database of their own, a browser that is logged in, and a reader of what it is shown."""

import itertools
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr
from starlette.applications import Starlette

from receiver.config.settings import Settings
from receiver.core.errors import StoreUnavailable
from receiver.core.ids import new_id
from receiver.core.states import State
from receiver.core.wire import clean_text
from receiver.outbound.client import Outbound
from receiver.providers import CONFIG_TYPES
from receiver.services import Services
from receiver.store import Store, Transaction, attention, journal, reading, tasks
from receiver.store.engine import sqlite_module
from receiver.store.reading import Filter
from receiver.store.tables import Task, as_json
from receiver.web.body_budget import BodyBudget
from receiver.web.pages.login_throttle import LoginThrottle
from receiver.web.pages.routes import ROUTES

NOW = 1_790_000_000_000
TOKEN = "the-api-token-of-the-tests"
KEY = "the-signing-key-of-the-tests"
ORIGIN = "http://receiver.example"
REVID = "/new?provider=revid&model=sora-2-text-to-video"
REAL = {"REVID_API_KEY": "revid-key-of-the-tests", "RECEIVER_PUBLIC_URL": "https://hooks.example.com/rx"}


class Page(HTMLParser):
    """One page as a browser reads it: its elements, the fields of its forms, its text."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.shape: list[tuple[str, list[str]]] = []
        """Every tag, also the closing ones, with the names of its attributes: what of a page is no text."""
        self.forms: dict[str, dict[str, str]] = {}
        self.text = ""
        self._form: dict[str, str] = {}
        self._area: str | None = None
        self.feed(answer.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.elements.append((tag, given))
        self.shape.append((tag, sorted(given)))
        if tag == "form":
            self._form = self.forms.setdefault(given["action"], {})
        elif tag == "input" and "name" in given and given.get("type") != "checkbox":
            self._form[given["name"]] = given.get("value", "")
        elif tag == "select":
            self._select = given["name"]
            self._form[self._select] = ""
        elif tag == "option" and "selected" in given:
            self._form[self._select] = given.get("value", "")
        elif tag == "textarea":
            self._area = given["name"]
            self._form[self._area] = ""

    def handle_endtag(self, tag: str) -> None:
        self.shape.append((f"/{tag}", []))
        if tag == "textarea" and self._area is not None:
            self._form[self._area] = self._form[self._area].removeprefix("\n")  # as HTML wants it
            self._area = None

    def handle_data(self, data: str) -> None:
        if self._area is not None:
            self._form[self._area] += data
        self.text += data

    def all(self, attribute: str) -> list[str]:
        return [given[attribute] for _, given in self.elements if attribute in given]


class Told(Outbound):
    """Answers every request as Revid would, without a network; counts those that buy."""

    def __init__(self) -> None:
        super().__init__(1, lambda: NOW)
        self.bought: list[Any] = []
        self.asked = 0

    async def run(self, account: str, flow: Any, *, on_answer: Any, before_paid: Any = None) -> Any:  # noqa: ARG002
        request = next(flow)
        self.asked += 1
        if request.extensions.get("paid"):
            request = await before_paid(request)
            self.bought.append(json.loads(request.content))
        data = {"taskId": f"remote-{len(self.bought)}", "state": "waiting"}
        response = httpx.Response(200, json={"code": 200, "data": data})
        on_answer(response)
        try:
            flow.send(response)
        except StopIteration as done:
            return done.value
        raise AssertionError("one request is enough")


class Gone(Store):
    """A database that is away; of a write it may be unknown whether it was stored."""

    def __init__(self, error: StoreUnavailable | None = None) -> None:
        self.error = error or StoreUnavailable("the database is away")

    async def read(self, query: Any) -> Any:  # noqa: ARG002 - as Store has it
        raise StoreUnavailable("the database is away")

    async def write(self, unit: Any) -> Any:  # noqa: ARG002 - likewise
        raise self.error


@dataclass
class Site:
    """The pages over a database of their own, and a browser that is logged in."""

    app: Starlette
    services: Services
    browser: httpx.AsyncClient
    outbound: Told = field(default_factory=Told)

    async def page(self, path: str, status: int = 200) -> Page:
        answer = await self.browser.get(path)
        assert answer.status_code == status, answer.text
        return Page(answer)

    async def post(self, path: str, form: dict[str, str], **headers: str) -> httpx.Response:
        return await self.browser.post(path, data=form, headers=headers)

    async def add(self, state: State, **values: Any) -> str:
        """Put a task into the database as it stands in some state."""
        task_id = new_id(NOW - values.pop("age", 0))
        row = _ROW | {"id": task_id, "state": state.value} | values

        def unit(tx: Transaction) -> None:
            tasks.insert_task(tx, row)
            if state in (State.UNCONFIRMED, State.EXPIRED):
                attention.raise_reason(tx, task_id, state.value, row["updated_at"])

        await self.services.store.write(unit)
        return task_id

    def content(self) -> dict[str, list[Any]]:
        """Everything in the database, as another process reads it."""
        connection = sqlite_module().connect(self.services.settings.database.removeprefix("sqlite:///"))
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {name: sorted(connection.execute(f"SELECT * FROM {name}")) for name in names}  # noqa: S608 - our own
        connection.close()
        return found

    async def tasks(self) -> list[Task]:
        return await self.services.store.read(lambda session: reading.listing(session, Filter()))


_ROW: dict[str, Any] = {
    "provider": "revid",
    "model": "sora-2-text-to-video",
    "input": as_json({"prompt": "a boat"}),
    "prompt": "a boat",
    "validated": True,
    "metadata": "{}",
    "notices": "[]",
    "created_at": NOW - 60_000,
    "updated_at": NOW,
    "token_seen": False,
    "may_have_cost": False,
    "callback_url": True,
    **dict.fromkeys(("claim", "attempts", "checks", "deliveries", "unstored", "empties", "gaps"), 0),
}


@asynccontextmanager
async def opened(
    empty: Path, directory: Path, environ: dict[str, str], *, clock: Callable[[], int] = lambda: NOW, **more: Any
) -> AsyncIterator[Site]:
    """Open the pages; `more` are settings as they stand in `Settings`."""
    secrets = {"api_tokens": (SecretStr(TOKEN),), "secret_keys": (SecretStr(KEY),), "data_dir": directory} | more
    settings = Settings.load(environ, CONFIG_TYPES).model_copy(update=secrets)
    shutil.copy(empty, settings.database.removeprefix("sqlite:///"))
    outbound = Told()
    services = replace(Services.open(settings, clock=clock), outbound=outbound)
    app = Starlette(routes=ROUTES)
    app.state.services = services
    app.state.body_budget = BodyBudget()
    app.state.login_throttle = LoginThrottle()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN) as browser:
        entered = await browser.post("/login", data={"password": TOKEN})
        assert entered.status_code == 303
        yield Site(app, services, browser, outbound)
    await services.close()


def stranger(site: Site, origin: str = ORIGIN, *, client: tuple[str, int] = ("127.0.0.1", 123)) -> httpx.AsyncClient:
    """A browser that is not logged in, at an address of its own."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(site.app, client=client), base_url=origin)


_NUMBERS = itertools.count()


async def tell(site: Site, words: str, url: str) -> str:
    """Put a task into the database about which a stranger's words are everywhere."""
    task_id = await site.add(
        State.SUCCEEDED,
        prompt=clean_text(words),
        model=clean_text(words),
        input=as_json({"prompt": words}),
        metadata=as_json({words: words}),
        remote_id=f"{clean_text(words)} {next(_NUMBERS)}",  # no two tasks have the same
        remote_state=clean_text(words),
        error_code=clean_text(words),
        error_message=clean_text(words),
        notices=as_json([words]),
        result=as_json({words: words}),
        settled_by="callback",
        finished_at=NOW,
    )

    def unit(tx: Transaction) -> None:
        tasks.insert_outputs(tx, task_id, [{"url": clean_text(url), "kind": "video", "expires_at": None}])
        journal.note(tx, task_id, NOW, "note", {words: words})
        why = {"code": words, "message": f"{ORIGIN}/callbacks/revid/{task_id}.signature"}
        journal.note(tx, task_id, NOW, "move", {"from": words, "to": words, "via": words, "error": why})
        journal.add_delivery(
            tx,
            history_id=journal.note(tx, task_id, NOW, "delivery"),
            task_id=task_id,
            provider="revid",
            received_at=NOW,
            headers=as_json({"x-words": words, "authorization": "Bearer secret"}),
            body=words.encode("utf-8", "surrogatepass") + f" {ORIGIN}/callbacks/revid/{task_id}.signature".encode(),
            outcome="applied",
        )

    await site.services.store.write(unit)
    return task_id
