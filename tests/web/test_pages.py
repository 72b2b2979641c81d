"""The pages, as a browser without JavaScript meets them."""

import hashlib
import time
from dataclasses import replace
from typing import Any

import pytest
from itsdangerous import TimestampSigner

from receiver.core.errors import OutcomeUnknown
from receiver.core.states import State
from receiver.providers import FAMILIES
from receiver.store import journal
from receiver.web.pages import order_form, wording
from receiver.web.pages.login import link_token
from tests.web.site import KEY, NOW, REAL, REVID, TOKEN, Gone, Page, Site, stranger, tell

pytestmark = pytest.mark.anyio

HOSTILE = (
    """"'><script>alert(1)</script><img src=x onerror=alert(1)><a href='javascript:alert(1)'>\u202e{{ 7*7 }}\ud800"""
)


# Getting in


@pytest.mark.parametrize("path", ["/", "/?state=running", "/tasks/tsk_x", "/new?provider=a&model=b", "/providers"])
async def test_pages_ask_for_a_login_and_come_back(site: Site, path: str) -> None:
    async with stranger(site) as browser:
        asked = await browser.get(path)
        assert asked.status_code == 303
        entered = await browser.post("/login", data={"password": TOKEN} | dict(asked.next_request.url.params))  # type: ignore[union-attr]  # a redirect has one
    assert entered.headers["location"] == path


@pytest.mark.row("F2")
@pytest.mark.parametrize(
    "path", ["/new", "/logout", "/tasks/tsk_x/retry", "/tasks/tsk_x/check", "/tasks/tsk_x/cancel", "/tasks/tsk_x/adopt"]
)
async def test_forms_without_a_session_do_nothing(site: Site, path: str) -> None:
    async with stranger(site) as browser:
        answer = await browser.post(path, data={"key": "k", "provider": "revid", "model": "m"})
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login?next=%2F")
    assert await site.tasks() == []


@pytest.mark.row("F5")
async def test_wrong_password_gives_no_session(site: Site) -> None:
    async with stranger(site) as browser:
        answer = await browser.post("/login", data={"password": TOKEN + "x", "next": "/providers"})
        assert answer.status_code == 403
        assert "That API token is not valid." in Page(answer).text
        assert Page(answer).forms["/login"]["next"] == "/providers"
        assert not browser.cookies


async def test_login_link_gives_a_session(site: Site) -> None:
    async with stranger(site) as browser:
        link = link_token(site.services.links, site.services.settings)
        answer = await browser.get("/login", params={"token": link, "next": "/providers"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/providers")
        assert (await browser.get("/providers")).status_code == 200


@pytest.mark.row("F3")
@pytest.mark.parametrize("kind", ["nonsense", "other purpose", "old"])
async def test_wrong_or_old_login_link_gives_the_form(site: Site, kind: str) -> None:
    class Yesterday(TimestampSigner):
        def get_timestamp(self) -> int:
            return int(time.time()) - 25 * 3600

    salt = f"receiver login link to the sandbox of {TOKEN}"
    old = Yesterday(KEY, salt=salt, key_derivation="hmac", digest_method=hashlib.sha256).sign("1")
    links = {"nonsense": "x", "other purpose": site.services.links.sign_timed("session", "1"), "old": old.decode()}
    async with stranger(site) as browser:
        answer = await browser.get("/login", params={"token": links[kind]})
        assert answer.status_code == 200
        assert "wrong or too old" in Page(answer).text
        assert not browser.cookies


@pytest.mark.row("F4")
@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/",
        "//evil.example/",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/a//evil.example",
        "javascript:alert(1)",
        "evil.example",
        "/x\r\nLocation: https://evil.example",
        " /",
        "",
    ],
)
async def test_login_never_leads_elsewhere(site: Site, elsewhere: str) -> None:
    async with stranger(site) as browser:
        form = await browser.post("/login", data={"password": TOKEN, "next": elsewhere})
    async with stranger(site) as browser:
        link = link_token(site.services.links, site.services.settings)
        linked = await browser.get("/login", params={"token": link, "next": elsewhere})
    assert [form.headers["location"], linked.headers["location"]] == ["/", "/"]


@pytest.mark.row("F3")
async def test_logout_ends_the_session(site: Site) -> None:
    form = (await site.page("/")).forms["/logout"]
    assert (await site.post("/logout", form)).status_code == 303
    assert (await site.browser.get("/")).status_code == 303


# What a stranger can do


@pytest.mark.row("F1")
async def test_what_strangers_write_adds_no_markup(site: Site) -> None:
    calm = await site.page(f"/tasks/{await tell(site, 'calm', 'calm')}")
    calm_list = await site.page("/?q=calm")
    hostile = await site.page(f"/tasks/{await tell(site, HOSTILE, 'javascript:alert(1)')}")
    hostile_list = await site.page("/?q=script")
    assert hostile.shape == calm.shape
    assert hostile_list.shape == calm_list.shape
    for page in (hostile, hostile_list):
        assert not [url for url in page.all("href") + page.all("src") if "javascript" in url.lower()]
    assert "{{ 7*7 }}" in hostile.text
    assert "not a web address, so not a link" in hostile.text


@pytest.mark.row("F1")
async def test_typed_markup_comes_back_as_text(site: Site) -> None:
    calm = await site.page("/?q=calm&model=calm&since=2026-01-01T00:00")
    hostile = await site.browser.get(
        "/", params={"q": HOSTILE[:-1], "model": HOSTILE[:-1], "since": "2026-01-01T00:00"}
    )
    assert Page(hostile).shape == calm.shape


async def test_history_shows_no_secrets(site: Site) -> None:
    page = await site.page(f"/tasks/{await tell(site, 'calm', 'https://cdn.example/a.mp4')}")
    assert "Bearer secret" not in page.text
    assert ".signature" not in page.text
    assert page.text.count("[redacted]") == 3


@pytest.mark.row("F1")
async def test_a_player_loads_nothing_by_itself_and_links_send_no_referrer(site: Site) -> None:
    page = await site.page(f"/tasks/{await tell(site, 'calm', 'https://cdn.example/a.mp4')}")
    players = [given for tag, given in page.elements if tag == "video"]
    assert [(given["src"], given["preload"]) for given in players] == [("https://cdn.example/a.mp4", "none")]
    assert all("autoplay" not in given and "poster" not in given for given in players)
    link = next(given for tag, given in page.elements if tag == "a" and given["href"].startswith("https:"))
    assert (link["rel"], link["referrerpolicy"]) == ("noopener noreferrer nofollow", "no-referrer")


@pytest.mark.parametrize("url", ["http://cdn.example/a.mp4", "http://127.0.0.1:8000/sandbox/media/a.mp4"])
async def test_plain_http_plays_only_from_the_sandbox_itself(site: Site, url: str) -> None:
    page = await site.page(f"/tasks/{await tell(site, 'calm', url)}")
    assert ("video" in dict(page.elements)) == ("/sandbox/" in url)


@pytest.mark.row("F1")
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/?state=nonsense", 422),
        ("GET", "/new", 200),
        ("GET", REVID, 200),
        ("GET", "/providers", 200),
        ("GET", "/login", 303),
        ("GET", "/login?token=x&next=/new", 303),
        ("GET", "/tasks/tsk_x", 404),
        ("POST", "/login", 403),
        ("POST", "/logout", 403),
        ("POST", "/new", 403),
        ("POST", "/tasks/tsk_x/check", 403),
        ("POST", "/tasks/tsk_x/cancel", 403),
        ("POST", "/tasks/tsk_x/retry", 403),
        ("POST", "/tasks/tsk_x/adopt", 403),
        ("POST", "/providers/revid/balance", 403),
    ],
)
async def test_every_answer_has_the_headers(site: Site, method: str, path: str, status: int) -> None:
    answer = await site.browser.request(method, path, data={"x": "y"} if method == "POST" else None)
    assert answer.status_code == status
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'")
    assert "media-src 'self' https: http://127.0.0.1:8000;" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"


async def test_outside_the_sandbox_media_comes_over_https_only(real: Site) -> None:
    policy = (await real.browser.get("/")).headers["content-security-policy"]
    assert "media-src 'self' https:;" in policy


@pytest.mark.row("F1")
async def test_pages_have_no_inline_script_or_style_and_load_nothing_foreign(site: Site) -> None:
    task_id = await site.add(State.RUNNING, remote_id="r")
    for path in ("/", f"/tasks/{task_id}", "/new", REVID, "/providers"):
        page = await site.page(path)
        scripts = [given for tag, given in page.elements if tag == "script"]
        assert [given["src"] for given in scripts] == ["/static/page.js"]
        assert "style" not in dict(page.elements)
        assert not [name for _, given in page.elements for name in given if name == "style" or name.startswith("on")]
        assert not [url for url in page.all("src") + page.all("href") if not url.startswith(("/", "#"))]


async def test_static_files_are_revalidated_by_etag(site: Site) -> None:
    first = await site.browser.get("/static/page.css")
    assert (first.status_code, first.headers["cache-control"]) == (200, "no-cache")
    again = await site.browser.get("/static/page.css", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304


# One task


@pytest.mark.parametrize("state", State)
async def test_each_state_says_what_it_means(site: Site, state: State) -> None:
    meaning = wording.MEANINGS[state]
    page = await site.page(f"/tasks/{await site.add(state)}")
    assert meaning.headline in page.text
    assert meaning.text in page.text
    assert meaning.advice in page.text
    assert f"state-{state}" in " ".join(page.all("class"))


async def test_a_task_that_expired_in_the_queue_was_never_accepted(site: Site) -> None:
    task_id = await site.add(State.EXPIRED)
    move = {"from": "queued", "to": "expired", "via": "clock"}
    await site.services.store.write(lambda tx: journal.note(tx, task_id, NOW, "move", move))
    assert wording.NEVER_ACCEPTED.text in (await site.page(f"/tasks/{task_id}")).text


@pytest.mark.parametrize(
    ("state", "remote_id", "buttons"),
    [
        (State.QUEUED, None, {"cancel"}),
        (State.SUBMITTING, None, set()),
        (State.UNCONFIRMED, None, {"adopt", "retry"}),
        (State.SUBMITTED, "r", {"check"}),
        (State.RUNNING, "r", {"check"}),
        (State.SUCCEEDED, "r", {"retry"}),
        (State.FAILED, "r", {"check", "retry"}),
        (State.FAILED, None, {"retry"}),
        (State.CANCELLED, None, {"retry"}),
        (State.EXPIRED, "r", {"check", "retry"}),
        (State.EXPIRED, None, {"adopt", "retry"}),
    ],
)
async def test_buttons_stand_only_where_they_are_allowed(
    site: Site, state: State, remote_id: str | None, buttons: set[str]
) -> None:
    task_id = await site.add(state, remote_id=remote_id)
    forms = (await site.page(f"/tasks/{task_id}")).forms
    assert {path.rsplit("/", 1)[1] for path in forms if path.startswith("/tasks/")} == buttons


async def test_task_of_an_account_without_key_offers_no_check_and_no_order(real: Site) -> None:
    task_id = await real.add(State.FAILED, provider="gateway", remote_id="r")
    page = await real.page(f"/tasks/{task_id}")
    assert "gateway is not configured here" in page.text
    assert set(page.forms) == {"/rx/logout"}


async def test_check_asks_the_provider_and_says_so(site: Site) -> None:
    task_id = await site.add(State.RUNNING, remote_id="remote-0", submitted_at=NOW, next_check_at=NOW)
    form = (await site.page(f"/tasks/{task_id}")).forms[f"/tasks/{task_id}/check"]
    answer = await site.post(f"/tasks/{task_id}/check", form)
    assert answer.status_code == 303
    page = await site.page(answer.headers["location"])
    assert wording.ACTION_RESULTS["check"] in page.text
    assert "Status check: late" in page.text


async def test_only_a_queued_task_can_be_cancelled(site: Site) -> None:
    task_id = await site.add(State.QUEUED)
    form = (await site.page(f"/tasks/{task_id}")).forms[f"/tasks/{task_id}/cancel"]
    assert (await site.post(f"/tasks/{task_id}/cancel", form)).status_code == 303
    assert [task.state for task in await site.tasks()] == [State.CANCELLED]
    again = await site.post(f"/tasks/{task_id}/cancel", form)
    assert again.status_code == 409
    assert "only a queued one can be cancelled" in Page(again).text
    assert f"/tasks/{task_id}" in Page(again).all("href")


async def test_an_unconfirmed_task_is_resolved_by_hand_on_its_page(site: Site) -> None:
    there, not_there = await site.add(State.UNCONFIRMED), await site.add(State.UNCONFIRMED)
    for task_id, said in ((there, {"found": "yes", "remote_id": "r-1"}), (not_there, {"found": "no"})):
        form = (await site.page(f"/tasks/{task_id}")).forms[f"/tasks/{task_id}/adopt"]
        assert (await site.post(f"/tasks/{task_id}/adopt", {**form, "remote_id": "", **said})).status_code == 303
    tasks_now = {task.id: task for task in await site.tasks()}
    assert (tasks_now[there].state, tasks_now[there].remote_id) == (State.SUBMITTED, "r-1")
    assert (tasks_now[not_there].state, tasks_now[not_there].error_code) == (State.FAILED, "not_bought")


async def test_ordering_again_names_the_price_and_buys_once(real: Site) -> None:
    task_id = await real.add(State.UNCONFIRMED)
    page = await real.page(f"/tasks/{task_id}")
    assert "Order again for about 50 credits" in page.text
    assert "you may pay twice" in page.text
    path = f"/tasks/{task_id}/retry"
    answers = [await real.post(path, page.forms[f"/rx{path}"]) for _ in range(2)]
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert len(real.outbound.bought) == 1
    assert [task.retry_of for task in await real.tasks()] == [task_id, None]


async def test_a_long_overdue_check_suggests_that_no_poller_runs(site: Site) -> None:
    task_id = await site.add(State.RUNNING, remote_id="r", next_check_at=NOW - 300_000)
    assert "overdue by 5 min; is the poller running?" in (await site.page(f"/tasks/{task_id}")).text
    assert "overdue by 5 min" in (await site.page("/")).text


async def test_errors_are_pages(site: Site) -> None:
    assert "There is no task tsk_x." in (await site.page("/tasks/tsk_x", 404)).text

    site.app.state.services = replace(site.services, store=Gone())
    answer = await site.browser.get("/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert "Nothing was changed." in Page(answer).text


async def test_a_page_that_cannot_know_what_was_stored_does_not_say_that_nothing_was(site: Site) -> None:
    task_id = await site.add(State.QUEUED)

    class Unsure(Gone):
        async def read(self, query: Any) -> Any:
            return await site.services.store.read(query)

    form = (await site.page(f"/tasks/{task_id}")).forms[f"/tasks/{task_id}/cancel"]
    unsure = Unsure(OutcomeUnknown("it is not known whether this was stored"))
    site.app.state.services = replace(site.services, store=unsure)
    answer = await site.post(f"/tasks/{task_id}/cancel", form)
    assert answer.status_code == 503
    assert "it is not known whether this was stored" in Page(answer).text
    assert "Nothing was changed" not in Page(answer).text


# All tasks


async def test_list_filters_and_counts(site: Site) -> None:
    boat = await site.add(State.RUNNING, prompt="a boat", remote_id="remote-77")
    await site.add(State.FAILED, prompt="a train", error_code="nsfw", error_message="not allowed", age=10)
    page = await site.page("/")
    assert "running 1" in page.text
    assert "nsfw: not allowed" in page.text
    for query in (
        "?q=BOAT",
        "?state=running",
        "?state=running&state=queued",
        "?q=remote-77&provider=revid",
        "?q=&model=&state=",
    ):
        page = await site.page(f"/{query}")
        assert f"/tasks/{boat}" in page.all("href")
        assert ("a train" in page.text) == (query == "?q=&model=&state=")
    assert "?state=running&state=failed" in " ".join((await site.page("/?state=running")).all("href"))
    assert "Nothing matches" in (await site.page("/?provider=apixo")).text
    assert "Nothing matches" in (await site.page("/?until=2020-01-01")).text


async def test_list_goes_on_by_cursor_and_keeps_its_filter(site: Site) -> None:
    for number in range(51):
        await site.add(State.CANCELLED, prompt=f"number {number}.", age=51 - number)
    page = await site.page("/?state=cancelled")
    assert "number 50." in page.text
    assert "number 0." not in page.text
    older = next(url for url in page.all("href") if "cursor=" in url)
    assert "state=cancelled" in older
    rest = await site.page(older)
    assert "number 0." in rest.text
    assert "number 1." not in rest.text
    assert "/?state=cancelled" in rest.all("href")


async def test_tasks_that_need_attention_stand_first(site: Site) -> None:
    assert "Needs attention" not in (await site.page("/")).text
    await site.add(State.UNCONFIRMED, error_code="timeout")
    page = await site.page("/")
    assert "Needs attention" in page.text
    assert "It may have been bought" in page.text


async def test_empty_list_says_what_to_do(site: Site) -> None:
    page = await site.page("/")
    assert "curl http://127.0.0.1:8000/api/tasks" in page.text
    assert "/new" in page.all("href")


@pytest.mark.parametrize("path", ["/", "/new", REVID, "/providers"])
async def test_sandbox_is_named_on_every_page_and_only_there(site: Site, real: Site, path: str) -> None:
    assert "The providers are simulated" in (await site.page(path)).text
    assert "simulated" not in (await real.page(path)).text


@pytest.mark.parametrize("path", ["/", "/new", REVID, "/providers", "/tasks/tsk_x", "TASK"])
async def test_links_carry_the_prefix(real: Site, path: str) -> None:
    task_id = await real.add(State.RUNNING, remote_id="r", retry_of="tsk_other")
    page = Page(await real.browser.get(path.replace("TASK", f"/tasks/{task_id}")))
    urls = [url for name in ("href", "src", "action", "data-wait") for url in page.all(name)]
    assert urls
    assert not [url for url in urls if not url.startswith(("/rx/", "#"))]
    async with stranger(real) as browser:
        asked = await browser.get("/")
        entered = await browser.post("/login", data={"password": TOKEN, "next": "/providers"})
    assert (asked.headers["location"], entered.headers["location"]) == ("/rx/login?next=%2F", "/rx/providers")


async def test_providers_name_prices_and_what_to_set(real: Site) -> None:
    text = (await real.page("/providers")).text
    assert "50 credits for 10 s, 60 for 15 s" in text
    assert "APIXO_API_KEY" in text
    assert "GATEWAY_API_KEY and GATEWAY_BASE_URL" in text
    assert REAL["REVID_API_KEY"] not in text


# A new task


async def test_new_task_is_ordered_with_the_right_types(site: Site) -> None:
    page = await site.page("/new?provider=apixo&model=sora-2")
    given = {"prompt": "a\r\nboat", "duration": "8", "remove_watermark": "false", "image_urls": " u1\r\n\r\nu2 "}
    form = page.forms["/new"] | {f"input.{name}": value for name, value in given.items()}
    answer = await site.post("/new", form)
    assert answer.status_code == 303
    (task,) = await site.tasks()
    assert answer.headers["location"] == f"/tasks/{task.id}"
    expected = {"prompt": "a\nboat", "duration": 8, "image_urls": ["u1", "u2"], "remove_watermark": False}
    assert task.input == expected
    assert task.validated


async def test_fault_stands_at_its_field_and_nothing_typed_is_lost(site: Site) -> None:
    page = await site.page("/new?provider=rivya&model=sora-2")
    typed = {"input.n_frames": "15", "input.referenceMediaItems": "\n[{]", "input.remove_watermark": "true"}
    form = page.forms["/new"] | typed
    answer = await site.post("/new", form)
    assert answer.status_code == 422
    again = Page(answer)
    assert again.forms["/new"] | {"csrf": ""} == form | {"csrf": ""}
    wrong = {given["id"] for _, given in again.elements if given.get("aria-invalid") == "true"}
    assert wrong == {"input.referenceMediaItems"}
    answer = await site.post("/new", form | {"input.referenceMediaItems": ""})
    assert "prompt is required" in Page(answer).text
    assert await site.tasks() == []


async def test_same_form_posted_twice_buys_once(site: Site) -> None:
    form = (await site.page(REVID)).forms["/new"] | {"input.prompt": "a boat"}
    answers = [await site.post("/new", form) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [303, 303]
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert len(site.outbound.bought) == 1


async def test_changed_form_under_the_same_key_is_not_bought_unasked(site: Site) -> None:
    form = (await site.page(REVID)).forms["/new"] | {"input.prompt": "a boat"}
    await site.post("/new", form)
    answer = await site.post("/new", form | {"input.prompt": "a train"})
    assert answer.status_code == 409
    assert len(site.outbound.bought) == 1
    again = Page(answer)
    assert again.forms["/new"]["input.prompt"] == "a train"
    assert "Send it again for a second order" in again.text
    assert (await site.post("/new", again.forms["/new"])).status_code == 303
    assert len(site.outbound.bought) == 2


async def test_an_unavailable_database_loses_nothing_typed(site: Site) -> None:
    form = (await site.page(REVID)).forms["/new"] | {"input.prompt": "a boat"}
    site.app.state.services = replace(site.services, store=Gone())
    answer = await site.post("/new", form)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert Page(answer).forms["/new"] | {"csrf": ""} == form | {"csrf": ""}
    site.app.state.services = site.services
    assert (await site.post("/new", form)).status_code == 303


async def test_form_without_its_key_orders_nothing(site: Site) -> None:
    form = (await site.page(REVID)).forms["/new"] | {"input.prompt": "a boat", "key": ""}
    assert (await site.post("/new", form)).status_code == 400
    assert await site.tasks() == []


async def test_send_as_is_skips_validation(site: Site) -> None:
    form = (await site.page(REVID)).forms["/new"] | {"input.n_frames": "25", "input.prompt": "a boat"}
    assert (await site.post("/new", form)).status_code == 422
    assert (await site.post("/new", form | {"as_is": "on"})).status_code == 303
    (task,) = await site.tasks()
    assert (task.input["n_frames"], task.validated) == ("25", False)


async def test_model_without_documented_parameters_takes_json(site: Site) -> None:
    page = await site.page("/new?provider=revid&model=veo-9")
    form = page.forms["/new"] | {"input.prompt": "a boat"}
    broken = await site.post("/new", form | {"extra": "[1]"})
    assert broken.status_code == 422
    assert "More parameters is JSON, but not an object" in Page(broken).text
    twice = await site.post("/new", form | {"extra": '{"prompt": "x"}'})
    assert "repeats prompt, which has its own field" in Page(twice).text
    owned = await site.post("/new", form | {"extra": '{"callBackUrl": "x"}'})
    assert "callBackUrl: is filled in by this service" in Page(owned).text
    assert (await site.post("/new", form | {"extra": '{"seed": 7}'})).status_code == 303
    (task,) = await site.tasks()
    assert (task.model, task.input) == ("veo-9", {"prompt": "a boat", "seed": 7})


@pytest.mark.parametrize(("provider", "model"), [("nobody", "m"), ("revid", ""), ("revid", "m" * 201)])
async def test_an_unknown_provider_or_invalid_model_is_named(site: Site, provider: str, model: str) -> None:
    form = (await site.page(REVID)).forms["/new"] | {"provider": provider, "model": model, "input.prompt": "x"}
    answer = await site.post("/new", form)
    assert answer.status_code == 422
    assert ("provider: " if provider == "nobody" else "model: ") in Page(answer).text


@pytest.mark.parametrize(("provider", "name"), [(name, model) for name, f in FAMILIES.items() for model in f.models])
def test_every_model_of_the_catalog_has_a_form(provider: str, name: str) -> None:
    shown = order_form.build_form(FAMILIES[provider].models[name], {})
    assert [field.label for field in shown.fields][:1]
    assert all(not field.required for field in shown.fields) or shown.validates
