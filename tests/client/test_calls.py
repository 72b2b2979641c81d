"""What each call sends, and what it makes of the answer."""

import inspect
from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, assert_type

import pytest

import receiver.client
from receiver.client import AsyncClient, BadAnswer, Client, ClientError, FeedEvent, Task
from receiver.client.calls import Calls
from receiver.client.connection import Connection

from .rig import TASK, TOKEN, Either, Fake, answer, in_turn, raw

ORDER = ("revid", "sora-2-text-to-video", {"prompt": "A paper boat"})
BODY = {"provider": ORDER[0], "model": ORDER[1], "input": ORDER[2]}


def test_an_order_is_sent_as_the_api_takes_it(call: Either, fake: Fake) -> None:
    assert call(fake, "submit", *ORDER, key="order-4711") == TASK
    (asked,) = fake.asked
    assert (asked.method, asked.path, asked.query) == ("POST", "/api/tasks", [])
    assert asked.document == BODY
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"
    assert asked.headers["idempotency-key"] == "order-4711"


def test_what_an_order_may_have_besides_is_sent_only_where_it_is_given(call: Either, fake: Fake) -> None:
    more: dict[str, Any] = {
        "metadata": {"customer": "42"},
        "validate": False,
        "notify_url": "https://app.example.com/hook",
    }
    call(fake, "submit", *ORDER, **more)
    assert fake.asked[0].document == BODY | more


def test_each_order_without_a_key_gets_one_of_its_own(call: Either, fake: Fake) -> None:
    call(fake, "submit", *ORDER)
    call(fake, "submit", *ORDER)
    call(fake, "retry", "tsk_1")
    keys = [asked.headers["idempotency-key"] for asked in fake.asked]
    assert len(set(keys)) == 3
    assert all(len(key) >= 32 for key in keys)


def test_an_order_that_waits_is_submitted_and_then_waited_for(call: Either, fake: Fake) -> None:
    fake.behave = in_turn(answer(TASK | {"state": "running"}), answer())
    assert call(fake, "submit", *ORDER, wait=300)["state"] == "succeeded"
    ordered, waited = fake.asked
    assert (ordered.method, waited.method) == ("POST", "GET")
    assert (waited.path, waited.query) == ("/api/tasks/tsk_1", [("wait", "60.000")])


def test_a_task_is_followed_that_was_bought_elsewhere(call: Either, fake: Fake) -> None:
    call(fake, "track", "revid", "unknown", "their-id", metadata={"a": "b"})
    body = {"provider": "revid", "model": "unknown", "remote_id": "their-id", "metadata": {"a": "b"}}
    assert fake.asked[0].document == body


@pytest.mark.parametrize(
    ("method", "given", "sent"),
    [
        ("get", (), ("GET /api/tasks/tsk_1", None)),
        ("check", (), ("POST /api/tasks/tsk_1/check", None)),
        ("retry", (), ("POST /api/tasks/tsk_1/retry", None)),
        ("cancel", (), ("POST /api/tasks/tsk_1/cancel", None)),
        ("adopt", ("their-id",), ("POST /api/tasks/tsk_1/adopt", {"remote_id": "their-id"})),
        ("not_bought", (), ("POST /api/tasks/tsk_1/adopt", {"not_bought": True})),
        ("acknowledge", (), ("POST /api/tasks/tsk_1/acknowledge", None)),
    ],
)
def test_what_is_done_to_a_task_given_by_its_id_or_its_document(
    call: Either, fake: Fake, method: str, given: tuple[str, ...], sent: tuple[str, Any]
) -> None:
    wire, body = sent
    for task in ("tsk_1", TASK):
        assert call(fake, method, task, *given) == TASK
    for asked in fake.asked:
        assert f"{asked.method} {asked.path}" == wire
        assert (asked.document if asked.body else None) == body


def test_what_else_is_asked_of_the_service(call: Either, fake: Fake) -> None:
    attention = {"items": [{"task": TASK, "reason": "expired", "since": "-", "advice": "-"}], "counts": {"expired": 1}}
    link = {"url": "https://x.example/1", "expires_at": "2026-11-20T12:00:00.000Z"}
    answers = [{"events": [{"id": 1}]}, attention, {"providers": [{"name": "revid"}]}, link]
    fake.behave = in_turn(*(answer(document) for document in answers))
    assert call(fake, "history", "tsk_1") == [{"id": 1}]
    assert call(fake, "attention") == attention
    assert call(fake, "providers") == [{"name": "revid"}]
    assert call(fake, "link", TASK, 2, 90) == link
    assert [f"{asked.method} {asked.path}" for asked in fake.asked] == [
        "GET /api/tasks/tsk_1/history",
        "GET /api/attention",
        "GET /api/providers",
        "POST /api/tasks/tsk_1/outputs/2/link",
    ]
    assert fake.asked[-1].document == {"seconds": 90}


def test_a_list_goes_on_over_all_pages_and_asks_for_no_more_than_wanted(call: Either, fake: Fake) -> None:
    def page(*numbers: int, following: str | None) -> Any:
        return answer({"tasks": [TASK | {"id": f"tsk_{number}"} for number in numbers], "next": following})

    fake.behave = in_turn(page(5, 4, following="tsk_4"), page(3, 2, following="tsk_2"), page(1, following=None))
    assert [task["id"] for task in call(fake, "list")] == [f"tsk_{number}" for number in (5, 4, 3, 2, 1)]
    assert [dict(asked.query) for asked in fake.asked] == [
        {"limit": "200"},
        {"limit": "200", "cursor": "tsk_4"},
        {"limit": "200", "cursor": "tsk_2"},
    ]
    fake.asked.clear()
    assert [task["id"] for task in call(fake, "list", limit=4)] == ["tsk_5", "tsk_4", "tsk_3", "tsk_2"]
    assert [dict(asked.query)["limit"] for asked in fake.asked] == ["4", "2"]
    fake.asked.clear()
    assert len(call.first(1, fake, "list")) == 1
    assert len(fake.asked) == 1, "a page that nobody reads is not fetched"


def test_a_list_is_filtered(call: Either, fake: Fake) -> None:
    fake.behave = in_turn(answer({"tasks": [], "next": None}))
    since = datetime(2026, 11, 20, 12, tzinfo=timezone(timedelta(hours=2)))
    call(fake, "list", state=["failed", "expired"], provider="revid", model="m", q="a b&c", metadata={"k": "v"})
    call(fake, "list", state="failed", since=since, until=datetime(2026, 11, 21, tzinfo=UTC), limit=7)
    first, second = (asked.query for asked in fake.asked)
    assert first == [
        ("state", "failed"), ("state", "expired"), ("provider", "revid"), ("model", "m"), ("q", "a b&c"),
        ("metadata.k", "v"), ("limit", "200"),
    ]  # fmt: skip
    assert second == [
        ("state", "failed"),
        ("since", "2026-11-20T12:00:00+02:00"),
        ("until", "2026-11-21T00:00:00+00:00"),
        ("limit", "7"),
    ]
    with pytest.raises(ValueError, match="since: must have a time zone"):
        call(fake, "list", since=datetime(2026, 11, 20))  # noqa: DTZ001 - what is refused


def test_an_id_never_leaves_its_place_in_the_path(call: Either, fake: Fake) -> None:
    call(fake, "get", "../../x?a=b#c")
    assert fake.asked[0].path == "/api/tasks/..%2F..%2Fx%3Fa%3Db%23c"
    with pytest.raises(ValueError, match="task: must be a task's id"):
        call(fake, "get", "")


def test_a_path_in_the_url_prefixes_all_requests(fake: Fake) -> None:
    for url in (f"{fake.url}/receiver/", f" {fake.url}/receiver"):
        with Client(url, f"{TOKEN}\n", timeout=60) as client:
            client.get("tsk_1")
    assert {asked.path for asked in fake.asked} == {"/receiver/api/tasks/tsk_1"}
    assert {asked.headers["authorization"] for asked in fake.asked} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    "url", ["", "receiver.example", "ftp://x.example", "http://", "http://a:b@x.example", "http://x?y"]
)
def test_a_url_that_is_none_is_refused_with_an_example(url: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(ValueError, match=r"url: must be .* http://127\.0\.0\.1:8000"):
            kind(url, TOKEN, timeout=60)


def test_certificates_are_verified_wherever_there_are_any() -> None:
    assert Connection("https://x.example", TOKEN, 60).options()["verify"] is True


@pytest.mark.parametrize("token", ["", "  ", "schlüssel", "a\nb"])
def test_a_token_that_is_none_is_refused_and_not_shown(token: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(ValueError, match="token: must be an API token") as refused:
            kind("http://127.0.0.1:8000", token, timeout=60)
        assert not token.strip() or token not in str(refused.value)


def test_the_token_is_not_shown_by_the_client(call: Either, fake: Fake) -> None:
    client = call.kind(fake.url, TOKEN, timeout=60)
    assert repr(client) == f"{call.kind.__name__}('{fake.url}')"
    assert TOKEN not in repr(vars(client)) + str(vars(client).get("_connection"))


@pytest.mark.parametrize("body", [b"<html>Welcome</html>", b"[]", b'{"ok": true}', b"", b"[" * 100_000])
def test_an_answer_that_is_not_of_receiver_is_named_so(call: Either, fake: Fake, body: bytes) -> None:
    fake.behave = in_turn(raw(body))
    with pytest.raises(BadAnswer, match="URL"):
        call(fake, "get", "tsk_1")


def test_both_clients_have_every_call_documented_and_nothing_else_in_public() -> None:
    calls = {name for name in vars(Calls) if not name.startswith("_")}
    for kind, own in ((Client, {"close"}), (AsyncClient, {"aclose"})):
        public = {name for name in dir(kind) if not name.startswith("_")}
        assert public == calls | own
        assert [name for name in public if not inspect.getdoc(getattr(kind, name))] == []


async def types_are_those_of_each_client(blocking: Client, awaited: AsyncClient) -> None:
    """Nobody calls this: mypy reads it."""
    assert_type(blocking.get("tsk_1"), Task)
    assert_type(await awaited.get("tsk_1"), Task)
    assert_type(blocking.list(), Generator[Task, None, None])
    assert_type(awaited.events(), AsyncGenerator[FeedEvent, None])
    blocking.get(1)  # type: ignore[arg-type]
    blocking.submit("revid")  # type: ignore[call-arg]


def test_all_errors_have_one_base() -> None:
    errors = [each for each in vars(receiver.client).values() if isinstance(each, type) and issubclass(each, Exception)]
    assert len(errors) == 11
    assert all(issubclass(each, ClientError) for each in errors)
