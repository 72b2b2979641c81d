"""Interface, section 1, "Sent or not": what each way in which a first try can end does to the task."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from receiver.outbound.client import MAX_REQUESTS
from tests.behaviour.families import APIXO, FAMILIES, GATEWAY, REVID, RIVYA, WITHOUT_KEYS, Family
from tests.behaviour.provider import Provider, Script, cuts, drips, hangs, says, shows, slams, writes, zips
from tests.behaviour.service import DEAD_PORT, NOW, Service, Stage, Task, milliseconds
from tests.measuring import move_on

pytestmark = pytest.mark.anyio

every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
every_family_without_keys = pytest.mark.parametrize("family", WITHOUT_KEYS, ids=[it.name for it in WITHOUT_KEYS])

OUR_CODES = {"timeout", "broken_answer", "server_error", "crashed", "deadline"}


# --- accepted


@every_family
async def test_an_answer_with_an_id_is_submitted(family: Family, service: Service) -> None:
    task = await service.order(family.order())
    assert (task["state"], task["remote_id"], task["attempts"]) == ("submitted", f"{family.name}-1", 1)
    assert task["error"] is None
    assert milliseconds(task["submitted_at"]) == NOW
    assert await service.moves(task["id"]) == ["submitting", "submitted"]


async def test_a_compressed_answer_is_read_all_the_same(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, zips(REVID.accepted("zipped")))
    assert (await service.order(REVID.order()))["remote_id"] == "zipped"


# --- provably not received: queued again


NOT_RECEIVED = [
    pytest.param(DEAD_PORT, id="connection-refused"),
    pytest.param("http://nowhere.invalid", id="no-such-name"),
    pytest.param("https://127.0.0.1:{port}", id="no-tls-there"),
]


@every_family
@pytest.mark.parametrize("base_url", NOT_RECEIVED)
@pytest.mark.row("E6")
async def test_what_provably_was_not_received_is_queued_again(family: Family, base_url: str, stage: Stage) -> None:
    base_url = base_url.format(port=stage.provider.url.rpartition(":")[2])
    async with stage.serve(**{f"{family.name.upper()}_BASE_URL": base_url}) as service:
        task = await service.order(family.order())
        assert (task["state"], task["error"], task["remote_id"]) == ("queued", None, None)
        assert task["notices"], "a person is told why it waits"
        assert 8_000 <= milliseconds(task["next_check_at"]) - NOW <= 12_000, "POLL_EVERY, jittered"
        assert await service.moves(task["id"]) == ["submitting", "queued"]
    async with stage.serve() as service:
        stage.clock.advance(12)
        report = await service.poll()
        assert report == {"submitted": 1, "checked": 0, "settled": 0, "expired": 0, "failed": 0}
        assert (await service.task(task["id"]))["state"] == "submitted"
        assert len(stage.provider.bought(family)) == 1


@pytest.mark.row("E6")
async def test_the_pauses_between_tries_grow_up_to_their_cap(stage: Stage) -> None:
    async with stage.serve(REVID_BASE_URL=DEAD_PORT, POLL_EVERY="10", POLL_MAX="60") as service:
        task, pauses = await service.order(REVID.order()), []
        for _ in range(6):
            pauses.append((milliseconds(task["next_check_at"]) - stage.clock.now) / 1000)
            await service.poll_when_due(task["id"])
            task = await service.task(task["id"])
        assert (task["state"], task["attempts"]) == ("queued", 7)
    for pause, grown in zip(pauses, (10, 16, 25.6, 40.96, 60, 60), strict=True):
        assert 0.8 * grown <= pause <= 1.2 * grown


# --- 429: queued again, when the provider says or after our own pause


@dataclass(frozen=True)
class Asked:
    """A `Retry-After`, and the seconds between which the next try may come."""

    headers: dict[str, str]
    least: float
    most: float


OWN_PAUSE = (8.0, 12.0)
DATE = "Fri, 20 Nov 2026 12:00:00 GMT"
BUSY = [
    pytest.param(Asked({"Retry_After": "77"}, 77, 77), id="seconds"),
    pytest.param(Asked({"Retry_After": "Fri, 20 Nov 2026 12:01:30 GMT", "Date": DATE}, 90, 90), id="date"),
    pytest.param(Asked({"Retry_After": "Fri, 20 Nov 2026 12:01:30 GMT"}, 90, 90), id="date-by-our-clock"),
    pytest.param(
        Asked({"Retry_After": "Thu, 19 Nov 2026 09:00:45 GMT", "Date": "Thu, 19 Nov 2026 09:00:00 GMT"}, 45, 45),
        id="date-by-a-wrong-clock",
    ),
    pytest.param(Asked({"Retry_After": "Fri, 20 Nov 2026 11:00:00 GMT", "Date": DATE}, 1, 12), id="date-in-the-past"),
    pytest.param(Asked({"Retry_After": "0"}, 0.001, 12), id="zero"),
    pytest.param(Asked({"Retry_After": "soon"}, *OWN_PAUSE), id="garbage"),
    pytest.param(Asked({"Retry_After": "-5"}, *OWN_PAUSE), id="negative"),
    pytest.param(Asked({"Retry_After": "9" * 400}, 1, 7200), id="absurd"),
    pytest.param(Asked({"Retry_After": ""}, *OWN_PAUSE), id="empty"),
    pytest.param(Asked({}, *OWN_PAUSE), id="not-said"),
]


@pytest.mark.parametrize("asked", BUSY)
@pytest.mark.row("E1")
async def test_a_429_is_queued_again_for_as_long_as_the_provider_says(
    asked: Asked, service: Service, provider: Provider
) -> None:
    provider.on_create(GATEWAY, says({"error": {"message": "rate limited"}}, 429, **asked.headers))
    task = await service.order(GATEWAY.order())
    assert (task["state"], task["error"], task["attempts"]) == ("queued", None, 1)
    pause = (milliseconds(task["next_check_at"]) - NOW) / 1000
    assert asked.least <= pause <= asked.most


@every_family
@pytest.mark.row("E1")
async def test_a_429_is_tried_again_not_before_its_time_and_bought_once(
    family: Family, service: Service, provider: Provider
) -> None:
    provider.on_create(family, says({"message": "slow down"}, 429, Retry_After="60"), says(family.accepted("r-1")))
    task = await service.order(family.order())
    await service.poll_after(59)
    assert len(provider.bought()) == 1
    report = await service.poll_after(1)
    assert (report["submitted"], report["failed"]) == (1, 0)
    assert len(provider.bought()) == 2
    task = await service.task(task["id"])
    assert (task["state"], task["attempts"], milliseconds(task["submitted_at"])) == ("submitted", 2, NOW + 60_000)


async def test_a_429_inside_an_http_200_is_queued_again(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, says({"code": 429, "msg": "Request rate limit exceeded", "data": None}))
    assert (await service.order(REVID.order()))["state"] == "queued"


# --- a refusal: failed, in the provider's words


@dataclass(frozen=True)
class No:
    """A provider's "no", and what the task's error says then."""

    family: Family
    status: int
    body: Any
    code: str
    words: str


def _error(code: str | None, words: str) -> Any:
    return {"error": {"code": code, "message": words, "requestId": "req_example"}}


def _envelope(code: int, words: str) -> Any:
    return {"code": code, "msg": words, "data": None}


MISSING = {"code": 400, "message": "Invalid request", "data": {"error": "Missing required field: input.prompt"}}
INPAINT = {"error": {"message": "Inpaint image must match", "type": "invalid_request_error", "param": None}}
REFUSALS = {
    "rivya-400": No(RIVYA, 400, _error("validation_failed", "n_frames"), "validation_failed", "n_frames"),
    "rivya-402": No(RIVYA, 402, _error("insufficient_credits", "top up"), "insufficient_credits", "top up"),
    "rivya-403": No(RIVYA, 403, _error("api_scope_denied", "scope"), "api_scope_denied", "scope"),
    "rivya-409": No(RIVYA, 409, _error("idempotency_conflict", "used before"), "idempotency_conflict", "used before"),
    "rivya-disabled": No(RIVYA, 503, _error("public_api_disabled", "off"), "public_api_disabled", "off"),
    "rivya-in-200": No(RIVYA, 200, _error("insufficient_credits", "top up"), "insufficient_credits", "top up"),
    "apixo-400": No(APIXO, 400, MISSING, "400", "Missing required field"),
    "apixo-401": No(APIXO, 401, {"code": 401, "message": "Invalid API Key"}, "401", "Invalid API Key"),
    "apixo-in-200": No(APIXO, 200, MISSING, "400", "Missing required field"),
    "revid-402": No(REVID, 402, _envelope(402, "Insufficient account balance"), "402", "balance"),
    "revid-422": No(REVID, 422, _envelope(422, "Parameter validation failed"), "422", "validation"),
    "revid-401-in-200": No(REVID, 200, _envelope(401, "Authentication failed"), "401", "Authentication"),
    "revid-402-in-200": No(REVID, 200, _envelope(402, "Insufficient account balance"), "402", "balance"),
    "revid-422-in-200": No(REVID, 200, _envelope(422, "Parameter validation failed"), "422", "validation"),
    "revid-paused": No(REVID, 200, {"code": 500, "msg": "This interface is temporarily paused"}, "500", "paused"),
    "revid-disabled": No(REVID, 200, _envelope(500, "The model is disabled"), "500", "disabled"),
    "revid-not-found": No(REVID, 200, _envelope(500, "model not found"), "500", "not found"),
    "revid-required": No(REVID, 200, _envelope(500, "input.prompt is required"), "500", "required"),
    "gateway-400": No(GATEWAY, 400, INPAINT, "invalid_request_error", "Inpaint"),
    "gateway-404": No(GATEWAY, 404, _error("not_found", "no such route"), "not_found", "route"),
    "gateway-in-200": No(GATEWAY, 200, _error(None, "model not found"), "error", "not found"),
}


@pytest.mark.parametrize("no", REFUSALS.values(), ids=list(REFUSALS))
@pytest.mark.row("E5")
async def test_a_refusal_is_failed_in_the_providers_words_and_never_sent_again(
    no: No, service: Service, provider: Provider
) -> None:
    provider.on_create(no.family, says(no.body, no.status))
    task = await service.order(no.family.order())
    assert task["state"] == "failed"
    assert task["error"]["code"] == no.code
    assert no.words in task["error"]["message"]
    assert task["settled_by"] == "submission"
    assert milliseconds(task["finished_at"]) == NOW
    assert task["next_check_at"] is None
    await service.poll_after(100_000)
    assert len(provider.bought()) == 1


async def test_a_refusal_in_html_is_failed(service: Service, provider: Provider) -> None:
    provider.on_create(GATEWAY, shows("<html><h1>403 Forbidden</h1></html>", 403))
    task = await service.order(GATEWAY.order())
    assert (task["state"], task["error"]["code"]) == ("failed", "http_403")
    assert "Forbidden" in task["error"]["message"]
    assert "<" not in task["error"]["message"]


# --- everything else: unconfirmed, never sent again


@dataclass(frozen=True)
class Unclear:
    """An end that leaves open whether the order was taken, and our code for it."""

    script: Script
    code: str


def _unclear(family: Family) -> dict[str, Unclear]:
    return {
        "reset": Unclear(slams(), "broken_answer"),
        "cut": Unclear(cuts(family.accepted("lost")), "broken_answer"),
        "no-http": Unclear(writes(b"SSH-2.0-OpenSSH_9.2\r\n"), "broken_answer"),
        "empty-200": Unclear(writes(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "broken_answer"),
        "204": Unclear(writes(b"HTTP/1.1 204 No Content\r\n\r\n"), "broken_answer"),
        "html-200": Unclear(shows("<html>maintenance</html>"), "broken_answer"),
        "a-list": Unclear(says(["no", "object"]), "broken_answer"),
        "without-an-id": Unclear(says({"code": 200, "msg": "success", "data": {}}), "broken_answer"),
        "an-empty-object": Unclear(says({}), "broken_answer"),
        "a-null-id": Unclear(says({"id": None, "task_id": None, "data": {"taskId": None}}), "broken_answer"),
        "redirect": Unclear(shows("", 302, Location="/elsewhere"), "broken_answer"),
        "permanent-redirect": Unclear(shows("", 308, Location="/elsewhere"), "broken_answer"),
        "other-encoding": Unclear(says(family.accepted("br"), Content_Encoding="br"), "broken_answer"),
        "5-mb": Unclear(says({"x": "x" * 5_000_000}), "broken_answer"),
        "500": Unclear(says({"error": {"message": "internal"}}, 500), "server_error"),
        "502-html": Unclear(shows("<html>bad gateway</html>", 502), "server_error"),
        "503": Unclear(says({"code": 503, "message": "overloaded"}, 503), "server_error"),
        "504": Unclear(shows("", 504), "server_error"),
    }  # fmt: skip


UNCLEAR = [
    pytest.param(family, name, id=f"{family.name}-{name}") for family in WITHOUT_KEYS for name in _unclear(family)
]


@pytest.mark.parametrize(("family", "name"), UNCLEAR)
@pytest.mark.row("E2")
@pytest.mark.row("E5")
async def test_what_may_have_been_received_is_unconfirmed_and_never_sent_again(
    family: Family, name: str, service: Service, provider: Provider
) -> None:
    unclear = _unclear(family)[name]
    provider.on_create(family, unclear.script, says(family.accepted("second")))
    task = await service.order(family.order())
    assert task["state"] == "unconfirmed"
    assert task["error"]["code"] == unclear.code
    assert task["error"]["message"]
    assert (task["remote_id"], task["finished_at"], task["settled_by"]) == (None, None, None)
    await service.poll_after(3600)
    assert (await service.task(task["id"]))["state"] == "unconfirmed"
    assert len(provider.bought()) == 1


async def test_a_server_fault_inside_an_http_200_is_unconfirmed(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, says({"code": 500, "msg": "Internal server error", "data": None}))
    task = await service.order(REVID.order())
    assert (task["state"], task["error"]["code"]) == ("unconfirmed", "server_error")


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n{"], ids=["silent", "half"])
@every_family_without_keys
@pytest.mark.row("E3")
async def test_no_answer_in_time_is_unconfirmed(family: Family, beginning: bytes, stage: Stage) -> None:
    stage.provider.on_create(family, hangs(beginning))
    async with stage.serve() as service:
        task = await service.when_time_is_over(service.order(family.order()), lambda: len(stage.provider.bought()) == 1)
        assert task["state"] in ("submitting", "unconfirmed"), "answered in time, as it then stands"
        task = await service.until_state(task["id"], "unconfirmed")
        assert task["error"]["code"] == "timeout"
        await service.poll_after(3600)
    assert len(stage.provider.bought()) == 1


@pytest.mark.row("E3")
async def test_an_answer_that_drips_is_not_waited_for_longer_than_the_whole_timeout(stage: Stage) -> None:
    stage.provider.on_create(REVID, drips(REVID.accepted("slow"), 1))
    async with stage.serve(TIMEOUT="30") as service:
        ordering = asyncio.create_task(service.order(REVID.order()))
        await stage.provider.until(lambda: len(stage.provider.bought()) == 1)
        while not ordering.done():
            move_on(1)  # the next byte comes, long before a wait for one would be over
            await asyncio.sleep(0.002)
        task = await ordering
        task = await service.until_state(task["id"], "unconfirmed")
        assert task["error"]["code"] == "timeout"


@pytest.mark.row("E3")
async def test_an_order_that_found_no_free_connection_was_not_received(stage: Stage) -> None:
    """More orders at once than one account has connections: those that never got one wait in the queue."""
    stage.provider.on_create(REVID, hangs())
    async with stage.serve() as service:
        orders = asyncio.gather(*(service.order(REVID.order(f"{number}")) for number in range(40)))
        await stage.provider.until(lambda: len(stage.provider.bought()) == MAX_REQUESTS)
        move_on(30)
        tasks = await orders
        states = [(await service.until(it["id"], _has_ended))["state"] for it in tasks]
        assert 0 < states.count("queued") <= 40 - len(stage.provider.bought())
        assert set(states) == {"queued", "unconfirmed"}


def _has_ended(task: Task) -> bool:
    return task["state"] == "unconfirmed" or (task["state"] == "queued" and bool(task["notices"]))


async def test_an_id_that_another_task_holds_is_not_taken(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, says(REVID.accepted("the-same")))
    first, second = await service.order(REVID.order("1")), await service.order(REVID.order("2"))
    assert (first["remote_id"], second["state"], second["remote_id"]) == ("the-same", "submitted", None)
    assert any(first["id"] in notice for notice in second["notices"])


@pytest.mark.row("E8")
async def test_a_redirect_is_not_followed(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, shows("", 307, Location=f"{provider.url}/revid/paid/sora2/create"))
    await service.order(REVID.order())
    assert len(provider.received) == 1


async def test_an_error_of_ours_is_cleared_when_the_task_goes_on(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, slams())
    task = await service.order(REVID.order())
    assert task["error"]["code"] in OUR_CODES
    assert await service.call_back(task["id"], REVID.working("late-1")) == "applied"
    task = await service.task(task["id"])
    assert (task["state"], task["error"], task["remote_id"]) == ("running", None, "late-1")


# --- what is on the wire


@pytest.mark.parametrize(
    "family", [pytest.param(family, id=family.name) for family in FAMILIES.values() if family.calls_back]
)
async def test_without_a_public_url_tasks_are_submitted_without_callback(family: Family, stage: Stage) -> None:
    async with stage.serve(PUBLIC_URL=None) as service:
        task = await service.order(family.order())
    assert task["state"] == "submitted"
    assert stage.provider.bought()[0].callback_url is None
    assert family.hook is not None
    assert family.hook not in stage.provider.bought()[0].json


async def test_the_public_urls_path_stands_before_the_callback_path(stage: Stage) -> None:
    async with stage.serve(PUBLIC_URL="https://example.com/hooks/in") as service:
        task = await service.order(REVID.order())
        url = stage.provider.bought()[0].callback_url
        assert url is not None
        assert url.startswith("https://example.com/hooks/in/callbacks/revid/")
        path = url.removeprefix("https://example.com")
        assert (await service.deliver(path, REVID.working("revid-1"))).status_code == 200
        assert (await service.deliver(path.removeprefix("/hooks/in"), REVID.working("revid-1"))).status_code == 200
        assert (await service.task(task["id"]))["deliveries"] == 2


async def test_a_paid_request_says_who_we_are_and_its_key(service: Service, provider: Provider) -> None:
    for family in FAMILIES.values():
        await service.order(family.order())
        request = provider.bought(family)[0]
        name, key = ("x-api-key", "") if family is REVID else ("authorization", "Bearer ")
        assert request.headers[name] == f"{key}the-key-of-{family.name}"
        assert request.headers["user-agent"].startswith("receiver/")
        assert ("idempotency-key" in request.headers) == (family is RIVYA)
