"""The pages' sessions: their cookie, and everything that ends them. Guessing tokens is slow."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from http.cookies import Morsel, SimpleCookie
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from receiver.services import Services
from receiver.web import sessions
from receiver.web.pages.login import link_token
from receiver.web.pages.login_throttle import FAILURES, SECONDS
from receiver.web.sessions import COOKIE, SECURE_COOKIE
from tests.behaviour.service import Clock
from tests.measuring import Stopwatch
from tests.torture.harness import Torture
from tests.web.site import NOW, ORIGIN, REAL, TOKEN, Gone, Page, Site, opened, stranger

pytestmark = [pytest.mark.anyio]

PUBLIC = "https://hooks.example.com"
OTHER = "another-token-of-the-tests"
DAY = 24 * 3600


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
async def timed(empty: Path, tmp_path: Path, clock: Clock) -> AsyncIterator[Site]:
    """The pages by a clock that a test moves."""
    async with opened(empty, tmp_path, {}, clock=clock) as site:
        yield site


def cookies(answer: httpx.Response) -> dict[str, Morsel[str]]:
    """The cookies that an answer sets, whatever a browser would make of them."""
    found: SimpleCookie = SimpleCookie()
    for line in answer.headers.get_list("set-cookie"):
        found.load(line)
    return dict(found)


async def log_in(site: Site, origin: str = ORIGIN, token: str = TOKEN, **headers: str) -> httpx.Response:
    """Log in as a browser that keeps nothing."""
    async with stranger(site, origin) as browser:
        answer = await browser.post("/login", data={"password": token}, headers=headers)
    assert answer.status_code == 303, answer.text
    return answer


async def is_in(site: Site, cookie: str, name: str = COOKIE, origin: str = ORIGIN) -> bool:
    """Tell whether a cookie opens the pages, and the API for reading."""
    async with stranger(site, origin) as browser:
        answer = await browser.get("/providers", headers={"Cookie": f"{name}={cookie}"})
    assert answer.status_code in (200, 303)
    return answer.status_code == 200


# --- the cookie


@pytest.mark.row("F3")
async def test_the_cookie_is_for_http_only_and_for_this_site_only(site: Site) -> None:
    (cookie,) = cookies(await log_in(site)).values()
    assert (cookie.key, cookie["path"], cookie["domain"]) == (COOKIE, "/", "")
    assert (cookie["httponly"], cookie["samesite"].lower(), cookie["secure"]) == (True, "lax", "")
    assert 0 < int(cookie["max-age"]) <= sessions.IDLE_SECONDS


SECURE = {
    "over TLS": ("https://receiver.example", {}),
    "at the public URL, behind a proxy that is not trusted": ("http://hooks.example.com", {}),
    "likewise, in capitals and with its port": ("http://other", {"Host": "HOOKS.example.com:443"}),
}
PLAIN = {
    "on this machine": ("http://127.0.0.1:8000", {}),
    "at a name of its own": ("http://receiver.example", {}),
    "where a stranger only says so": ("http://127.0.0.1:8000", {"X-Forwarded-Proto": "https"}),
    "at another port of the public host": ("http://hooks.example.com:8000", {}),
}


@pytest.mark.row("F3")
@pytest.mark.parametrize(("origin", "headers"), SECURE.values(), ids=SECURE)
async def test_behind_tls_the_cookie_is_bound_to_this_host_and_to_tls(
    real: Site, origin: str, headers: dict[str, str]
) -> None:
    (cookie,) = cookies(await log_in(real, origin, **headers)).values()
    assert cookie.key == SECURE_COOKIE == "__Host-receiver_session"
    assert (cookie["secure"], cookie["path"], cookie["domain"]) == (True, "/", "")
    assert (cookie["httponly"], cookie["samesite"].lower()) == (True, "lax")
    assert await is_in(real, cookie.value, SECURE_COOKIE, PUBLIC)
    assert not await is_in(real, cookie.value, COOKIE, PUBLIC), "a name that another host may set"


@pytest.mark.row("F3")
@pytest.mark.parametrize(("origin", "headers"), PLAIN.values(), ids=PLAIN)
async def test_over_plain_http_the_pages_work_too(real: Site, origin: str, headers: dict[str, str]) -> None:
    (cookie,) = cookies(await log_in(real, origin, **headers)).values()
    assert (cookie.key, cookie["secure"]) == (COOKIE, "")
    assert await is_in(real, cookie.value, COOKIE, origin)


@pytest.mark.row("F3")
async def test_a_preset_cookie_is_never_adopted(site: Site) -> None:
    """Also not one that is somebody's session: whoever logs in gets a new one, and the one before is over."""
    before = site.browser.cookies[COOKIE]
    for preset in (before, "chosen-by-somebody-else", "x" * 5000):
        async with stranger(site) as browser:
            answer = await browser.post("/login", data={"password": TOKEN}, headers={"Cookie": f"{COOKIE}={preset}"})
        after = cookies(answer)[COOKIE].value
        assert after.split(".")[0] != preset.split(".")[0]
        assert await is_in(site, after)
    assert not await is_in(site, before)


@pytest.mark.row("F3")
async def test_a_text_signed_for_another_purpose_is_no_session(site: Site) -> None:
    links, value = site.services.links, f"id.{NOW}.{NOW}"
    for purpose in ("session", "form", "login link", "session of ", f"session of {OTHER}", f"session of {TOKEN}"):
        assert not await is_in(site, links.sign_timed(purpose, value)), purpose
    (whole,) = cookies(await log_in(site)).values()
    assert await is_in(site, whole.value)
    for broken in (whole.value[:-1], whole.value[1:], whole.value.upper(), "", "." * 6, "x" * 10_000):
        assert not await is_in(site, broken), broken[:60]


@pytest.mark.row("F3")
async def test_of_two_cookies_the_forged_one_opens_nothing(site: Site) -> None:
    async with stranger(site) as browser:
        pair = f"{COOKIE}=false; {COOKIE}=false as well"
        assert (await browser.get("/providers", headers={"Cookie": pair})).status_code == 303


# --- what ends a session


@pytest.mark.row("F3")
async def test_logout_invalidates_every_copy_of_the_cookie(site: Site) -> None:
    """A stolen one, too, also for reading the API, and in a process that starts later."""
    stolen = site.browser.cookies[COOKIE]
    other = cookies(await log_in(site))[COOKIE].value
    answer = await site.post("/logout", (await site.page("/")).forms["/logout"])
    assert cookies(answer)[COOKIE].value == ""
    assert not await is_in(site, stolen)
    assert await is_in(site, other), "other sessions go on"

    again = Services.open(site.services.settings, clock=lambda: NOW)
    site.app.state.services = again
    assert not await is_in(site, stolen)
    assert await is_in(site, other)
    await again.close()


@pytest.mark.row("F3")
async def test_logout_deletes_the_secure_cookie_with_the_attributes_a_browser_requires(real: Site) -> None:
    async with stranger(real, PUBLIC) as browser:
        await browser.post("/login", data={"password": TOKEN})
        form = Page(await browser.get("/")).forms["/rx/logout"]
        (cookie,) = cookies(await browser.post("/logout", data=form)).values()
    assert (cookie.key, cookie.value, cookie["secure"], cookie["path"]) == (SECURE_COOKIE, "", True, "/")


@pytest.mark.row("F3")
async def test_a_logout_that_cannot_be_stored_is_an_error(site: Site) -> None:
    form = (await site.page("/")).forms["/logout"]
    site.app.state.services = replace(site.services, store=Gone())
    answer = await site.post("/logout", form)
    assert (answer.status_code, cookies(answer)) == (503, {})


@pytest.mark.row("F3")
async def test_while_the_database_is_unavailable_a_session_opens_nothing(site: Site) -> None:
    site.app.state.services = replace(site.services, store=Gone())
    for path in ("/", "/new", "/providers", "/tasks/x"):
        assert (await site.browser.get(path)).status_code == 503


@pytest.mark.row("F3")
async def test_a_session_ends_with_the_token_that_opened_it(empty: Path, tmp_path: Path) -> None:
    tokens = (SecretStr(TOKEN), SecretStr(OTHER))
    async with opened(empty, tmp_path, {}, api_tokens=tokens) as site:
        first, second = [cookies(await log_in(site, token=token))[COOKIE].value for token in (TOKEN, OTHER)]
        async with stranger(site) as browser:
            linked = await browser.get(
                "/login", params={"token": link_token(site.services.links, site.services.settings)}
            )
        by_link = cookies(linked)[COOKIE].value
        assert [await is_in(site, each) for each in (first, second, by_link)] == [True, True, True]
        for kept, expected in ((OTHER, [False, True, False]), (TOKEN, [True, False, True])):
            settings = site.services.settings.model_copy(update={"api_tokens": (SecretStr(kept),)})
            site.app.state.services = replace(site.services, settings=settings)
            assert [await is_in(site, each) for each in (first, second, by_link)] == expected, kept


@pytest.mark.row("F3")
async def test_an_unused_session_ends_after_three_days(timed: Site, clock: Clock) -> None:
    idle = timed.browser.cookies[COOKIE]
    clock.advance(2 * DAY)
    assert (await timed.browser.get("/")).status_code == 200  # a person opens a page
    clock.advance(2 * DAY)
    assert (await timed.browser.get("/", headers={"Sec-Fetch-Dest": "empty"})).status_code == 200  # the page by itself
    assert not await is_in(timed, idle), "a copy that was put away"
    clock.advance(2 * DAY)
    assert (await timed.browser.get("/")).status_code == 303


@pytest.mark.row("F3")
async def test_a_session_ends_after_two_weeks_however_it_is_used(timed: Site, clock: Clock) -> None:
    for _ in range(13):
        clock.advance(DAY)
        assert (await timed.browser.get("/")).status_code == 200
    clock.advance(DAY)
    assert (await timed.browser.get("/")).status_code == 303


async def test_using_a_session_writes_nothing(timed: Site, clock: Clock) -> None:
    before = (await is_in(timed, timed.browser.cookies[COOKIE]), timed.content())
    clock.advance(DAY)
    assert "set-cookie" in (await timed.browser.get("/")).headers
    assert (True, timed.content()) == before


async def test_ended_sessions_are_forgotten_when_their_cookies_would_be_dead_anyway(timed: Site, clock: Clock) -> None:
    for _ in range(3):
        cookie = cookies(await log_in(timed))[COOKIE].value
        async with stranger(timed) as browser:
            browser.cookies.set(COOKIE, cookie)
            await browser.post("/logout", data=Page(await browser.get("/")).forms["/logout"])
        clock.advance(8 * DAY)
    assert len(timed.content()["ended_session"]) == 2


# --- login links


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


async def follow(site: Site, link: str, **headers: str) -> httpx.Response:
    """Open a login link as a browser that is not logged in."""
    async with stranger(site) as browser:
        return await browser.get("/login", params={"token": link, "next": "/providers"}, headers=_named(headers))


@pytest.mark.row("F3")
async def test_a_login_link_opens_the_pages_once_also_after_a_restart(site: Site) -> None:
    link = link_token(site.services.links, site.services.settings)
    first, second = await follow(site, link), await follow(site, link)
    assert [(answer.status_code, COOKIE in cookies(answer)) for answer in (first, second)] == [
        (303, True),
        (200, False),
    ]
    assert "was already used" in Page(second).text
    site.app.state.services = again = Services.open(site.services.settings, clock=lambda: NOW)
    assert (await follow(site, link)).status_code == 200
    assert (await follow(site, link_token(again.links, again.settings))).status_code == 303
    await again.close()


@pytest.mark.row("F3")
async def test_a_login_link_opened_many_times_at_once_lets_one_in(site: Site) -> None:
    link = link_token(site.services.links, site.services.settings)
    answers = await asyncio.gather(*(follow(site, link) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [303]


@pytest.mark.row("F3")
async def test_prefetching_a_login_link_does_not_use_it_up(site: Site) -> None:
    link = link_token(site.services.links, site.services.settings)
    async with stranger(site) as browser:
        assert (await browser.head("/login", params={"token": link})).status_code == 200
    assert not cookies(await follow(site, link, Sec_Purpose="prefetch;prerender"))
    assert (await site.browser.get("/login", params={"token": link})).status_code == 303, "who is in already"
    assert cookies(await follow(site, link))


@pytest.mark.row("F3")
async def test_a_login_link_ends_with_the_token_that_it_was_made_for(site: Site) -> None:
    link = link_token(site.services.links, site.services.settings)
    settings = site.services.settings.model_copy(update={"api_tokens": (SecretStr(OTHER),)})
    site.app.state.services = replace(site.services, settings=settings)
    assert (await follow(site, link)).status_code == 200


@pytest.mark.row("F3")
async def test_sessions_of_the_sandbox_open_nothing_of_the_service_with_real_keys(empty: Path, tmp_path: Path) -> None:
    """On the same data directory they share signing keys and API token, and a browser sends the same cookies."""
    given: dict[bool, tuple[str, str]] = {}
    for sandbox in (True, False):
        async with opened(empty, tmp_path, {} if sandbox else REAL) as site:
            assert site.services.settings.sandbox is sandbox
            session = cookies(await log_in(site))[COOKIE].value
            given[sandbox] = link_token(site.services.links, site.services.settings), session
            link, cookie = given[True]
            assert await is_in(site, cookie) is sandbox
            if not sandbox:
                assert not cookies(await follow(site, link))
                assert await is_in(site, session)


@pytest.mark.row("F3")
async def test_a_login_link_stays_valid_where_its_use_cannot_be_stored(site: Site) -> None:
    link = link_token(site.services.links, site.services.settings)
    there, site.app.state.services = site.services, replace(site.services, store=Gone())
    refused = await follow(site, link)
    assert (refused.status_code, cookies(refused)) == (503, {})
    site.app.state.services = there
    assert cookies(await follow(site, link))


# --- guessing


async def guess(site: Site, client: str, given: str = "x") -> httpx.Response:
    async with stranger(site, client=(client, 1)) as browser:
        return await browser.post("/login", data={"password": given, "next": "/providers"})


@pytest.mark.row("F8")
async def test_guesses_over_the_limit_are_refused_unread(timed: Site, clock: Clock, torture: Torture) -> None:
    looked_at, guesses, watch = 0, torture.size(200, 1000), Stopwatch()
    for _ in range(guesses):
        looked_at += (await guess(timed, "192.0.2.1")).status_code == 403
        clock.advance(60 / guesses * 0.99)
    torture.figures(guesses=guesses, looked_at=looked_at, seconds=watch.read())
    assert looked_at == FAILURES


@pytest.mark.row("F8")
async def test_after_too_many_guesses_the_right_token_waits_too(timed: Site, clock: Clock) -> None:
    for _ in range(FAILURES):
        assert (await guess(timed, "192.0.2.1")).status_code == 403
        clock.advance(1)
    refused = await guess(timed, "192.0.2.1", TOKEN)
    wait = SECONDS - FAILURES
    assert (refused.status_code, refused.headers["retry-after"]) == (429, str(wait))
    assert f"Too many wrong API tokens from your address. Wait {wait} s" in Page(refused).text
    assert Page(refused).forms["/login"]["next"] == "/providers"
    assert not refused.cookies
    clock.advance(wait - 1)
    assert (await guess(timed, "192.0.2.1", TOKEN)).status_code == 429
    clock.advance(1)
    assert (await guess(timed, "192.0.2.1", TOKEN)).status_code == 303


@pytest.mark.row("F8")
async def test_guesses_block_no_other_client(timed: Site) -> None:
    for _ in range(FAILURES + 1):
        await guess(timed, "2001:db8:0:1::1")
    assert (await guess(timed, "2001:db8:0:1:ffff::2", TOKEN)).status_code == 429, "the same customer"
    assert (await guess(timed, "2001:db8:0:2::1", TOKEN)).status_code == 303
    assert (await timed.browser.get("/")).status_code == 200
    async with stranger(timed, client=("2001:db8:0:1::1", 1)) as browser:
        link = await browser.get("/login", params={"token": link_token(timed.services.links, timed.services.settings)})
    assert link.status_code == 303, "a link cannot be guessed"
