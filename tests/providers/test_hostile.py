"""Whatever strangers send, a provider gives an event that can be stored, or one of its few errors; nothing else."""

import json
import math
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from receiver.core.errors import Forged, ProviderError, Unreadable
from receiver.core.messages import Callback, Event, Evidence
from receiver.core.states import State
from receiver.core.wire import MAX_ID_LENGTH
from receiver.providers import CONFIG_TYPES, FAMILIES
from receiver.providers.base import HasBalance
from tests.providers import hostile
from tests.providers.recordings import OUTCOMES, account, answered, asking, submitting, weighing

each_signing = pytest.mark.parametrize(
    "family", [name for name, kind in CONFIG_TYPES.items() if "webhook_secret" in kind.model_fields]
)
each_telling = pytest.mark.parametrize("family", [name for name in FAMILIES if isinstance(account(name), HasBalance)])
thorough = settings(max_examples=100, deadline=None)
for_all = settings(max_examples=250, deadline=None)

TOLD = (None, State.SUBMITTED, State.RUNNING, State.SUCCEEDED, State.FAILED)
YEAR_5138 = 10**14

statuses = st.sampled_from([200, 200, 200, 201, 202, 302, 400, 404, 409, 429, 500, 503])
headers = st.dictionaries(
    st.sampled_from(["Retry-After", "Date", "Content-Type"]),
    st.one_of(
        st.sampled_from(["7", "-1", "1e9", "Fri, 20 Nov 2026 10:00:00 GMT", "Mon, 01 Jan 0001 00:00:00", "text/html"]),
        st.text(st.characters(codec="latin-1"), max_size=30),
    ),
)


def each_family() -> Iterator[str]:
    """Name each family in turn: to think up what is read takes longer than to read it as all of them."""
    for family in FAMILIES:
        note(f"read as {family} does")
        yield family


def storable(text: str) -> bool:
    text.encode("utf-8")  # lone surrogates raise
    return "\0" not in text


def check(event: Event) -> None:
    """Hold an event to what the rest of the service relies on."""
    assert event.state in TOLD
    assert event.remote_id is None or (storable(event.remote_id) and 0 < len(event.remote_id) <= MAX_ID_LENGTH)
    assert event.remote_state is None or (storable(event.remote_state) and event.remote_state)
    assert event.progress is None or 0 <= event.progress <= 1
    assert all(output.url and storable(output.url) for output in event.outputs)
    assert all(output.kind in ("video", "image", "audio", "file") for output in event.outputs)
    assert not event.outputs or event.state is State.SUCCEEDED
    assert (event.error is not None) is (event.state is State.FAILED)
    if event.error is not None:
        assert event.error.code
        assert event.error.message
        assert storable(event.error.code + event.error.message)
    assert all(amount is None or math.isfinite(amount) for amount in (event.reserved, event.charged))
    assert event.ended_at is None or (type(event.ended_at) is int and 0 < event.ended_at < YEAR_5138)
    assert all(map(storable, event.notices))
    json.dumps(event.result, allow_nan=False)


def check_error(error: BaseException) -> None:
    assert type(error) in OUTCOMES
    if isinstance(error, ProviderError):
        assert error.code
        assert error.message
        assert storable(error.code + error.message)
        assert len(error.code) + len(error.message) < 10_000
        pause = getattr(error, "retry_after", None)
        assert pause is None or 1 <= pause <= 3600


def read(family: str, body: bytes) -> None:
    callback = Callback({"content-type": "application/json"}, body, received_at=0)
    provider = account(family)
    provider.verify(callback)
    try:
        event = provider.read(callback)
    except Unreadable:
        return
    check(event)


@for_all
@given(message=hostile.messages)
def test_any_json_as_a_callback_is_an_event_or_unreadable(message: Any) -> None:
    for family in each_family():
        read(family, json.dumps(message).encode())


@for_all
@given(body=hostile.bodies)
def test_any_bytes_as_a_callback_are_an_event_or_unreadable(body: bytes) -> None:
    for family in each_family():
        read(family, body)


odd_header = st.one_of(
    hostile.texts, st.sampled_from(["", "1769670760", "-1", "nan", "\uff11\uff12\uff13", "=" * 10_000, "9" * 5000])
)
signing_headers = st.dictionaries(
    st.sampled_from(
        [
            *("x-webhook-timestamp", "x-webhook-signature"),
            *("webhook-id", "webhook-timestamp", "webhook-signature"),
        ]
    ),
    odd_header,
)


@each_signing
@thorough
@given(headers=signing_headers, body=hostile.bodies, now=st.integers(0, 2**53))
def test_no_callback_without_the_key_is_taken_for_signed_and_nothing_but_forged_comes_out(
    family: str, headers: dict[str, str], body: bytes, now: int
) -> None:
    callback = Callback(headers, body, now)
    assert account(family).verify(callback) == Evidence()
    try:
        evidence = account(family, webhook_secret="a-key-that-nobody-knows").verify(callback)
    except Forged:
        return
    assert evidence == Evidence()
    assert family != "kie"  # it signs every callback, once it was told the key


@each_telling
@thorough
@given(status=statuses, headers=headers, body=hostile.bodies)
def test_any_answer_about_a_balance_is_an_amount_or_one_of_the_errors(
    family: str, status: int, headers: dict[str, str], body: bytes
) -> None:
    try:
        amount = answered(weighing(account(family)), answer(status, headers, body))
    except OUTCOMES as error:
        check_error(error)
        return
    assert math.isfinite(amount)
    assert status < 300


@for_all
@given(status=statuses, headers=headers, body=hostile.bodies)
def test_any_answer_to_a_submission_is_an_event_with_an_id_or_one_of_the_errors(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    for family in each_family():
        try:
            event = answered(submitting(account(family)), answer(status, headers, body))
        except ProviderError as error:
            check_error(error)
            continue
        check(event)
        assert event.remote_id is not None
        assert event.state is not None or family == "rivya"
        assert status < 300


@for_all
@given(status=statuses, headers=headers, body=hostile.bodies)
def test_any_answer_to_a_check_is_an_event_or_one_of_the_errors(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    for family in each_family():
        try:
            event = answered(asking(account(family)), answer(status, headers, body))
        except OUTCOMES as error:
            check_error(error)
            continue
        check(event)
        assert status < 300


def answer(status: int, headers: dict[str, str], body: bytes) -> httpx.Response:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return httpx.Response(status, headers=raw, content=body)
