"""Every route of the whole application: who is let in, what every answer says to browsers, where it never leads."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import BaseRoute, Mount, Route

from receiver.web.pages.login import link_token
from tests.behaviour.families import REVID
from tests.behaviour.provider import says
from tests.behaviour.service import PUBLIC_URL, TOKEN, Service, Stage, staged

pytestmark = pytest.mark.anyio

NOBODY = "tsk_00000000000000000000000000"
VALUES = {"id": NOBODY, "provider": "revid", "name": "revid", "token": f"{NOBODY}.forged", "n": "0"}
NO_MATTER = frozenset({"/healthz", "/readyz", "/openapi.json"})
"""Open to everybody, and nothing in them."""


@pytest.fixture
async def stage(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path, tmp_path_factory) as stage:
        yield stage


@pytest.fixture
async def service(stage: Stage) -> AsyncIterator[Service]:
    async with stage.serve() as service:
        yield service


def endpoints(routes: list[BaseRoute]) -> Iterator[tuple[str, str]]:
    """Every method and path that the application answers, whoever added it."""
    for route in routes:
        if isinstance(route, Mount):
            assert route.path == "/static", "another mount has routes of its own: look at them"
            yield "GET", "/static/page.css"
        else:
            assert isinstance(route, Route)
            path = re.sub(r"\{(\w+)\}", lambda found: VALUES[found[1]], route.path)
            yield from ((method, path) for method in sorted(route.methods or {"GET"}))


async def ask(client: httpx.AsyncClient, method: str, path: str, **more: Any) -> httpx.Response:
    method = "HEAD" if path == "/api/events" else method  # a GET of it has no end
    body = {"content": b"{}", "headers": {"Content-Type": "application/json"}} if path.startswith("/api") else {}
    return await client.request(method, path, **({} if method in ("GET", "HEAD") else body | more))


@asynccontextmanager
async def logged_in(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that is logged in."""
    transport = httpx.ASGITransport(service.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as browser:
        assert (await browser.post("/login", data={"password": TOKEN})).status_code == 303
        yield browser


# --- who is let in


def kind(method: str, path: str) -> str:
    if path in NO_MATTER or path.startswith("/static"):
        return "open"
    if path.startswith("/callbacks"):
        return "callback"
    if path.startswith("/api") or path == "/metrics":
        return "reading" if method in ("GET", "HEAD") else "changing"
    return "login" if path == "/login" else "page"


CODES = {
    "open": {"stranger": {200}, "session": {200}},
    # A forged token is as wrong as one of nobody, whoever sends it.
    "callback": {"stranger": {404}, "session": {404}},
    # The provider of these tests knows nothing of balances.
    "reading": {"stranger": {401}, "session": {200, 404, 409}},
    "changing": {"stranger": {401}, "session": {401}},
    # A form without its token, of nothing, or of no form's type.
    "page": {"stranger": {303}, "session": {200, 403, 404, 415}},
    "login": {"stranger": {200, 415}, "session": {303, 415}},
}
STRANGERS = {
    "nobody": {},
    "a wrong token": {"Authorization": "Bearer wrong"},
    "half a token": {"Authorization": f"Bearer {TOKEN[:-1]}"},
    "a forged session": {"Cookie": "receiver_session=x.1.1.forged; __Host-receiver_session=x.1.1.forged"},
}


@pytest.mark.row("F5")
@pytest.mark.parametrize("who", STRANGERS)
async def test_every_route_requires_its_authorization(service: Service, who: str) -> None:
    asked = 0
    for method, path in endpoints(service.app.routes):
        answer = await ask(service.stranger, method, path, headers=STRANGERS[who])
        assert answer.status_code in CODES[kind(method, path)]["stranger"], (method, path)
        if answer.status_code == 303:
            assert answer.headers["location"].startswith("/login?next=")
        asked += 1
    assert asked > 45
    assert service.provider.received == []


@pytest.mark.row("F5")
async def test_texts_signed_for_another_purpose_open_nothing(service: Service) -> None:
    """A callback's token, a form's, a login link: none of them is a bearer token or a session."""
    links = service.app.state.services.links
    signed = [links.sign_timed(purpose, "x.1.1") for purpose in ("form", "login link", "session", "revid")]
    signed.append((links.callback_url("revid", NOBODY) or "").rpartition("/")[2])
    for text in signed:
        headers = {"Authorization": f"Bearer {text}", "Cookie": f"receiver_session={text}"}
        for method, path in endpoints(service.app.routes):
            answer = await ask(service.stranger, method, path, headers=headers)
            assert answer.status_code in CODES[kind(method, path)]["stranger"], (method, path)


@pytest.mark.row("F5")
@pytest.mark.row("F2")
async def test_a_session_reads_everything_and_changes_nothing_without_a_forms_token(service: Service) -> None:
    async with logged_in(service) as browser:
        for method, path in endpoints(service.app.routes):
            answer = await ask(browser, method, path)
            assert answer.status_code in CODES[kind(method, path)]["session"], (method, path, answer.status_code)
    assert service.provider.bought() == []


@pytest.mark.row("F5")
async def test_all_answers_about_unknown_tokens_and_tasks_look_alike(service: Service) -> None:
    """Neither a guessed id, nor one of another shape, nor another account's callback."""
    token = (service.app.state.services.links.callback_url("revid", NOBODY) or "").rpartition("/")[2]
    callbacks = [f"/callbacks/{account}/{text}" for account in ("revid", "apixo", "nobody") for text in (token, "x")]
    answers = [await service.stranger.post(path, content=b"{}") for path in callbacks]
    assert {(answer.status_code, answer.content) for answer in answers} == {(404, answers[0].content)}
    for task_id in (NOBODY, "x", "..", "%00", "tsk_1' OR '1'='1"):
        for rest in ("", "/history"):
            answer = await service.client.get(f"/api/tasks/{task_id}{rest}")
            assert answer.status_code in (404, 401)


@pytest.mark.row("F5")
async def test_ids_and_session_names_cannot_be_guessed(service: Service) -> None:
    """At least 128 bits of chance behind what is secret: two of a kind share next to nothing."""
    async with logged_in(service) as one, logged_in(service) as other:
        cookies = [browser.cookies["receiver_session"].partition(".")[0] for browser in (one, other)]
    assert cookies[0] != cookies[1]
    assert all(len(cookie) * 6 >= 128 for cookie in cookies)


# --- what every answer says to browsers


@pytest.mark.row("F1")
async def test_every_answer_of_every_route_is_harmless_in_a_browser(service: Service) -> None:
    paths = [*endpoints(service.app.routes)]
    paths += [("GET", path) for path in ("/nothing", "/api/nothing", "/static/nothing", "/tasks/", "//", "/api")]
    paths += [
        ("GET", "/callbacks/revid/x"),
        ("DELETE", "/"),
        ("PUT", "/api/tasks"),
        ("TRACE", "/login"),
        ("GET", "/tasks/x/check"),
    ]
    async with logged_in(service) as browser:
        for client in (service.stranger, browser, service.client):
            for method, path in paths:
                answer = await ask(client, method, path)
                if method == "POST" and path.startswith("/callbacks"):  # for a provider, not for a browser
                    assert answer.headers["content-type"] == "application/problem+json"
                else:
                    assert_harmless(answer)
    assert len(paths) > 55


def assert_harmless(answer: httpx.Response) -> None:
    where = str(answer.request.url)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; "), where
    assert "unsafe" not in policy, where
    assert "*" not in policy, where
    for rule in ("frame-ancestors 'none'", "base-uri 'none'"):
        assert rule in policy, where
    assert answer.headers["x-content-type-options"] == "nosniff", where
    assert answer.headers["referrer-policy"] == "no-referrer", where
    kept = "no-cache" if answer.request.url.path == "/static/page.css" else "no-store"
    assert answer.headers["cache-control"] == kept, where
    assert "access-control-allow-origin" not in answer.headers, where
    if answer.content:
        kinds = ("text/html; charset=utf-8", "application/json", "application/problem+json", "text/css", "text/plain")
        assert answer.headers["content-type"].startswith(kinds), where


async def test_the_answer_to_an_unexpected_error_is_harmless_in_a_browser_too(stage: Stage) -> None:
    async with stage.serve() as service:
        service.app.state.services = None
        transport = httpx.ASGITransport(service.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            answer = await client.get("/login")
    assert answer.status_code == 500
    assert_harmless(answer)


# --- where it never leads


HOSTS = [
    "evil.example",
    "evil.example:80",
    "evil.example/x?",
    "evil.example#",
    "user@evil.example",
    "hooks.example.com@evil.example",
    "hooks.example.com.evil.example",
    "evil.example\\@hooks.example.com",
    "[::1]",
    "127.0.0.1:1",
    "",
    "x" * 300,
    "evil.example\t",
    "evil.example, hooks.example.com",
    "javascript:alert(1)",
    "evil.example%00",
    "<script>",
    '"evil',
]
PROXY = {
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Server": "evil.example",
    "X-Forwarded-Port": "6666",
    "X-Forwarded-Prefix": "/evil.example",
    "X-Forwarded-Proto": "evil",
    "X-Forwarded-For": "evil.example",
    "X-Original-URL": "/evil.example",
    "X-Rewrite-URL": "//evil.example",
    "X-Real-IP": "evil.example",
    "X-Host": "evil.example",
    "Forwarded": "for=evil.example;host=evil.example;proto=https",
    "Referer": "https://evil.example/",
}


@pytest.mark.row("D10")
@pytest.mark.row("F4")
async def test_neither_host_nor_a_strangers_proxy_headers_show_up_in_an_answer(service: Service) -> None:
    async with logged_in(service) as browser:
        for host in HOSTS:
            for path in ("/", "/new", "/providers", "/login", "/static", "/static/", "/tasks/", "/api/tasks/", "//"):
                for client in (browser, service.stranger):
                    answer = await client.get(path, headers=PROXY | {"Host": host})
                    assert answer.status_code in (200, 303, 404), (host, path)
                    assert_own(answer)
                    assert "evil" not in answer.text, (host, path)
                    assert "evil" not in str(answer.headers), (host, path)


@pytest.mark.row("D10")
async def test_without_a_public_url_the_host_is_not_believed_either(stage: Stage) -> None:
    async with stage.serve(PUBLIC_URL=None) as service, logged_in(service) as browser:
        answer = await browser.get("/", headers={"Host": "evil.example", **PROXY})
        assert "curl http://127.0.0.1:8000/api/tasks" in answer.text
        assert "evil" not in answer.text


@pytest.mark.row("D10")
async def test_callback_urls_and_locations_come_from_the_settings_alone(service: Service) -> None:
    service.provider.on_create(REVID, says(REVID.accepted("r-1")))
    answer = await service.post("/api/tasks", REVID.order(), Host="evil.example", **PROXY)
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/tasks/{answer.json()['id']}"
    (bought,) = service.provider.bought()
    assert (bought.callback_url or "").startswith(f"{PUBLIC_URL}/callbacks/revid/{answer.json()['id']}.")
    assert "evil" not in str(bought)


ELSEWHERE = [
    *("https://evil.example", "http:evil.example", "//evil.example", "///evil.example", "////evil.example/.."),
    *("/\\evil.example", "\\/evil.example", "\\\\evil.example", "/\t/evil.example", "/\n/evil.example"),
    *("\t//evil.example", "/%0d%0aLocation:%20https://evil.example", "/\r\nLocation: https://evil.example"),
    *("/x\nSet-Cookie: a=b", "javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\tscript:alert(1)"),
    *("data:text/html,x", "vbscript:x", "file:///", "/.//evil.example", "/..//evil.example", "/x/..//evil.example"),
    *("/?//evil.example", "/#//evil.example", "evil.example", ".evil.example", "@evil.example", "?next=//evil.example"),
    *("#evil", "", " ", " //evil.example", "https:/\\evil.example", "https:///evil.example"),
    *("http://hooks.example.com@evil.example", "//evil%E3%80%82example", "\u2028//evil.example"),
    *("/\u2029/evil.example", "\x00//evil.example", "/\x00/evil.example", "\ufeff//evil.example", "\u3031evil.example"),
    *("//evil\u3002example", "/\u200b/evil.example", "\x0b//evil.example", "//[::1]/", "//2130706433/"),
    "/\x85/evil.example",
]
NAMES = ("next", "url", "return", "redirect", "continue", "return_to", "dest", "goto", "ref")


@pytest.mark.row("F4")
async def test_a_redirect_stays_on_this_origin_whatever_it_is_told(service: Service) -> None:
    services = service.app.state.services
    for wanted in ELSEWHERE:
        given = dict.fromkeys(NAMES, wanted)
        login_link = link_token(services.links, services.settings)
        answers = [
            await service.stranger.post("/login", data={"password": TOKEN, **given}),
            await service.stranger.get("/login", params=given),
            await service.stranger.post("/login", data={"password": TOKEN}, params=given),
            await service.stranger.get("/", params=given),
        ]
        for answer in answers:
            assert_own(answer)
        service.stranger.cookies.clear()
        answers.append(await service.stranger.get("/login", params={**given, "token": login_link}))
        assert_own(answers[-1])
        assert answers[0].status_code == answers[-1].status_code == 303
        service.stranger.cookies.clear()
        assert_own(await service.stranger.get("/", params=given))
    assert len(ELSEWHERE) >= 40


def assert_own(answer: httpx.Response) -> None:
    """Hold an answer to leading nowhere else, as a browser reads its `Location`."""
    assert ("location" in answer.headers) == (300 <= answer.status_code < 400)
    location = answer.headers.get("location", "/")
    assert re.fullmatch(r"/(?![/\\])[!-~]*", location), location
    assert "\\" not in location
    assert set(answer.headers.get_list("set-cookie")) == {
        line for line in answer.headers.get_list("set-cookie") if re.match(r"(__Host-)?receiver_session=", line)
    }


# --- what is told to everybody


@pytest.mark.row("F5")
async def test_metrics_and_the_description_give_away_no_secret(stage: Stage) -> None:
    canary = "canary-prompt"
    async with stage.serve() as service:
        service.provider.on_create(REVID, says(REVID.accepted("remote-canary")))
        task = await service.order(REVID.order(canary, metadata={"canary": canary}))
        described = (await service.stranger.get("/openapi.json")).text
        measured = (await service.client.get("/metrics")).text
        alive = [(await service.stranger.get(path)).text for path in ("/healthz", "/readyz", "/static/page.js")]
        settings = service.app.state.services.settings
    secrets = [TOKEN, "the-signing-key", *(f"the-key-of-{name}" for name in settings.providers)]
    private = [task["id"], canary, "remote-canary", str(settings.data_dir), PUBLIC_URL, stage.provider.url]
    for text in (described, measured, *alive):
        assert not [word for word in (*secrets, *private) if word in text]
    assert json.loads(described)["openapi"] == "3.1.0"
    assert "receiver_tasks" in measured


# --- what reading does


@pytest.mark.row("F2")
async def test_reading_changes_no_row(service: Service) -> None:
    """Over every route of the application, as nobody, as a browser and as an API client."""
    await service.order(REVID.order())
    before = content(service)
    async with logged_in(service) as browser:
        for client in (service.stranger, browser, service.client):
            for method, path in endpoints(service.app.routes):
                if method in ("GET", "HEAD"):
                    await ask(client, method, path)
    assert content(service) == before


def content(service: Service) -> dict[str, list[Any]]:
    """Everything in the database but for the signs of life, which `/readyz` leaves to prove that it can."""
    names = [name for (name,) in service.database.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
    names.remove("heartbeat")
    return {name: sorted(service.database.rows(f"SELECT * FROM {name}")) for name in names}  # noqa: S608 - our own
