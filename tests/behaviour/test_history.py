"""Interface, sections 3 and 4: what `GET /api/tasks/{id}/history` tells, and what it never shows."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from receiver.store.reading import BODY_BYTES
from tests.behaviour.families import CALLING_BACK, FAMILIES, GATEWAY, REVID, Family, gateway_at, revid_done
from tests.behaviour.provider import Provider, says, slams
from tests.behaviour.service import NOW, TOKEN, Service, Stage, Task, milliseconds

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/out.mp4"
ID = "the-remote-id"
SHOWN = 64 * 1024
every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
each_that_calls_back = pytest.mark.parametrize("family", CALLING_BACK, ids=[family.name for family in CALLING_BACK])


async def ordered(service: Service, family: Family) -> Task:
    service.provider.on_create(family, says(family.accepted(ID)))
    return await service.order(family.order())


async def deliveries(service: Service, task: Task) -> list[dict[str, Any]]:
    return await service.history(task["id"], "delivery")


async def test_a_life_is_told_in_order(service: Service, provider: Provider) -> None:
    task = await ordered(service, GATEWAY)
    service.clock.advance(10)
    await service.call_back(task["id"], gateway_at("10%")(ID))
    provider.on_check(GATEWAY, says(GATEWAY.working(ID)))
    await service.poll_after(290)
    await service.call_back(task["id"], b"?")
    await service.until_checked(task["id"], 2)
    await service.call_back(task["id"], GATEWAY.done(ID, URL))
    await service.call_back(task["id"], GATEWAY.done(ID, URL))
    events = await service.history(task["id"])
    told = [(it["kind"], it.get("to") or it.get("outcome")) for it in events]
    assert told == [
        ("move", "submitting"),
        ("attempt", "accepted"),
        ("move", "submitted"),
        ("delivery", "applied"),
        ("move", "running"),
        ("check", "applied"),
        ("delivery", "unreadable"),
        ("check", "repeated"),
        ("delivery", "applied"),
        ("move", "succeeded"),
        ("delivery", "repeated"),
    ]
    ids = [it["id"] for it in events]
    assert ids == sorted(set(ids))
    assert [milliseconds(it["at"]) - NOW for it in events] == [0] * 3 + [10_000] * 2 + [300_000] * 6
    assert {it["via"] for it in events if it["kind"] == "move"} == {"submission", "callback"}


@each_that_calls_back
async def test_an_attempt_tells_what_was_sent_and_what_came_back(family: Family, service: Service) -> None:
    task = await ordered(service, family)
    [attempt] = await service.history(task["id"], "attempt")
    [request] = service.provider.bought()
    sent = json.loads(attempt["request"]["body"])
    assert {name: value for name, value in sent.items() if name != family.hook} == {
        name: value for name, value in request.json.items() if name != family.hook
    }
    assert attempt["request"]["method"] == "POST"
    assert attempt["request"]["url"].endswith(request.path)
    assert (attempt["number"], attempt["http_status"], json.loads(attempt["answer"])) == (1, 200, family.accepted(ID))
    assert milliseconds(attempt["departed_at"]) == NOW


async def test_an_attempt_without_an_answer_says_what_happened(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, slams())
    task = await service.order(REVID.order())
    [attempt] = await service.history(task["id"], "attempt")
    assert (attempt["outcome"], attempt["http_status"], attempt["answer"]) == ("unconfirmed", None, None)
    assert attempt["message"]
    [_, move] = await service.history(task["id"], "move")
    assert (move["from"], move["to"], move["error"]["code"]) == ("submitting", "unconfirmed", "broken_answer")


async def test_a_check_tells_what_was_answered(service: Service, provider: Provider) -> None:
    task = await ordered(service, REVID)
    provider.on_check(REVID, says({"code": 404, "msg": "not there"}, 404))
    await service.poll_after(300)
    [check] = await service.history(task["id"], "check")
    assert (check["outcome"], check["http_status"], json.loads(check["answer"])["code"]) == ("failed", 404, 404)
    assert "not there" in check["message"]


async def test_a_delivery_has_outcome_headers_and_body(service: Service) -> None:
    task = await ordered(service, REVID)
    body = json.dumps(REVID.done(ID, URL))
    headers = [(b"Content-Type", b"text/plain"), (b"X-Thing", "ünï".encode()), (b"Authorization", b"Bearer of-theirs")]
    answer = await service.stranger.post(service.link(task["id"]), content=body.encode(), headers=headers)
    assert answer.json() == {"outcome": "applied"}
    [delivery] = await deliveries(service, task)
    assert (delivery["outcome"], delivery["body"]) == ("applied", body)
    shown = {name.lower(): value for name, value in delivery["headers"].items()}
    assert shown["content-type"] == "text/plain"
    assert "of-theirs" not in shown["authorization"]
    assert "truncated" not in delivery


@pytest.mark.parametrize("body", [b"", b"\xff\xfe\x00", "ünï 🐈".encode(), b"<html>", b"{", b"a\x00b"], ids=range(6))
async def test_a_body_of_any_kind_is_shown_as_text_and_kept_as_bytes(body: bytes, service: Service) -> None:
    task = await ordered(service, REVID)
    await service.call_back(task["id"], body)
    [delivery] = await deliveries(service, task)
    assert delivery["body"] == body.decode("utf-8", "replace")
    assert service.database.rows("SELECT body FROM delivery") == [(body,)]


CUTS = [
    pytest.param(b"x" * SHOWN, SHOWN, False, id="just-fits"),
    pytest.param(b"x" * (SHOWN + 1), SHOWN, True, id="one-more"),
    pytest.param("é".encode() * (SHOWN // 2), SHOWN // 2, False, id="two-bytes-each-just-fit"),
    pytest.param("é".encode() * SHOWN, SHOWN // 2, True, id="two-bytes-each"),
    pytest.param(b"x" + "é".encode() * SHOWN, SHOWN // 2, True, id="cut-between-letters"),
    pytest.param("🐈".encode() * 20_000, SHOWN // 4, True, id="four-bytes-each"),
]


@pytest.mark.parametrize(("body", "characters", "truncated"), CUTS)
async def test_a_body_is_cut_at_64_kib(body: bytes, characters: int, truncated: bool, service: Service) -> None:  # noqa: FBT001
    task = await ordered(service, REVID)
    await service.call_back(task["id"], body)
    [delivery] = await deliveries(service, task)
    assert delivery["body"] == body.decode()[:characters]
    assert delivery.get("truncated", False) is truncated
    assert service.database.rows("SELECT length(body) FROM delivery") == [(len(body),)], "kept whole"


async def test_the_largest_body_that_is_taken_is_kept_whole(service: Service) -> None:
    task = await ordered(service, REVID)
    body = json.dumps(revid_done(ID, URL, param="p" * 1_000_000)).encode().ljust(1_048_576)
    assert await service.call_back(task["id"], body) == "applied"
    [delivery] = await deliveries(service, task)
    assert (delivery["truncated"], len(delivery["body"])) == (True, SHOWN)
    assert service.database.rows("SELECT length(body) FROM delivery") == [(1_048_576,)]


async def test_of_many_large_bodies_less_is_shown_of_each(service: Service) -> None:
    task = await ordered(service, REVID)
    for _ in range(60):
        await service.call_back(task["id"], b"x" * 100_000)
    shown = await deliveries(service, task)
    assert all(each["truncated"] for each in shown)
    assert 400_000 < sum(len(each["body"]) for each in shown) < 1_048_576
    assert service.database.rows("SELECT sum(length(body)) FROM delivery") == [(6_000_000,)]


# --- secrets


def spellings(url: str) -> dict[str, str]:
    """Ways in which providers are known to echo a URL inside `param`."""
    return {
        "json-in-json": json.dumps({"callBackUrl": url}),
        "escaped-slashes": json.dumps({"callBackUrl": url}).replace("/", "\\/"),
        "twice-encoded": json.dumps(json.dumps({"callBackUrl": url})),
        "thrice-encoded": json.dumps(json.dumps(json.dumps({"u": url}).replace("/", "\\/"))),
        "percent-encoded": f"callBackUrl={quote(url, safe='')}",
        "percent-encoded-twice": f"u={quote(quote(url, safe=''), safe='')}",
        "unicode-escapes": json.dumps({"u": url}).replace("/", "\\u002f"),
        "path-only": url.removeprefix("https://hooks.example.com"),
    }


@pytest.mark.parametrize("spelling", list(spellings("")))
async def test_the_token_in_an_echoed_callback_url_is_never_shown(spelling: str, service: Service) -> None:
    task = await ordered(service, REVID)
    url = service.provider.bought()[0].callback_url
    assert url is not None
    signature = url.rpartition(".")[2]
    body = revid_done(ID, URL, param=spellings(url)[spelling])
    assert await service.call_back(task["id"], body) == "applied"
    text = json.dumps(await service.history(task["id"]))
    assert signature not in text
    assert "[redacted]" in text


async def test_a_body_that_is_cut_in_the_middle_of_a_token_does_not_show_its_half(service: Service) -> None:
    """Where other tokens before it are taken out, the end of what is read moves into what is shown."""
    task = await ordered(service, REVID)
    link = service.link(task["id"])
    before = f"{link} ".encode() * 100
    body = before + b"x" * (BODY_BYTES - 20 - len(link) // 2 - len(before)) + b" " + link.encode() + b"x" * 100_000
    await service.call_back(task["id"], body)
    [delivery] = await deliveries(service, task)
    assert delivery["body"].count("[redacted]") == 100
    assert delivery["body"].count(task["id"][:4]) == 0


async def test_the_token_in_a_header_is_never_shown(service: Service) -> None:
    task = await ordered(service, REVID)
    link = service.link(task["id"])
    headers = {"X-Original-Url": link, "Referer": f"https://hooks.example.com{link}"}
    await service.stranger.post(link, content=b"{}", headers=headers)
    assert link.rpartition(".")[2] not in json.dumps(await service.history(task["id"]))


@each_that_calls_back
@pytest.mark.parametrize("how", ["refused", "failed", "unconfirmed", "busy", "unknown-word"])
async def test_words_of_the_provider_that_echo_the_callback_url_are_shown_without_its_token(
    family: Family, how: str, service: Service, provider: Provider
) -> None:
    """A provider that cannot reach or does not like the URL says so, and quotes it."""
    await ordered(service, family)
    provider.received.clear()

    async def refuse(exchange: Any) -> None:
        words = f"callback {exchange.request.callback_url} is not reachable, key the-key-of-{family.name}"
        status = {"refused": 400, "unconfirmed": 500, "busy": 429}[how]
        await says({"code": status, "message": words, "error": {"message": words}}, status)(exchange)

    if how in ("refused", "unconfirmed", "busy"):
        provider.on_create(family, refuse)
        task = await service.order(family.order())
    else:
        provider.on_create(family, says(family.accepted("other-id")))
        task = await service.order(family.order())
        url = provider.bought()[0].callback_url
        body: Any = family.failed("other-id", "X", f"callback {url} is not reachable, key the-key-of-{family.name}")
        if how == "unknown-word":
            record = body.get("data") or body
            record["state"] = record["status"] = url
        await service.call_back(task["id"], body)
    url = provider.bought()[0].callback_url
    assert url is not None
    shown = json.dumps([await service.task(task["id"]), await service.history(task["id"])])
    assert url.rpartition(".")[2] not in shown
    assert f"the-key-of-{family.name}" not in shown


@every_family
async def test_no_secret_of_ours_is_ever_shown(family: Family, service: Service) -> None:
    task = await ordered(service, family)
    path = service.link(task["id"]) if family.calls_back else ""
    places = [f"/api/tasks/{task['id']}", f"/api/tasks/{task['id']}/history"]
    places += ["/api/tasks", "/api/providers", "/api/stats", "/metrics", "/openapi.json"]
    text = "\n".join([(await service.client.get(where)).text for where in places])
    for secret in (TOKEN, "the-signing-key", f"the-key-of-{family.name}"):
        assert secret not in text
    assert not path or path.rpartition(".")[2] not in text


@pytest.mark.row("C8")
async def test_a_key_echoed_by_the_provider_is_not_shown_in_the_history(service: Service, provider: Provider) -> None:
    provider.on_create(REVID, says({"code": 401, "msg": "bad key the-key-of-revid"}, 401))
    task = await service.order(REVID.order())
    assert "the-key-of-revid" not in json.dumps(await service.history(task["id"]))
    assert "the-key-of-revid" not in json.dumps(await service.task(task["id"]))


async def test_the_history_of_an_unknown_task_is_not_found(service: Service) -> None:
    answer = await service.client.get("/api/tasks/tsk_0/history")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_a_task_that_was_never_sent_has_a_history_of_its_own(stage: Stage) -> None:
    async with stage.serve(REVID_BASE_URL="http://127.0.0.1:9") as service:
        task = await service.order(REVID.order())
        assert (await service.post(f"/api/tasks/{task['id']}/cancel")).status_code == 200
        told = [(it["kind"], it.get("to") or it.get("outcome")) for it in await service.history(task["id"])]
        assert told == [
            ("move", "submitting"),
            ("attempt", "not_sent"),
            ("move", "queued"),
            ("move", "cancelled"),
        ]
