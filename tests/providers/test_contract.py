"""What every API family keeps to, run over the registry: a family is held to it by being in there."""

import copy
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import pytest

from receiver.core import errors
from receiver.core.errors import Busy, ProviderError, Refused, Unconfirmed, Unreadable
from receiver.core.messages import Evidence, Order, Remote
from receiver.providers import CONFIG_TYPES, FAMILIES, connect
from receiver.providers.base import HasBalance, Provider
from tests.providers.recordings import (
    ANY,
    API_KEY,
    HERE,
    OUTCOMES,
    Recording,
    account,
    answered,
    asked,
    asking,
    recorded,
    submitting,
    told,
    weighing,
)

CALLBACK_URL = "https://hooks.example.com/callbacks/any/the-task"


def messages(*directions: str) -> list[Any]:
    """List what every family must be shown: its own messages, and those that mean the same everywhere."""
    return [
        pytest.param(family, recording, id=f"{family}-{recording.name}")
        for family in FAMILIES
        for recording in recorded(family) + recorded(ANY)
        if recording.direction in directions
    ]


each_family = pytest.mark.parametrize("family", FAMILIES)


# --- the recordings themselves


def test_every_family_has_its_folder_of_recorded_messages_and_every_folder_its_family() -> None:
    folders = {path.name for path in HERE.iterdir() if path.is_dir() and not path.name.startswith("_")}
    assert folders == set(FAMILIES)


@pytest.mark.parametrize("folder", [*FAMILIES, ANY])
def test_every_recorded_message_has_its_meaning_and_the_other_way_round(folder: str) -> None:
    paths = list((HERE / folder).iterdir())
    meanings = {path.stem for path in paths if path.suffix == ".json"} - {"account"}
    assert {path.stem for path in paths if path.suffix == ".http"} == meanings


NEEDED: dict[str, Callable[[Recording], bool]] = {
    "an accepted create": lambda it: it.direction == "create" and "remote_id" in it.meaning.get("event", {}),
    "a refused create": lambda it: it.direction == "create" and it.error == "Refused",
    "a busy create": lambda it: it.direction == "create" and it.error == "Busy",
    "an unclear create": lambda it: it.direction == "create" and it.error == "Unconfirmed",
    "a submitted status": lambda it: it.direction == "status" and it.state == "submitted",
    "a running status": lambda it: it.direction == "status" and it.state == "running",
    "a succeeded status": lambda it: it.direction == "status" and it.state == "succeeded",
    "a failed status": lambda it: it.direction == "status" and it.state == "failed",
    "a failed check": lambda it: it.direction == "status" and "ask_again" in it.meaning,
    "a create request": lambda it: "submit" in it.meaning and "callback_url" not in it.meaning,
    "a create request with a callback URL": lambda it: "submit" in it.meaning and "callback_url" in it.meaning,
    "a status request": lambda it: "status" in it.meaning,
}
NEEDED_OF_CALLBACKS: dict[str, Callable[[Recording], bool]] = {
    "a callback of a success": lambda it: it.direction == "callback" and it.state == "succeeded",
    "a callback of a failure": lambda it: it.direction == "callback" and it.state == "failed",
}
NEEDED_OF_BALANCES: dict[str, Callable[[Recording], bool]] = {
    "a balance": lambda it: it.direction == "balance" and "balance" in it.meaning,
    "no balance": lambda it: it.direction == "balance" and it.error is not None,
    "a balance request": lambda it: it.direction == "request" and "balance" in it.meaning,
}


def tells_balances(family: str) -> bool:
    return isinstance(account(family), HasBalance)


@each_family
def test_the_recordings_of_a_family_show_every_kind_of_message(family: str) -> None:
    needed = NEEDED | (NEEDED_OF_CALLBACKS if FAMILIES[family].takes_callbacks else {})
    needed |= NEEDED_OF_BALANCES if tells_balances(family) else {}
    own = recorded(family)
    assert [kind for kind, is_one in needed.items() if not any(is_one(recording) for recording in own)] == []


# --- messages mean what stands beside them


def check_event(event: Any, expected: dict[str, Any]) -> None:
    found = told(event)
    if "error" in expected and "message" not in expected["error"]:
        assert found["error"].pop("message"), "a failure always has words"
    assert found == expected
    assert isinstance(event.remote_id, str | None)


def check_error(error: BaseException, recording: Recording) -> None:
    expected = recording.meaning["raises"]
    assert type(error) is getattr(errors, expected["error"]), repr(error)
    for name in {"code", "message", "provider_code", "retry_after"} & expected.keys():
        assert getattr(error, name) == expected[name]
    message = str(error)
    assert message.isprintable()
    for part in expected.get("says", ()):
        assert part in message
    for part in expected.get("never", ()):
        assert part not in message
    if isinstance(error, ProviderError):
        assert error.http_status == recording.response().status_code


@pytest.mark.parametrize(("family", "recording"), messages("create"))
def test_an_answer_to_a_submission_means_what_stands_beside_it(family: str, recording: Recording) -> None:
    flow = submitting(account(family))
    if recording.error:
        with pytest.raises(OUTCOMES) as caught:
            answered(flow, recording.response())
        check_error(caught.value, recording)
    else:
        check_event(answered(flow, recording.response()), recording.meaning["event"])


@pytest.mark.parametrize(("family", "recording"), messages("status"))
def test_an_answer_to_a_check_means_what_stands_beside_it(family: str, recording: Recording) -> None:
    flow = asking(account(family))
    if recording.meaning.get("ask_again"):
        assert tells_no_state(flow, recording.response())
    else:
        check_event(answered(flow, recording.response()), recording.meaning["event"])


@pytest.mark.parametrize(("family", "recording"), messages("callback"))
def test_a_callback_means_what_stands_beside_it(family: str, recording: Recording) -> None:
    provider, callback = account(family, **recording.meaning.get("account", {})), recording.callback()
    if recording.error:
        with pytest.raises((Unreadable, errors.Forged)) as caught:
            (provider.verify(callback), provider.read(callback))
        check_error(caught.value, recording)
    else:
        assert provider.verify(callback) == Evidence(recording.meaning.get("signature"))
        check_event(provider.read(callback), recording.meaning["event"])


@pytest.mark.parametrize(("family", "recording"), messages("balance"))
def test_a_balance_means_what_stands_beside_it(family: str, recording: Recording) -> None:
    flow = weighing(account(family))
    if recording.error:
        with pytest.raises(OUTCOMES) as caught:
            answered(flow, recording.response())
        check_error(caught.value, recording)
    else:
        assert answered(flow, recording.response()) == recording.meaning["balance"]


@pytest.mark.parametrize(("family", "recording"), messages("request"))
def test_a_request_goes_out_as_the_documents_write_it(family: str, recording: Recording) -> None:
    provider, asks = account(family), recording.meaning
    if "submit" in asks:
        sent = asked(provider.submit(Order(**asks["submit"]), asks.get("callback_url"), asks.get("key", "a key")))
    elif "status" in asks:
        sent = asked(provider.status(Remote(**asks["status"])))
    else:
        sent = asked(weighing(provider))
    method, target, _ = recording.start.split()
    assert (sent.method, sent.url.scheme, sent.url.netloc.decode()) == (method, "https", recording.headers["Host"])
    assert sent.url.raw_path.decode() == target
    assert headers_of(sent) == {name.lower(): value for name, value in recording.headers.items() if name != "Host"}
    assert canonical(sent.content) == canonical(recording.body)


def headers_of(request: httpx.Request) -> dict[str, str]:
    return {name: value for name, value in request.headers.items() if name not in ("host", "content-length")}


def canonical(body: bytes) -> str:
    """Spell JSON so that `1`, `"1"`, `1.0` and `true` differ, and the order of keys does not."""
    return json.dumps(json.loads(body), sort_keys=True) if body else ""


def tells_no_state(flow: Any, response: httpx.Response) -> bool:
    try:
        return answered(flow, response).state is None
    except OUTCOMES:
        return True


# --- claims about every family


@each_family
def test_a_family_calls_itself_what_the_registry_calls_it_and_an_account_what_its_settings_do(family: str) -> None:
    kind = FAMILIES[family]
    account_name = f"{family}-x" if kind.config_type.allows_several else family
    config = kind.config_type(api_key="k", base_url="https://h.example.com")  # type: ignore[arg-type]
    made = connect({account_name: config})
    assert kind.family == family
    assert CONFIG_TYPES[family] is kind.config_type
    assert {name: (type(provider), provider.name) for name, provider in made.items()} == {
        account_name: (kind, account_name)
    }


@each_family
@pytest.mark.parametrize("callback_url", [None, CALLBACK_URL])
def test_submitting_is_exactly_one_request_and_that_is_marked_as_paid(family: str, callback_url: str | None) -> None:
    request = asked(submitting(account(family), callback_url=callback_url))
    assert request.extensions["paid"] is True
    accepted = next(it for it in recorded(family) if NEEDED["an accepted create"](it))
    answered(submitting(account(family), callback_url=callback_url), accepted.response())  # and then it is over


@each_family
def test_asking_is_never_marked_as_paid(family: str) -> None:
    assert not asked(asking(account(family))).extensions.get("paid")
    if tells_balances(family):
        assert not asked(weighing(account(family))).extensions.get("paid")


def both(provider: Provider) -> list[httpx.Request]:
    return [asked(submitting(provider, callback_url=CALLBACK_URL)), asked(asking(provider))]


@each_family
def test_the_api_key_goes_into_headers_and_nowhere_else(family: str) -> None:
    for request in both(account(family)):
        assert any(API_KEY in value for value in request.headers.values())
        assert API_KEY not in str(request.url)
        assert API_KEY.encode() not in request.content


@each_family
def test_a_callback_url_stands_in_the_body_once_or_where_tasks_name_none_nowhere(family: str) -> None:
    taken = FAMILIES[family].takes_callbacks
    request = asked(submitting(account(family), callback_url=CALLBACK_URL))
    assert request.content.count(CALLBACK_URL.encode()) == (1 if taken else 0)
    assert CALLBACK_URL not in unquote(str(request.url)) + str(request.headers)
    assert b"hooks.example.com" not in asked(submitting(account(family))).content


@each_family
def test_a_submission_carries_its_key_exactly_where_the_provider_takes_one(family: str) -> None:
    request = asked(submitting(account(family)))
    assert (request.headers.get("Idempotency-Key") == "attempt-1") is FAMILIES[family].supports_idempotency_keys
    assert b"attempt-1" not in request.content


@each_family
def test_the_same_submission_is_the_same_bytes_again(family: str) -> None:
    given = {"prompt": "x", "b": 1, "a": [{"c": None}]}
    untouched = copy.deepcopy(given)
    once, again = (asked(submitting(account(family), input=given, callback_url=CALLBACK_URL)) for _ in range(2))
    assert (once.method, once.url, once.headers.raw, once.content) == (
        again.method,
        again.url,
        again.headers.raw,
        again.content,
    )
    assert given == untouched


@each_family
def test_an_order_for_an_unknown_model_passes_with_every_name_and_type_as_given(family: str) -> None:
    given = {"whole": 8, "text": "8", "real": 0.5, "flag": True, "none": None, "list": ["a", 1], "object": {"a": {}}}
    body = json.loads(asked(submitting(account(family), input={"prompt": "x", **given})).content)
    places = [place for place in [body, *(v for v in body.values() if isinstance(v, dict))] if "whole" in place]
    assert [canonical(json.dumps({name: place[name] for name in given}).encode()) for place in places] == [
        canonical(json.dumps(given).encode())
    ]


@each_family
def test_texts_that_are_no_valid_unicode_can_be_sent(family: str) -> None:
    strange = "\ud800 \0 \u2028 \U0001f6a2"
    provider = account(family)
    body = asked(submitting(provider, input={"prompt": strange}, model=strange)).content
    assert json.dumps(strange).encode("ascii") in body
    assert "%EF%BF%BD" in str(asked(asking(provider, strange)).url)  # U+FFFD, as remote ids are stored


@each_family
@pytest.mark.parametrize("which", [0, 1], ids=["create", "status"])
def test_a_path_of_the_base_url_is_kept_and_not_doubled(family: str, which: int) -> None:
    path = both(account(family, base_url="https://h.example.com"))[which].url.raw_path.decode()
    first, second = urlsplit(path).path.split("/")[1:3]
    create = asked(submitting(account(family, base_url="https://h.example.com"))).url.path.removesuffix("/some-model")
    for base, expected in {
        "https://h.example.com/": "https://h.example.com",
        "https://h.example.com:8443": "https://h.example.com:8443",
        "https://h.example.com/proxy": "https://h.example.com/proxy",
        f"https://h.example.com/{first}/{second}": "https://h.example.com",
        f"https://h.example.com/proxy/{first}": "https://h.example.com/proxy",
        f"https://h.example.com/proxy/{first}/{second}/": "https://h.example.com/proxy",
        f"https://h.example.com/proxy{first}": f"https://h.example.com/proxy{first}",
        f"http://{first}": f"http://{first}",  # a host is no path
        "https://h.example.com/v1": "https://h.example.com",
        "https://h.example.com/v2/": "https://h.example.com",
        "https://h.example.com/proxy/v1": "https://h.example.com/proxy",
        "https://h.example.com/proxy/v1x": "https://h.example.com/proxy/v1x",
        f"https://h.example.com{create}": "https://h.example.com",
        f"https://h.example.com/proxy{create}/": "https://h.example.com/proxy",
    }.items():
        assert str(both(account(family, base_url=base))[which].url) == expected + path


@each_family
@pytest.mark.parametrize(
    "remote_id", ["a/b", "a?b", "a#b", "a%2Fb", "a b", "a+b", "a&b=c", "sora-2:task_01", "..", ".", "a/../b", "é\ufffd"]
)
def test_a_remote_id_is_one_part_of_the_url_whatever_is_in_it(family: str, remote_id: str) -> None:
    plain, odd = (asked(asking(account(family), value)).url for value in ("remote-1", remote_id))
    if plain.query:
        assert odd.path == plain.path
        assert [(name, remote_id) for name, _ in plain.params.multi_items()] == odd.params.multi_items()
    else:
        parts = odd.raw_path.decode().split("/")
        assert parts[:-1] == plain.raw_path.decode().split("/")[:-1]
        assert unquote(parts[-1]) == remote_id
        assert parts[-1] not in (".", "..")


@each_family
def test_the_http_status_says_whether_an_order_was_refused_turned_away_or_perhaps_taken(family: str) -> None:
    outcomes: dict[type[BaseException], set[int]] = {}
    for status in range(200, 600):
        with pytest.raises(OUTCOMES) as caught:
            answered(submitting(account(family)), httpx.Response(status))
        outcomes.setdefault(caught.type, set()).add(status)
    assert outcomes == {
        Refused: set(range(400, 500)) - {429},
        Busy: {429},
        Unconfirmed: {*range(200, 400), *range(500, 600)},
    }


@each_family
@pytest.mark.parametrize("recording", recorded(ANY), ids=lambda it: it.name)
def test_a_check_that_failed_tells_no_state(family: str, recording: Recording) -> None:
    if recording.direction == "create":
        assert tells_no_state(asking(account(family)), recording.response())


@each_family
@pytest.mark.parametrize(
    ("date", "received_at", "expected"),
    [
        pytest.param("Fri, 20 Nov 2026 10:00:00 GMT", 0, 90, id="counts from the answer's own Date"),
        pytest.param(None, 1_795_168_830_000, 60, id="without one from our clock"),
        pytest.param(None, None, None, id="with neither it makes no sense"),
    ],
)
def test_a_date_in_retry_after_becomes_seconds(
    family: str, date: str | None, received_at: int | None, expected: float | None
) -> None:
    headers = {"Retry-After": "Fri, 20 Nov 2026 10:01:30 GMT"} | ({"Date": date} if date else {})
    extensions = {} if received_at is None else {"received_at": received_at}
    with pytest.raises(Busy) as caught:
        answered(submitting(account(family)), httpx.Response(429, headers=headers, extensions=extensions))
    assert caught.value.retry_after == expected
