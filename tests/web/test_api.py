"""Interface, section 3: the HTTP API's manners. What its calls do to tasks stands in `tests/behaviour`."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.behaviour.families import APIXO, FAMILIES, GATEWAY, REVID, RIVYA
from tests.behaviour.provider import Received, after, hangs, says, slams
from tests.behaviour.service import NOW, TOKEN, Service, Stage, Task, staged
from tests.measuring import HANG, LOOP, Stopwatch
from tests.torture.harness import Torture

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/out.mp4"
NOBODY = "tsk_00000000000000000000000000"
WAIT = 60
"""The longest that a caller may ask to wait."""
EARLIER = WAIT - 10


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return LOOP


@pytest.fixture
async def stage(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path, tmp_path_factory) as stage:
        yield stage


@pytest.fixture
async def service(stage: Stage) -> AsyncIterator[Service]:
    async with stage.serve() as service:
        yield service


def assert_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Hold an answer to RFC 9457; returns the document."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail"} <= document.keys()
    assert document["status"] == status
    assert isinstance(document["type"], str)
    assert document["title"]
    assert document["detail"]
    return document


def assert_faults(answer: httpx.Response, *locs: list[str | int]) -> None:
    """Hold an answer to 422 with these places named, each with words."""
    errors = assert_problem(answer, 422)["errors"]
    assert sorted(map(str, (error["loc"] for error in errors))) == sorted(map(str, locs))
    assert all(error.keys() == {"loc", "msg"} and error["msg"] for error in errors)


# --- who may call

CALLS = [
    ("POST", "/api/tasks"),
    ("GET", "/api/tasks"),
    ("GET", f"/api/tasks/{NOBODY}"),
    ("GET", f"/api/tasks/{NOBODY}/history"),
    ("POST", f"/api/tasks/{NOBODY}/check"),
    ("POST", f"/api/tasks/{NOBODY}/retry"),
    ("POST", f"/api/tasks/{NOBODY}/cancel"),
    ("POST", "/api/poll"),
    ("GET", "/api/providers"),
    ("GET", "/api/stats"),
    ("GET", "/metrics"),
]
STRANGERS = {
    "nothing": None,
    "wrong": "Bearer wrong",
    "empty": "Bearer ",
    "prefix": f"Bearer {TOKEN[:-1]}",
    "longer": f"Bearer {TOKEN}x",
    "basic": f"Basic {TOKEN}",
    "bare": TOKEN,
    "not-ascii": "Bearer schlüssel",
}


@pytest.mark.row("F5")
@pytest.mark.parametrize("given", STRANGERS.values(), ids=list(STRANGERS))
async def test_everything_under_api_and_metrics_takes_the_bearer_token(given: str | None, service: Service) -> None:
    headers = {} if given is None else {"Authorization": given.encode("latin-1")}
    pairs = [(name.encode(), value) for name, value in headers.items()]
    for method, path in CALLS:
        answer = await service.stranger.request(method, path, content=json.dumps(REVID.order()), headers=pairs)
        assert_problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert service.provider.received == []
    assert (await service.client.get("/api/tasks")).json()["tasks"] == []


async def test_each_of_several_tokens_is_taken(stage: Stage) -> None:
    async with stage.serve(API_TOKENS=f"another, {TOKEN}") as service:
        for given in ("Bearer another", f"Bearer {TOKEN}", f"bearer {TOKEN}"):
            answer = await service.stranger.get("/api/tasks", headers={"Authorization": given})
            assert answer.status_code == 200, given


@pytest.mark.row("F2")
async def test_the_pages_session_may_read_and_only_read(service: Service) -> None:
    form = {"password": TOKEN}
    assert (await service.stranger.post("/login", data=form)).status_code in (302, 303)
    for method, path in CALLS:
        answer = await service.stranger.request(method, path, content=json.dumps(REVID.order()))
        assert (answer.status_code == 401) == (method == "POST"), path
    assert service.provider.received == []


# --- errors


@pytest.mark.parametrize("path", ["/nothing", "/api", "/api/nothing", f"/api/tasks/{NOBODY}", "/api/tasks/x/y/z"])
async def test_what_is_not_there_is_a_problem_document(path: str, service: Service) -> None:
    assert_problem(await service.client.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", "/api/tasks"), ("PUT", f"/api/tasks/{NOBODY}"), ("GET", "/api/poll")]
)
async def test_another_method_is_a_problem_document_that_names_the_right_ones(
    method: str, path: str, service: Service
) -> None:
    answer = await service.client.request(method, path)
    assert_problem(answer, 405)
    assert answer.headers["allow"]


NOT_OBJECTS = {
    "empty": b"",
    "text": b"hello",
    "list": b"[]",
    "number": b"1",
    "null": b"null",
    "string": b'"text"',
    "cut": b'{"provider": "revid"',
    "trailing": b"{} {}",
    "nan": b'{"metadata": {"x": NaN}}',
    "infinite": b'{"metadata": {"x": 1e999}}',
    "utf-16": '{"provider": "revid"}'.encode("utf-16"),
    "not-utf-8": b'{"provider": "\xff"}',
    "deep": b'{"input":' * 100_000,
    "long-number": b'{"n": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("body", NOT_OBJECTS.values(), ids=list(NOT_OBJECTS))
async def test_a_body_that_is_not_a_json_object_is_a_400(body: bytes, service: Service) -> None:
    assert_problem(await service.client.post("/api/tasks", content=body), 400)


WRONG: dict[str, tuple[dict[str, Any], list[list[str | int]]]] = {
    "nothing": ({}, [["provider"], ["model"], ["input"]]),
    "unknown-field": ({**REVID.order(), "promt": "x"}, [["promt"]]),
    "several-unknown-fields": ({**REVID.order(), "a": 1, "b": 2}, [["a"], ["b"]]),
    "input-is-a-list": ({**REVID.order(), "input": []}, [["input"]]),
    "input-is-null": ({**REVID.order(), "input": None}, [["input"]]),
    "metadata-is-a-text": ({**REVID.order(), "metadata": "x"}, [["metadata"]]),
    "validate-is-a-text": ({**REVID.order(), "validate": "no"}, [["validate"]]),
    "provider-is-a-number": ({**REVID.order(), "provider": 1}, [["provider"]]),
    "model-is-empty": ({**REVID.order(), "model": ""}, [["model"]]),
    "provider-is-unknown": ({**REVID.order(), "provider": "nobody"}, [["provider"]]),
    "provider-is-not-configured": ({**REVID.order(), "provider": "gateway-x"}, [["provider"]]),
    "prompt-is-missing": ({**REVID.order(), "input": {}}, [["input", "prompt"]]),
    "prompt-is-empty": ({**REVID.order(), "input": {"prompt": " "}}, [["input", "prompt"]]),
    "prompt-is-too-long": ({**REVID.order(), "input": {"prompt": "x" * 10_001}}, [["input", "prompt"]]),
    "unknown-parameter": ({**REVID.order(), "input": {"prompt": "x", "nframes": "10"}}, [["input", "nframes"]]),
    "wrong-type": ({**REVID.order(), "input": {"prompt": "x", "n_frames": 10}}, [["input", "n_frames"]]),
    "rivyas-own-type": ({**RIVYA.order(), "input": {"prompt": "x", "n_frames": 10}}, [["input", "n_frames"]]),
    "no-option": ({**APIXO.order(), "input": {"prompt": "x", "duration": 10}}, [["input", "duration"]]),
    "two-faults": ({**REVID.order(), "input": {"n_frames": "11"}}, [["input", "n_frames"], ["input", "prompt"]]),
    "hd-on-sora-2": ({**GATEWAY.order(), "input": {"prompt": "x", "hd": True}}, [["input", "hd"]]),
}  # fmt: skip


@pytest.mark.parametrize(("order", "locs"), WRONG.values(), ids=list(WRONG))
async def test_an_order_that_says_something_wrong_is_a_422_that_names_it(
    order: dict[str, Any], locs: list[list[str | int]], service: Service
) -> None:
    assert_faults(await service.post("/api/tasks", order), *locs)
    assert service.provider.received == []
    assert (await service.client.get("/api/tasks")).json()["tasks"] == []


RESERVED_NAMES = ["model", "callBackUrl", "callback_url", "request_type", "notify_hook", "client_request_id"]


@pytest.mark.parametrize("name", RESERVED_NAMES)
@pytest.mark.parametrize("validate", [True, False])
async def test_names_that_the_adapter_owns_are_refused_in_input(name: str, validate: bool, service: Service) -> None:  # noqa: FBT001
    for family in FAMILIES.values():
        order = family.order(validate=validate)
        order["input"] = {**order["input"], name: "https://me.example"}
        assert_faults(await service.post("/api/tasks", order), ["input", name])
    assert service.provider.received == []


async def test_a_body_that_is_too_large_or_encoded_is_refused(service: Service) -> None:
    large = json.dumps(REVID.order(metadata={"x": "x" * 1_100_000})).encode()
    assert_problem(await service.client.post("/api/tasks", content=large), 413)
    answer = await service.client.post("/api/tasks", content=b"x", headers={"Content-Encoding": "gzip"})
    assert_problem(answer, 415)


async def test_the_answer_to_a_wrong_method_names_every_right_one(service: Service) -> None:
    answer = await service.client.put("/api/tasks")
    assert_problem(answer, 405)
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}
    assert (await service.client.head("/api/tasks")).status_code == 200


QUERIES = {
    "/api/tasks?unknown=1": "unknown",
    "/api/tasks?stat=failed": "stat",
    "/api/tasks?state=done": "state",
    "/api/tasks?limit=0": "limit",
    "/api/tasks?limit=201": "limit",
    "/api/tasks?limit=ten": "limit",
    "/api/tasks?since=yesterday": "since",
    "/api/tasks?since=0.5": "since",
    "/api/tasks?until=1795176000": "until",
    "/api/tasks?until=2026-13-01T00:00:00Z": "until",
    "/api/tasks?cursor=here": "cursor",
    f"/api/tasks/{NOBODY}?wait=61": "wait",
    f"/api/tasks/{NOBODY}?wait=-1": "wait",
    f"/api/tasks/{NOBODY}?wait=nan": "wait",
    f"/api/tasks/{NOBODY}?wait=inf": "wait",
    f"/api/tasks/{NOBODY}?wait=soon": "wait",
    f"/api/tasks/{NOBODY}?fields=id": "fields",
    f"/api/tasks/{NOBODY}/history?limit=1": "limit",
    "/api/providers?all=1": "all",
    "/api/stats?all=1": "all",
}


@pytest.mark.parametrize(("path", "name"), QUERIES.items())
async def test_unknown_and_wrong_query_parameters_are_refused_by_name(path: str, name: str, service: Service) -> None:
    errors = assert_problem(await service.client.get(path), 422)["errors"]
    assert all(name in error["loc"] for error in errors)


async def test_unknown_query_parameters_of_posts_are_refused_too(service: Service) -> None:
    assert_faults(await service.post("/api/tasks?dry=1", REVID.order()), ["query", "dry"])
    assert_faults(await service.post("/api/poll?now=1"), ["query", "now"])
    assert service.provider.received == []


# --- submit


async def test_a_new_task_is_created_with_its_location(service: Service) -> None:
    answer = await service.post("/api/tasks", REVID.order())
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/tasks/{answer.json()['id']}"
    assert answer.headers["content-type"] == "application/json"
    assert (await service.client.get(answer.headers["location"])).json() == answer.json()


async def test_behind_a_path_the_location_has_it_too(stage: Stage) -> None:
    async with stage.serve(PUBLIC_URL="https://example.com/rx") as service:
        answer = await service.post("/api/tasks", REVID.order())
        assert answer.headers["location"] == f"/rx/api/tasks/{answer.json()['id']}"
        assert (await service.client.get(answer.headers["location"])).status_code == 200


async def test_the_providers_refusal_is_no_http_error(service: Service) -> None:
    service.provider.on_create(REVID, says({"code": 402, "msg": "Insufficient account balance"}, 402))
    answer = await service.post("/api/tasks", REVID.order())
    assert (answer.status_code, answer.json()["state"], answer.json()["error"]["code"]) == (201, "failed", "402")


async def test_it_answers_when_the_first_try_has_ended(service: Service) -> None:
    for script in (slams(), says({"msg": "busy"}, 429), says({"msg": "oops"}, 500)):
        service.provider.on_create(REVID, script)
        assert (await service.order(REVID.order()))["state"] in ("unconfirmed", "queued")


async def test_it_answers_at_the_latest_after_the_timeout(stage: Stage) -> None:
    stage.provider.on_create(REVID, hangs())
    async with stage.serve() as service:
        ordering = service.order(REVID.order())
        task = await service.when_time_is_over(ordering, lambda: len(stage.provider.bought()) == 1)
        assert task["state"] in ("submitting", "unconfirmed")


async def test_metadata_comes_back_as_it_was_given(service: Service) -> None:
    given = {"a": [1, 2.5, None, True, {"ü": "\U0001f408", "\ud800": "\u0000"}], "": "x" * 10_000}
    task = await service.order(REVID.order(metadata=given))
    assert task["metadata"] == given
    assert (await service.task(task["id"]))["metadata"] == given


# --- one task


async def test_wait_answers_as_soon_as_the_task_is_final(service: Service) -> None:
    service.provider.on_create(REVID, says(REVID.accepted("r-1")))
    task = await service.order(REVID.order())
    waiting = asyncio.create_task(service.task(task["id"], wait=WAIT))
    assert (await service.task(task["id"], wait=0))["state"] == "submitted"
    await service.call_back(task["id"], REVID.working("r-1"))
    assert not waiting.done()
    await service.call_back(task["id"], REVID.done("r-1", URL))
    assert (await asyncio.wait_for(waiting, EARLIER))["state"] == "succeeded"


async def test_wait_answers_as_soon_as_the_task_is_expired(service: Service) -> None:
    task = await service.order(REVID.order())
    waiting = asyncio.create_task(service.task(task["id"], wait=WAIT))
    await service.poll_after(7200)
    assert (await asyncio.wait_for(waiting, EARLIER))["state"] == "expired"


async def test_wait_notices_changes_by_other_processes(stage: Stage) -> None:
    async with stage.serve() as one, stage.serve() as other:
        stage.provider.on_create(REVID, says(REVID.accepted("r-1")))
        task = await one.order(REVID.order())
        waiting = asyncio.create_task(one.task(task["id"], wait=WAIT))
        await other.call_back(task["id"], REVID.failed("r-1"))
        assert (await asyncio.wait_for(waiting, EARLIER))["state"] == "failed"


async def test_wait_answers_after_its_time_as_the_task_then_is(service: Service) -> None:
    task = await service.order(REVID.order())
    watch = Stopwatch()
    assert (await asyncio.wait_for(service.task(task["id"], wait=0.3), HANG))["state"] == "submitted"
    assert watch.read().at_least(0.3)


async def test_wait_for_what_is_not_there_does_not_wait(service: Service) -> None:
    asking = service.client.get(f"/api/tasks/{NOBODY}?wait={WAIT}")
    assert_problem(await asyncio.wait_for(asking, EARLIER), 404)


# --- the list


async def listed(service: Service, query: str = "") -> list[str]:
    """The prompts of the tasks in a list, in its order."""
    answer = await service.client.get(f"/api/tasks{query}")
    assert answer.status_code == 200, answer.text
    return [task["input"]["prompt"] for task in answer.json()["tasks"]]


async def stocked(service: Service) -> list[Task]:
    """Order five different tasks, one minute after the other."""
    provider, tasks = service.provider, []
    for family, prompt, metadata in (
        (REVID, "first 100% cat", {"shop": "a", "n": 1}),
        (APIXO, "second_dog", {"shop": "b", "n": 2.5, "draft": True}),
        (GATEWAY, "third BIRD", {"shop": "a", "draft": False, "none": None}),
        (RIVYA, "fourth\\fish", {"shop.x": "a", "list": [1, 2]}),
        (REVID, "fifth 1000 cats", {}),
    ):
        provider.on_create(family, says(family.accepted(f"remote-{prompt[:5]}")))
        tasks.append(await service.order(family.order(prompt, metadata=metadata)))
        service.clock.advance(60)
    await service.call_back(tasks[0]["id"], REVID.done("remote-first", URL))
    await service.call_back(tasks[1]["id"], APIXO.failed("remote-secon"))
    return tasks


ALL = ["fifth 1000 cats", "fourth\\fish", "third BIRD", "second_dog", "first 100% cat"]
FILTERS: dict[str, list[int]] = {
    "": [5, 4, 3, 2, 1],
    "state=succeeded": [1],
    "state=succeeded&state=failed": [2, 1],
    "state=submitted": [5, 4, 3],
    "state=queued": [],
    "provider=revid": [5, 1],
    "provider=nobody": [],
    "model=sora-2": [4, 3, 2],
    "provider=revid&state=submitted": [5],
    "q=cat": [5, 1],
    "q=CAT": [5, 1],
    "q=bird": [3],
    "q=100%25": [1],
    "q=d_d": [2],
    "q=%25": [1],
    "q=%5C": [4],
    "q=remote-": [5, 4, 3, 2, 1],
    "q=remote-third": [3],
    "q=nothing-like-it": [],
    "metadata.shop=a": [3, 1],
    "metadata.shop=b": [2],
    "metadata.shop=": [],
    "metadata.n=1": [1],
    "metadata.n=2.5": [2],
    "metadata.draft=true": [2],
    "metadata.draft=false": [3],
    "metadata.shop.x=a": [4],
    "metadata.shop=a&metadata.n=1": [1],
    "metadata.missing=a": [],
    "metadata.%24=a": [],
    "since=2026-11-20T12:03:00Z": [5, 4],
    "since=2026-11-20T13:03:00%2B01:00": [5, 4],
    "until=2026-11-20T12:01:00Z": [1],
    "since=2026-11-20T12:01:00.000Z&until=2026-11-20T12:03:00.000Z": [3, 2],
    "limit=2": [5, 4],
    "limit=200": [5, 4, 3, 2, 1],
}


async def test_a_list_is_newest_first_and_filtered_by_every_documented_name(service: Service) -> None:
    await stocked(service)
    for query, numbers in FILTERS.items():
        assert await listed(service, f"?{query}") == [ALL[5 - number] for number in numbers], query


async def test_a_list_finds_tasks_by_any_part_of_their_id(service: Service) -> None:
    tasks = await stocked(service)
    for number, task in enumerate(tasks, 1):
        assert await listed(service, f"?q={task['id']}") == [ALL[5 - number]]
        assert ALL[5 - number] in await listed(service, f"?q={task['id'][-8:]}")


async def test_a_cursor_pages_through_everything_once(service: Service) -> None:
    await stocked(service)
    found, cursor, pages = [], "", 0
    while pages < 10:
        answer = (await service.client.get(f"/api/tasks?limit=2{cursor}")).json()
        found += [task["input"]["prompt"] for task in answer["tasks"]]
        pages += 1
        if answer["next"] is None:
            break
        cursor = f"&cursor={quote(answer['next'])}"
        await service.order(REVID.order("news that came meanwhile"))
    assert found == ALL
    assert pages == 3


async def test_a_cursor_keeps_to_the_filter(service: Service) -> None:
    await stocked(service)
    first = (await service.client.get("/api/tasks?q=cat&limit=1")).json()
    then = (await service.client.get(f"/api/tasks?q=cat&limit=1&cursor={first['next']}")).json()
    assert [task["input"]["prompt"] for task in first["tasks"] + then["tasks"]] == [ALL[0], ALL[4]]


async def test_tasks_of_one_moment_are_listed_in_the_order_of_their_creation(service: Service) -> None:
    for number in range(20):
        await service.order(REVID.order(f"{number}"))
    assert await listed(service) == [f"{number}" for number in reversed(range(20))]


async def test_an_empty_list_has_no_next(service: Service) -> None:
    assert (await service.client.get("/api/tasks")).json() == {"tasks": [], "next": None}


HOSTILE = ["\x00", "\ud800", "'; DROP TABLE task; --", "%", "\U0001f408", "a" * 500, "$.shop", '"']


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
async def test_hostile_queries_find_nothing_and_break_nothing(text: str, service: Service) -> None:
    await service.order(REVID.order("x"))
    value = quote(text.encode("utf-8", "surrogatepass"))
    for query in (f"q={value}", f"provider={value}", f"model={value}", f"metadata.{value}=1", f"metadata.a={value}"):
        assert await listed(service, f"?{query}") == [], query


# --- providers


async def test_providers_are_listed_with_their_models(stage: Stage) -> None:
    async with stage.serve(APIXO_API_KEY=None) as service:
        told = (await service.client.get("/api/providers")).json()["providers"]
    providers = {provider["name"]: provider for provider in told if provider["name"] in FAMILIES}
    assert {name: it["configured"] for name, it in providers.items()} == {
        "rivya": True,
        "revid": True,
        "gateway": True,
        "apixo": False,
    }
    for provider in providers.values():
        for model in provider["models"]:
            assert model["input"]["type"] == "object"
            assert "prompt" in model["input"]["properties"] or not model["validated"]
    revid = {model["id"]: model for model in providers["revid"]["models"]}
    assert len(revid) == 6
    assert "50" in revid["sora-2-text-to-video"]["price"]
    assert revid["sora-2-text-to-video"]["input"]["properties"]["n_frames"]["enum"] == ["10", "15"]


async def test_a_further_gateway_is_an_account_of_its_own(stage: Stage) -> None:
    more: dict[str, str | None] = {
        "GATEWAY_X_API_KEY": "the-key-of-x",
        "GATEWAY_X_BASE_URL": f"{stage.provider.url}/gateway-x",
    }
    async with stage.serve(**more) as service:
        task = await service.order({**GATEWAY.order(), "provider": "gateway-x"})
        assert (task["provider"], task["remote_id"]) == ("gateway-x", "gateway-x-1")
        other = await service.order(GATEWAY.order())
        assert other["remote_id"] == "gateway-1"
        link = stage.provider.bought()[0].callback_url
        assert link is not None
        assert "/callbacks/gateway-x/" in link
        path = link.removeprefix("https://hooks.example.com")
        assert (await service.deliver(path.replace("gateway-x", "gateway"), b"{}")).status_code == 404
        assert (await service.deliver(path, GATEWAY.done("gateway-x-1", URL))).json() == {"outcome": "applied"}


# --- a database that cannot be written


@pytest.mark.row("A8")
async def test_while_the_database_is_locked_nothing_is_sent_and_afterwards_everything_works(
    torture: Torture, service: Service
) -> None:
    task = await service.order(REVID.order("before"))
    assert await service.poll() == {"submitted": 0, "checked": 0, "settled": 0, "expired": 0, "failed": 0}
    service.clock.advance(300)
    with service.database.locked():
        watch = Stopwatch()
        answers = await asyncio.gather(
            service.post("/api/tasks", REVID.order("during"), Idempotency_Key="k"),
            service.post("/api/poll"),
            service.post(f"/api/tasks/{task['id']}/check"),
            service.post(f"/api/tasks/{task['id']}/cancel"),
        )
        torture.within(watch.read(), 4)
        for answer in answers:
            assert_problem(answer, 503)
            assert int(answer.headers["retry-after"]) > 0
        assert (await service.task(task["id"]))["state"] == "submitted", "reading goes on"
    assert (len(service.provider.bought()), service.provider.asked()) == (1, [])
    assert (await service.post("/api/tasks", REVID.order("during"), Idempotency_Key="k")).status_code == 201
    assert (await service.poll())["checked"] == 1
    assert await listed(service) == ["during", "before"]


async def test_a_sweep_waits_for_what_it_began(service: Service) -> None:
    await service.order(REVID.order())
    released = asyncio.Event()

    async def wait(_: Received) -> None:
        await released.wait()

    service.provider.on_check(REVID, after(wait, says(REVID.done("revid-1", URL))))
    service.clock.advance(300)
    polling = asyncio.create_task(service.poll())
    await service.provider.until(lambda: len(service.provider.asked()) == 1)
    assert not polling.done()
    released.set()
    assert (await polling)["settled"] == 1
    assert service.clock.now == NOW + 300_000
