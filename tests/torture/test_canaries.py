"""No secret comes to light: a real service with a canary in every secret, and a provider that echoes all it is told.

What others send is stored as it came, and shown without secrets; `KEPT` names the only columns that may hold one.
"""

import asyncio
import contextlib
import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.config.keys import with_generated_secrets
from receiver.config.settings import Settings
from receiver.providers import CONFIG_TYPES
from receiver.services import Services
from receiver.store.engine import sqlite_module
from tests.behaviour.families import APIXO, FAMILIES, GATEWAY, REVID, Family, revid_done
from tests.behaviour.provider import Exchange, Provider, Received, Script, cuts, says, shows
from tests.cli.rig import Home, Served, serving
from tests.measuring import FRESH, HANG
from tests.torture.canaries import Canaries, spellings
from tests.torture.harness import Torture

pytestmark = [pytest.mark.anyio, pytest.mark.row("C8")]

KEPT = {
    "attempt.body": "the request's bytes, with the task's own callback URL in them",
    "attempt.answer": "what a provider answered, as it came",
    "status_check.answer": "likewise",
    "delivery.body": "a callback, as it came",
    "delivery.headers": "likewise",
    "output.url": "a result's URL has to work",
}
PUBLIC_URL = "https://hooks.example.com/in"
PROVIDERS = ("RIVYA", "APIXO", "REVID", "GATEWAY", "GATEWAY_X", "KIE")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Aviary:
    """A running service whose every secret is a canary."""

    home: Home
    provider: Provider
    canaries: Canaries
    served: Served
    client: httpx.AsyncClient
    secrets: dict[str, str]
    tasks: list[str] = field(default_factory=list)

    async def order(self, family: Family, *scripts: Script) -> str:
        """Order a task, whose create request is answered by these scripts."""
        if scripts:
            self.provider.on_create(family, *scripts)
        answer = await self.client.post("/api/tasks", json=family.order())
        assert answer.status_code == 201, answer.text
        task_id: str = answer.json()["id"]
        self.tasks.append(task_id)
        self.provider.scripts.pop((family.name, "create"), None)
        return task_id

    def callback_url(self, task_id: str) -> str:
        """The URL that a create request named, whose signature is a canary from now on."""
        urls = [request.callback_url for request in self.provider.bought()]
        url = next(url for url in urls if url is not None and f"/{task_id}." in url)
        self.canaries.watch(f"callback token of {task_id}", url.rpartition(".")[2])
        return url

    async def call_back(self, task_id: str, body: Any, **headers: str) -> str:
        path = self.callback_url(task_id).removeprefix(PUBLIC_URL)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with httpx.AsyncClient(trust_env=False, timeout=HANG, limits=FRESH) as stranger:
            answer = await stranger.post(f"{self.home.url}/in{path}", content=content, headers=headers)
        assert answer.status_code == 200, answer.text
        told: str = answer.text
        return told

    async def read(self, *paths: str) -> dict[str, str]:
        """Read what addresses show, with all headers."""
        answers = [(path, await self.client.get(path)) for path in paths]
        return {path: f"{answer.status_code} {dict(answer.headers)} {answer.text}" for path, answer in answers}

    async def command(self, *words: str) -> tuple[str, str]:
        """Run a command; what it says on both streams."""
        ran = await asyncio.to_thread(self.home.run, *words)
        return " ".join(("receiver", *words)), f"{ran.out}\n{ran.err}"

    def dump(self) -> dict[str, str]:
        """Everything in the database, by table and column."""
        found: dict[str, str] = {}
        connection = sqlite_module().connect(str(self.home.data / "receiver.db"))
        with contextlib.closing(connection):
            connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
            for (table,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
                rows = connection.execute(f'SELECT * FROM "{table}"')  # noqa: S608 - the database's own names
                columns = [f"{table}.{column[0]}" for column in rows.description]
                for row in rows:
                    for column, value in zip(columns, row, strict=True):
                        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
                        found[column] = f"{found.get(column, '')}\n{text}"
        return found


def environment(canaries: Canaries, url: str) -> dict[str, str]:
    """Every secret setting that there is, with a canary of its own."""
    plant = canaries.plant
    made = {f"{name}_API_KEY": plant(f"{name}_API_KEY") for name in PROVIDERS}
    made |= {f"{name}_BASE_URL": f"{url}/{name.lower().replace('_', '-')}" for name in PROVIDERS}
    made |= {f"{name}_WEBHOOK_SECRET": plant(f"{name}_WEBHOOK_SECRET") for name in ("KIE", "RIVYA")}
    for name in ("RECEIVER_SECRET_KEYS", "RECEIVER_API_TOKENS"):
        made[name] = f"{plant(name)},{plant(f'OLD {name}')}"
    keys = [plant(name) for name in ("RECEIVER_NOTIFY_SECRETS", "OLD RECEIVER_NOTIFY_SECRETS")]
    made["RECEIVER_NOTIFY_SECRETS"] = ",".join(f"whsec_{b64encode(key.encode()).decode()}" for key in keys)
    return made | {
        "RECEIVER_PUBLIC_URL": PUBLIC_URL,
        "RECEIVER_POLLER": "off",
        "RECEIVER_TIMEOUT": "5",
    }


@contextlib.asynccontextmanager
async def running(directory: Path, *words: str) -> AsyncIterator[Aviary]:
    canaries, provider = Canaries(), Provider()
    async with provider.serving():
        secrets = environment(canaries, provider.url)
        home = Home(directory, dict(secrets))
        with contextlib.ExitStack() as stack:
            served = await asyncio.to_thread(stack.enter_context, serving(home, *words))
            token = secrets["RECEIVER_API_TOKENS"].split(",")[0]
            bearer = {"Authorization": f"Bearer {token}"}
            async with httpx.AsyncClient(
                base_url=f"{home.url}/in", headers=bearer, trust_env=False, timeout=HANG, limits=FRESH
            ) as client:
                yield Aviary(home, provider, canaries, served, client, secrets)
        provider.release()


# --- a provider that echoes


def key_of(request: Received) -> str:
    """The key that a request brought, in whichever header its family has it."""
    found: list[str] = re.findall(r"\S+-[0-9a-f]{24}\S+", " ".join(request.headers.values()))
    return found[0]


def echo(request: Received) -> str:
    """Everything secret that a request brought, in every spelling, far into a text and at a place where it is cut."""
    key = key_of(request)
    url = request.callback_url if request.kind == "create" else None
    told = [spelled for secret in (key, url) if secret for spelled in spellings(secret)]
    return " | ".join(told)


def echoing(then: Callable[[str], Script]) -> Script:
    """Answer with the echo of the request."""

    async def script(exchange: Exchange) -> None:
        await then(echo(exchange.request))(exchange)

    return script


def key_at(place: int, status: int) -> Script:
    """Answer with a page in which the key begins so far from the start: what is shown of it is cut there."""

    async def script(exchange: Exchange) -> None:
        key = key_of(exchange.request)
        await shows(f"<html><body><p>{'x' * place} {key} {'y' * 300}</p></body></html>", status)(exchange)

    return script


CREATES: dict[str, Script] = {
    "refused": echoing(
        lambda told: says({"code": 401, "message": told, "error": {"code": told, "message": told}}, 401)
    ),
    "refused in an envelope": echoing(lambda told: says({"code": 402, "msg": told, "message": told})),
    "a page of HTML": echoing(lambda told: shows(f"<html><title>Oops</title><pre>{told}</pre></html>", 500)),
    "a short page": key_at(0, 502),
    **{f"cut after {place}": key_at(place, 400) for place in (150, 170, 185, 195)},
    "busy": echoing(lambda told: says({"message": told}, 429, Retry_After="60")),
    "moved": echoing(lambda told: says({}, 302, Location=f"http://127.0.0.1:9/{told.split(' | ')[4]}")),
    "cut": echoing(lambda told: cuts({"message": told})),
    "no id": echoing(lambda told: says({"code": 200, "message": told, "data": {"told": told}})),
    "an unknown word": echoing(lambda told: says({"code": told, "message": told})),
}


async def provider_echoes(aviary: Aviary) -> None:
    """Let every kind of answer, callback and status answer hold what it should not."""
    for family in FAMILIES.values():
        for script in CREATES.values():
            await aviary.order(family, script)
    token, old = aviary.secrets["RECEIVER_API_TOKENS"].split(",")
    for family in (REVID, APIXO, GATEWAY):
        key = aviary.secrets[f"{family.name.upper()}_API_KEY"]
        for number, end in enumerate(("failed", "done", "unreadable", "word")):
            remote = f"{family.name}-echo-{number}"
            task_id = await aviary.order(family, says(family.accepted(remote)))
            url = aviary.callback_url(task_id)
            told = " | ".join([*spellings(key), *spellings(url), *spellings(token)])
            headers = {
                "Authorization": f"Bearer {old}",
                "Cookie": f"a={token}",
                "X-Echo": f"{key} {url}",
                "Referer": url,
            }
            await aviary.call_back(task_id, body(family, end, remote, told, url), **headers)
            aviary.provider.on_check(family, echoing(lambda told: says({"code": 500, "message": told}, 500)))
            await aviary.client.post(f"/api/tasks/{task_id}/check")
            aviary.provider.scripts.pop((family.name, "check"), None)


def body(family: Family, end: str, remote: str, told: str, url: str) -> Any:
    if end == "failed":
        return family.failed(remote, told, told)
    if end == "unreadable":
        return told.encode()
    if end == "word":
        made: Any = json.loads(json.dumps(family.waiting(remote)))
        (made.get("data") or made)["state"] = (made.get("data") or made)["status"] = told
        return made
    media = f"https://cdn.example.com/out.mp4?cb={url}&key={told.split(' | ')[4]}"
    if family is REVID:
        result = json.dumps({"resultUrls": [media], "resultObject": {"echo": told}})
        return revid_done(remote, media, param=json.dumps({"callBackUrl": url, "echo": told}), resultJson=result)
    return family.done(remote, media)


# --- where it could come to light


READ = ("", "/api/tasks?limit=200", "/api/providers", "/api/stats", "/metrics", "/openapi.json", "/healthz", "/readyz")
REFUSED = ("/api/tasks/none", "/api/tasks?nonsense=1", "/callbacks/revid/wrong", "/nowhere")
PAGES = (
    "/",
    "/?q=echo",
    "/new",
    "/new?provider=revid&model=sora-2-text-to-video",
    "/providers",
    "/tasks/none",
    "/login",
)


async def commands(aviary: Aviary, *, full: bool) -> dict[str, str]:
    """What every command says, on both streams; `receiver token` prints its secret on purpose."""
    some = aviary.tasks[0]
    told = echoing(lambda told: says({"code": 401, "message": told, "signing_secret": told}, 401))
    for family in FAMILIES.values():
        aviary.provider.on_check(family, told)
        aviary.provider.on_create(family, told)
    (aviary.home.directory / "picture.png").write_bytes(b"png")
    lines = [
        ["show", some],
        ["balance", "rivya"],
        ["register", "rivya"],
        ["submit", "revid", "sora-2-text-to-video", "--prompt", "x"],
    ]
    if full:
        lines += [
            *(["show", task] for task in aviary.tasks),
            ["show", some, "--json"],
            ["list", "--limit", "200"],
            ["list", "--json"],
            ["providers"],
            ["upload", "rivya", "picture.png", "--kind", "image", "--model", "sora-2"],
            ["check", aviary.tasks[-1]],
            ["retry", some, "--yes"],
            ["wait", some, "--timeout", "0.1"],
            ["poll", "--json"],
            ["migrate"],
            ["doctor"],
            ["doctor", "--json"],
            ["replay", "1"],
            ["backup", "copy.db"],
        ]
    ran: list[tuple[str, str]] = []
    for pair in zip(lines[::2], [*lines[1::2], ["list"]], strict=False):
        ran += await asyncio.gather(*(aviary.command(*words) for words in pair))
    return dict(ran)


async def pages(aviary: Aviary) -> dict[str, str]:
    """Every page as a browser has it that was logged in by the login link, whose cookie is a canary from then on."""
    link = re.findall(r"/login\?token=(\S+)", aviary.served.told())[0]
    aviary.canaries.watch("login link", link.rpartition(".")[2])
    async with httpx.AsyncClient(
        base_url=f"{aviary.home.url}/in", trust_env=False, timeout=HANG, limits=FRESH
    ) as browser:
        for wrong in (f"{link}x", aviary.secrets["RECEIVER_API_TOKENS"].split(",")[0]):
            assert (await browser.get("/login", params={"token": wrong})).status_code == 200
        password = aviary.secrets["RECEIVER_SECRET_KEYS"].split(",")[0]
        found = {"wrong password": (await browser.post("/login", data={"password": password})).text}
        assert (await browser.get("/login", params={"token": link})).status_code == 303
        aviary.canaries.watch("session cookie", browser.cookies["receiver_session"].rpartition(".")[2])
        for path in (*PAGES, *(f"/tasks/{task}" for task in aviary.tasks)):
            found[path] = (await browser.get(path)).text
        form = re.findall(r'name="csrf" value="([^"]+)"', found["/providers"])[0]
        asked = await browser.post("/providers/revid/balance", data={"csrf": form})
        found["balance"] = asked.text
        stale = await browser.post("/providers/revid/balance", data={"csrf": f"{form}x"})
        assert (asked.status_code, stale.status_code) == (409, 403)
    # The forms' own token stands in the pages' forms, and nowhere else.
    aviary.canaries.watch("form token", form.rpartition(".")[2])
    found["403"] = stale.text
    return {path: re.sub(r'name="csrf" value="[^"]+"', "", text) for path, text in found.items()}


def fail_inside(aviary: Aviary) -> str:
    """Damage a row so that reading it raises an exception that quotes a secret."""
    damaged, secret = aviary.tasks.pop(), aviary.secrets["REVID_API_KEY"]
    with contextlib.closing(sqlite_module().connect(str(aviary.home.data / "receiver.db"))) as connection, connection:
        connection.execute("UPDATE task SET state = ? WHERE id = ?", (secret, damaged))
    return damaged


async def test_no_secret_comes_to_light_and_what_is_kept_of_it_is_written_down(
    tmp_path: Path, torture: Torture
) -> None:
    async with running(tmp_path, "--login-link") as aviary:
        for family in FAMILIES.values():
            honest = await aviary.order(family)
            if family.calls_back:
                remote = f"{family.name}-1"
                await aviary.call_back(honest, family.done(remote, "https://cdn.example.com/out.mp4"))
        kept = aviary.canaries.in_places(aviary.dump())
        assert kept.keys() == {"attempt.body"}, "an honest provider leaves no more of it"
        assert all(name.startswith("callback token of ") for name in kept["attempt.body"])

        await provider_echoes(aviary)
        shown = await pages(aviary)
        api = [path for task in aviary.tasks for path in (f"/api/tasks/{task}", f"/api/tasks/{task}/history")]
        shown |= await aviary.read(*READ, *REFUSED, *api)
        shown |= await commands(aviary, full=torture.full)
        answer = await aviary.client.get(f"/api/tasks/{fail_inside(aviary)}")
        assert answer.status_code == 500
        shown["500"] = answer.text
        told = aviary.served.told()
        assert "LookupError" in told, "the exception that quotes a secret is in the log"
        (printed,) = re.findall(r"^Open \S+\n", told, re.MULTILINE)
        shown["log"] = told.replace(printed, "")  # the link that is printed on purpose
        found = aviary.canaries.in_places(shown)
        torture.figures(
            canaries=len(aviary.canaries.hearts), places=len(shown), megabytes=sum(map(len, shown.values())) / 1e6,
            found=sum(map(len, found.values())),
        )  # fmt: skip
        assert found == {}
        damaged = {"task.state"}
        assert aviary.canaries.in_places(aviary.dump()).keys() - damaged <= KEPT.keys()


async def test_settings_and_wiring_show_no_secret_when_they_are_printed(tmp_path: Path) -> None:
    canaries = Canaries()
    environ = environment(canaries, "http://127.0.0.1:9") | {"RECEIVER_DATA_DIR": str(tmp_path)}
    password = canaries.plant("password of the database")
    database = f"postgresql://u:{httpx.QueryParams({'p': password})!s}@127.0.0.1/x".replace("p=", "", 1)
    settings = with_generated_secrets(Settings.load(environ | {"RECEIVER_DATABASE_URL": database}, CONFIG_TYPES))
    assert canaries.in_text(settings.database) == {"password of the database"}
    (tmp_path / "receiver.db").touch()
    services = Services.open(settings.model_copy(update={"database_url": f"sqlite:///{tmp_path}/receiver.db"}))
    seen = [settings, services, services.links, services.redactor, services.outbound, services.store]
    seen += [*services.providers.values(), *vars(services.settings).values(), settings.providers]
    assert canaries.in_places({str(number): f"{it} {it!r}" for number, it in enumerate(seen)}) == {}
    assert canaries.in_text(settings.model_dump_json(exclude={"database_url"})) == set()
