"""PostgreSQL and SQLite answer alike, whatever anybody writes anywhere: one script on both, every answer compared."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import create_engine, text

from receiver.config.addresses import check_database_url
from receiver.store import schema
from tests.behaviour.families import GATEWAY, REVID, RIVYA
from tests.behaviour.provider import says
from tests.behaviour.service import Service, staged
from tests.system import postgres

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.row("G7"),
    pytest.mark.skipif(postgres.binaries() is None, reason="SKIPPED, NOT TESTED: no PostgreSQL binaries"),
]

TEXTS = {
    "nothing but NUL": "\0",
    "NUL": "a\0b",
    "half a character": "x\ud83d",
    "a half behind a whole": "🎬\udcff",
    "both": "\0\ud800\0",
    "a bell and an escape": "\x1b[31m\x07",
    "line ends": "a\r\nb\u2028c\u0085d",
    "a statement": "'; DROP TABLE task; --",
    "a place for a value": "%s %(name)s :name ? $1 {}",
    "signs of LIKE": "100%_\\",
    "quotes": '"\'`\\"',
    "a word of JSON": "null",
    "a truth": "true",
    "a number": "7",
    "a list": "[1]",
    "a path": "../../etc/passwd",
    "blanks": " \t\u00a0",
    "from right to left": "\u202egpj.exe",
    "a byte order mark": "\ufeffx",
    "no character": "\uffff\ufffe",
    "another script": "Ünïcödé 漢字 🎬",
    "long": "é" * 3000,
}
NUMBERS: list[Any] = [
    7,
    7.0,
    -0.0,
    0,
    2**63,
    2**70,
    -(2**70),
    1e22,
    1e-7,
    1.5,
    1e308,
    0.1 + 0.2,
    True,
    False,
    None,
    "7",
]
TASK_ID = re.compile(r"(tsk_[0-9a-z]{26})(\.[\w.-]+)?")
"""A task's id, and its signature in a link."""
LEFT_OUT = {"next_check_at", "id", "key"}
"""What differs from run to run: jitter, and ids that are counted over rolled back transactions, too."""

Answers = list[tuple[str, int, Any]]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres.server() as url:
        yield url


@pytest.fixture
def url(server: str) -> str:
    """An empty, migrated database."""
    engine = create_engine(check_database_url(server), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    schema.migrate(check_database_url(server))
    return server


class Script:
    """Asks one service one thing after the other, and keeps what it answered."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.answers: Answers = []
        self._ids: dict[str, str] = {}

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        content = json.dumps(body).encode() if body is not None and not isinstance(body, bytes) else body
        answer = await self.service.client.request(method, path, content=content, **more)
        try:
            document = answer.json()
        except ValueError:
            document = None
        background = self.service.app.state.services.background
        while background._running:  # what an answer has caused is a part of it
            await asyncio.wait(background._running)
        asked = self._alike(f"{method} {path[:60]}")
        is_tracked = (
            isinstance(body, dict) and "remote_id" in body
        )  # a check is begun, which may be faster than its answer
        self.answers.append((asked, answer.status_code, None if is_tracked else self._alike(document)))
        return document

    def _alike(self, value: Any) -> Any:
        """Take out what two runs on one database would not share, either."""
        if isinstance(value, dict):
            kept = {name: each for name, each in value.items() if name not in LEFT_OUT}
            return {self._alike(name): self._alike(each) for name, each in kept.items()}
        if isinstance(value, list):
            return [self._alike(each) for each in value]
        if not isinstance(value, str):
            return repr(value)  # so that 7 is not 7.0, and 1 not True
        known = TASK_ID.sub(lambda found: self._ids.setdefault(found[1], f"task {len(self._ids)}"), value)
        return known.replace(self.service.provider.url, "http://provider")


async def order_and_look(script: Script, odd: str) -> None:
    """An order that is odd everywhere, and every question about it."""
    body = {
        "provider": "gateway",
        "model": odd[:200],
        "input": {"prompt": odd, "extra": {odd: [odd]}, odd: odd},
        "metadata": {"text": odd, odd: 1, f"key {odd}": {odd: odd}},
        "validate": False,
    }
    await script.ask("POST", "/api/tasks", {**body, "provider": odd})
    made = await script.ask("POST", "/api/tasks", body)
    task_id = made.get("id", "tsk_none")
    await script.ask("GET", f"/api/tasks/{task_id}")
    await script.ask("GET", f"/api/tasks/{task_id}/history")
    wire = odd.encode("utf-8", "surrogatepass")
    for name in ("q", "model", "provider", "cursor", "state", "since", "metadata.text", "metadata."):
        await script.ask("GET", f"/api/tasks?{name}={quote(wire[:400])}")
    await script.ask("GET", f"/api/tasks?metadata.{quote(wire[:400])}=1")
    await script.ask("GET", f"/?q={quote(wire[:400])}&metadata.text={quote(wire[:400])}")
    await script.ask("POST", f"/api/tasks/{task_id}/retry", headers={"Idempotency-Key": "retry"})
    await script.ask("POST", f"/api/tasks/{task_id}/adopt", {"remote_id": odd[:512]})


async def name_it_in_paths(script: Script, odd: str) -> None:
    part = quote(odd.encode("utf-8", "surrogatepass")[:400], safe="")
    for path in (
        f"/api/tasks/{part}",
        f"/api/tasks/{part}/history",
        f"/tasks/{part}",
        f"/api/providers/{part}/balance",
    ):
        await script.ask("GET", path)
    for deed in ("check", "retry", "cancel"):
        await script.ask("POST", f"/api/tasks/{part}/{deed}")
    await script.ask("POST", f"/api/tasks/{part}/adopt", {"remote_id": "x"})
    await script.ask("POST", f"/api/tasks/{part}/adopt", {"not_bought": True})
    await script.ask("POST", f"/callbacks/{part}/{part}", b"{}")
    await script.ask("POST", f"/callbacks/revid/{part}", b"{}")


async def track_and_send(script: Script, odd: str) -> None:
    """A task that was bought elsewhere under an odd id, odd keys, and odd bodies and headers of callbacks."""
    for key in (odd[:255], f"key {odd}"[:255]):
        if key.isascii():
            headers = [(b"Idempotency-Key", key.encode())]
            for _ in range(2):
                await script.ask("POST", "/api/tasks", REVID.order(odd[:20]), headers=httpx_headers(headers))
    tracked = await script.ask(
        "POST",
        "/api/tasks",
        {"provider": "gateway", "model": odd[:200], "remote_id": odd[:512], "metadata": {odd: odd}},
    )
    await script.ask("GET", f"/api/tasks/{tracked.get('id', 'tsk_none')}")
    await script.ask("GET", f"/api/tasks?q={quote(odd.encode('utf-8', 'surrogatepass')[:400])}")


async def call_back(script: Script, odd: str) -> None:
    service = script.service
    for number, body in enumerate(
        (
            REVID.failed("revid-{}", odd, odd),
            REVID.done("revid-{}", "https://cdn.example.com/a.mp4", f"https://cdn.example.com/{odd}"),
            {**REVID.waiting("revid-{}"), odd: odd},
            REVID.waiting(odd),
            {"data": {"taskId": odd, "state": odd, "resultJson": odd, "failMsg": odd}},
        )
    ):
        made = await script.ask("POST", "/api/tasks", REVID.order(f"{number}"))
        task = await service.task(made["id"])
        link = service.link(made["id"])
        raw = json.dumps(body).replace("revid-{}", str(task["remote_id"])).encode()
        header = httpx_headers([(b"X-Odd", odd.encode("utf-8", "surrogatepass")[:100])])
        for content in (raw, raw.decode("unicode-escape", "replace").encode("utf-8", "surrogatepass"), b"\0\xff" + raw):
            await script.ask("POST", link, content, headers=header)
        await script.ask("GET", f"/api/tasks/{made['id']}")
        await script.ask("GET", f"/api/tasks/{made['id']}/history")
    account = "/callbacks/rivya/" + service.app.state.services.links.account_url("rivya").rpartition("/")[2]
    for event in (RIVYA.failed(odd, odd, odd), RIVYA.done("x", odd), {odd: odd}):
        await script.ask("POST", account, event)


async def hear_from_the_provider(script: Script, odd: str) -> None:
    """What providers answer to orders and checks."""
    provider = script.service.provider
    provider.on_create(GATEWAY, says({"task_id": odd}), says({"message": odd, "code": odd}, 400))
    provider.on_check(GATEWAY, says(GATEWAY.failed("x", words=odd)))
    for _ in range(2):
        made = await script.ask("POST", "/api/tasks", GATEWAY.order("x"))
        await script.ask("GET", f"/api/tasks/{made['id']}")
        await script.ask("POST", f"/api/tasks/{made['id']}/check")
        await script.ask("GET", f"/api/tasks/{made['id']}/history")


def httpx_headers(pairs: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Header values as bytes: some of them are no text. What h11 would refuse is left out."""
    return [(name, re.sub(rb"[\0\r\n]", b"", value).strip()) for name, value in pairs]


SCRIPTS = (order_and_look, name_it_in_paths, track_and_send, call_back, hear_from_the_provider)


@contextlib.asynccontextmanager
async def both(tmp_path: Path, factory: pytest.TempPathFactory, url: str) -> AsyncIterator[tuple[Script, Script]]:
    """The same service twice, each with a provider of its own: on SQLite and on PostgreSQL."""
    variables: list[dict[str, str | None]] = [{}, {"DATABASE_URL": url}]
    async with contextlib.AsyncExitStack() as stack:
        scripts = []
        for number, given in enumerate(variables):
            directory = tmp_path / f"{number}"
            directory.mkdir()
            stage = await stack.enter_async_context(staged(directory, factory))
            scripts.append(Script(await stack.enter_async_context(stage.serve(**given))))
        yield scripts[0], scripts[1]


@pytest.mark.parametrize("name", TEXTS)
async def test_any_text_anywhere_is_answered_alike_by_both_databases(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, url: str, name: str
) -> None:
    async with both(tmp_path, tmp_path_factory, url) as scripts:
        for part in SCRIPTS:
            await asyncio.gather(*(part(script, TEXTS[name]) for script in scripts))
    sqlite, postgresql = (script.answers for script in scripts)
    assert len(sqlite) > 50
    for ours, theirs in zip(sqlite, postgresql, strict=True):
        assert ours == theirs
    assert not [answer for answer in sqlite if answer[1] >= 500], "neither is in trouble"


async def test_metadata_filters_find_the_same_numbers_in_both_databases(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, url: str
) -> None:
    """Whatever spoils the reading of one task's metadata: each value is found as it was written, and only so."""
    spoilt = [{"n": {"n": 7}}, {"n\0": 7}, {"n": "\ud83d"}, {"n": 75}, {"m": "n"}, {"n": '"n":7'}]
    labels = [{"n": value, "other": [7, "\0"]} for value in NUMBERS] + spoilt
    found: list[list[tuple[str, list[int]]]] = []
    async with both(tmp_path, tmp_path_factory, url) as scripts:
        for script in scripts:
            ids: dict[str, int] = {}
            for number, metadata in enumerate(labels):
                made = await script.service.order(REVID.order(str(number), metadata=metadata))
                ids[made["id"]] = number
            seen = []
            for value in (*NUMBERS, "7.0", "1e22", "-0.0", "+7", "07", '"7"', '{"n":7}', "\0", "x", ""):
                words = value if isinstance(value, str) else json.dumps(value)
                answer = await script.service.client.get("/api/tasks", params={"metadata.n": words})
                assert answer.status_code == 200, answer.text
                seen.append((words, sorted(ids[task["id"]] for task in answer.json()["tasks"])))
            found.append(seen)
    assert found[0] == found[1]
    said = dict(found[0])
    for number, value in enumerate(NUMBERS):
        if value is not None:
            assert number in said[value if isinstance(value, str) else json.dumps(value)], value
    assert said["7"] == [0, NUMBERS.index("7")], "no other number, no part of one, and no place within"
    assert NUMBERS.index(1e22) in said["1e22"]
    assert said["null"] == said["x"] == []
