"""Forms that somebody else made a browser send: none of them changes anything, on any page that takes a form."""

import re
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from receiver.core.states import State
from receiver.web.pages.login import link_token
from receiver.web.pages.routes import ROUTES
from tests.web.site import ORIGIN, REVID, TOKEN, Page, Site, stranger

pytestmark = pytest.mark.anyio

ORDER = {"key": "k", "provider": "revid", "model": "sora-2-text-to-video", "input.prompt": "a boat"}
# What each form needs so that it would change something: a task in a state, and what is typed.
FORMS: dict[str, tuple[State, dict[str, str]]] = {
    "/login": (State.QUEUED, {"password": TOKEN}),
    "/logout": (State.QUEUED, {}),
    "/new": (State.QUEUED, ORDER),
    "/tasks/{id}/check": (State.RUNNING, {}),
    "/tasks/{id}/cancel": (State.QUEUED, {}),
    "/tasks/{id}/retry": (State.FAILED, {"key": "k"}),
    "/tasks/{id}/adopt": (State.UNCONFIRMED, {"found": "yes", "remote_id": "r-1"}),
    "/attention/{id}/acknowledge": (State.UNCONFIRMED, {}),
    "/attention/{id}/retry": (State.EXPIRED, {"key": "k"}),
    "/providers/{name}/balance": (State.QUEUED, {}),
}
POSTS = [route.path for route in ROUTES if isinstance(route, Route) and "POST" in (route.methods or ())]
OTHERS = [path for path in POSTS if path != "/login"]
EVIL = "https://evil.example"


async def prepared(site: Site, template: str) -> tuple[str, dict[str, str]]:
    """Put a task that the form is about into the database; give the form's address and what is typed into it."""
    state, typed = FORMS[template]
    task_id = await site.add(state, remote_id="remote-1" if state is State.RUNNING else None, next_check_at=1)
    return template.format(id=task_id, name="kie"), typed


async def csrf(site: Site, path: str = "/") -> str:
    return (await site.page(path)).forms["/logout"]["csrf"]


def known(site: Site) -> Any:
    """Everything that a form could change, here and at the provider."""
    return site.content(), site.outbound.asked


def test_every_form_of_every_page_is_tried_here() -> None:
    """A new one has to be added, or this turns red."""
    assert set(POSTS) == set(FORMS)


@pytest.mark.row("F2")
@pytest.mark.parametrize("template", OTHERS)
@pytest.mark.parametrize("origin", [{}, {"Origin": "null"}, {"Origin": ORIGIN}, {"Sec-Fetch-Site": "same-origin"}])
async def test_our_own_form_does_what_it_says(site: Site, template: str, origin: dict[str, str]) -> None:
    """Or the forged ones would prove nothing."""
    path, typed = await prepared(site, template)
    before = known(site)
    answer = await site.post(path, typed | {"csrf": await csrf(site)}, **origin)
    assert answer.status_code not in (403, 405, 415)
    assert known(site) != before


HEADERS = {
    "of another site": {"Sec-Fetch-Site": "cross-site"},
    "of a neighbour": {"Sec-Fetch-Site": "same-site"},
    "of another site that says null": {"Sec-Fetch-Site": "cross-site", "Origin": "null"},
    "of another origin": {"Origin": EVIL},
    "of a longer origin": {"Origin": f"{ORIGIN}.evil.example"},
    "of our name at another port": {"Origin": f"{ORIGIN}:8080"},
    "of an unreadable origin": {"Origin": "http://["},
    "of no origin": {"Origin": "://"},
    "as text": {"Content-Type": "text/plain"},
    "as multipart": {"Content-Type": "multipart/form-data; boundary=x"},
    "as JSON": {"Content-Type": "application/json"},
    "of no type": {"Content-Type": ""},
}


@pytest.mark.row("F2")
@pytest.mark.parametrize("template", OTHERS)
async def test_a_form_that_a_browser_sends_for_somebody_else_changes_nothing(site: Site, template: str) -> None:
    path, typed = await prepared(site, template)
    before, token = known(site), await csrf(site)
    for name, headers in HEADERS.items():
        answer = await site.post(path, typed | {"csrf": token}, **headers)
        assert answer.status_code == (415 if "Content-Type" in headers else 403), name
    assert known(site) == before


@pytest.mark.row("F2")
@pytest.mark.parametrize("template", OTHERS)
async def test_a_form_without_this_sessions_token_changes_nothing(site: Site, template: str) -> None:
    path, typed = await prepared(site, template)
    async with stranger(site) as other:
        await other.post("/login", data={"password": TOKEN})
        form = Page(await other.get("/")).forms["/logout"]
        theirs = form["csrf"]
        await other.post("/logout", data=form)
        nobodys = await other.get("/login")
    ours = await csrf(site)
    links, session = site.services.links, site.browser.cookies["receiver_session"]
    tokens = {
        "missing": None,
        "empty": "",
        "cut": ours[:-1],
        "of another session": theirs,
        "of no session": links.sign_timed("form", ""),
        "of a login link": link_token(links, site.services.settings),
        "the session itself": session,
        "the API token": TOKEN,
        "signed for something else": links.sign_timed("session", session.partition(".")[0]),
        "endless": "x" * 10_000,
    }
    before = known(site)
    for name, token in tokens.items():
        answer = await site.post(path, typed | {"x": "y"} | ({} if token is None else {"csrf": token}))
        assert answer.status_code == 403, name
    in_query = await site.browser.post(f"{path}?csrf={ours}", data=typed | {"x": "y"})
    assert in_query.status_code == 403
    assert known(site) == before
    assert nobodys.status_code == 200


@pytest.mark.row("F2")
@pytest.mark.parametrize("template", POSTS)
async def test_other_methods_change_nothing(site: Site, template: str) -> None:
    path, typed = await prepared(site, template)
    before, form = known(site), typed | {"csrf": await csrf(site)}
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
        for override in ({}, {"X-HTTP-Method-Override": "POST", "X-Method-Override": "POST"}):
            answer = await site.browser.request(method, path, params=form | {"_method": "POST"}, headers=override)
            assert answer.status_code in (200, 303, 404, 405), method
    assert known(site) == before


@pytest.mark.row("F2")
@pytest.mark.parametrize(
    "headers", [each for each in HEADERS.values() if "Content-Type" not in each] + [{"Origin": "null"}]
)
async def test_a_login_form_of_another_site_lets_nobody_in(site: Site, headers: dict[str, str]) -> None:
    async with stranger(site) as browser:
        answer = await browser.post("/login", data={"password": TOKEN}, headers=headers)
        assert answer.status_code == 403
        assert not browser.cookies


async def test_behind_a_proxy_that_changes_the_host_our_own_login_form_is_known(real: Site) -> None:
    async with stranger(real, "http://10.0.0.7:8000") as browser:
        ours = {"Origin": "https://hooks.example.com"}
        assert (await browser.post("/login", data={"password": TOKEN}, headers=ours)).status_code == 303


@pytest.mark.row("F2")
async def test_opening_a_page_changes_nothing(site: Site) -> None:
    """Whatever is in its address."""
    task_id = await site.add(State.UNCONFIRMED)
    tried: list[httpx.Response] = []
    before = known(site)
    paths = [route.path for route in ROUTES if isinstance(route, Route) and "GET" in (route.methods or ())]
    for path in (*paths, REVID, "/logout", "/tasks/{id}/retry"):
        for query in ("", "action=retry&csrf=x&key=k&found=no&state=failed&done=check&confirm=yes&next=/logout"):
            for method in ("GET", "HEAD"):
                address = re.sub(r"\{id\}", task_id, path)
                tried.append(await site.browser.request(method, address + ("&" if "?" in path else "?") + query))
    assert {answer.status_code for answer in tried} <= {200, 303, 404, 405, 422}
    assert known(site) == before
    assert (await site.browser.get("/")).status_code == 200, "and the session goes on"
