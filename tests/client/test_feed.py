"""Reading the feed: Server-Sent Events however they are cut, and going on where the connection broke."""

import asyncio
import contextlib
import itertools
import json
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.client import AsyncClient, BadAnswer, Client, FeedEvent, Unauthorized, Unreachable
from receiver.client.feed import Message, Parser
from tests.measuring import HANG, Stopwatch

from .rig import TASK, TOKEN, Answer, Break, Either, Fake, head, in_turn, problem, raw

OPEN = head(Content_Type="text/event-stream; charset=utf-8")


def sent(number: int, **more: Any) -> bytes:
    return f"event: task\nid: {number}\ndata: {json.dumps(TASK | more)}\n\n".encode()


def change(number: int, **more: Any) -> FeedEvent:
    return FeedEvent(str(number), "task", TASK | more)  # type: ignore[arg-type]


def read(*pieces: bytes) -> list[tuple[str, str, str]]:
    parser = Parser()
    return [(each.id, each.event, each.data) for piece in pieces for each in parser.read(piece)]


@pytest.mark.parametrize(
    ("stream", "messages"),
    [
        (b"data: a\n\n", [("", "message", "a")]),
        (b"data:a\ndata: b\ndata:  c\n\n", [("", "message", "a\nb\n c")]),
        (b"data\n\ndata:\ndata\n\n", [("", "message", ""), ("", "message", "\n")]),
        (b"event: task\nid: 7\ndata: x\r\n\r\n", [("7", "task", "x")]),
        (b"data: a\r\ndata: b\r\n\r\n", [("", "message", "a\nb")]),
        (b"event: task\rdata: x\r\rdata: y\r\r", [("", "task", "x"), ("", "message", "y")]),
        (
            b"id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n",
            [("1", "message", "a"), ("1", "message", "b"), ("", "message", "c")],
        ),
        (b"id: 1\0\nid: 2\nid: 3\0\ndata: a\n\n", [("2", "message", "a")]),
        (b"id: 5\nevent: task\n\ndata: a\n\n", [("5", "message", "a")]),
        (b": a heartbeat\n\n:\n\ndata: a\n: between\ndata: b\n\n", [("", "message", "a\nb")]),
        (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [("", "message", "a")]),
        (b"Data: a\ndata : b\nunknown: c\n\n", []),
        ("data: süß\n\n".encode(), [("", "message", "süß")]),
        (b"data: \xff\n\n", [("", "message", "\ufffd")]),
        (b"data: no empty line follows\n", []),
        (b"", []),
    ],
)
def test_a_stream_is_read_as_the_standard_says_however_it_is_cut(
    stream: bytes, messages: list[tuple[str, str, str]]
) -> None:
    assert read(stream) == messages
    assert read(*(stream[at : at + 1] for at in range(len(stream)))) == messages
    for at in range(len(stream)):
        assert read(stream[:at], b"", stream[at:]) == messages, at


@given(st.lists(st.sampled_from([b"data", b":", b" ", b"id", b"event", b"\r", b"\n", b"\r\n", b"x", b"\xc3", b"\xbc"])))
def test_any_stream_reads_the_same_in_pieces_as_at_once(pieces: list[bytes]) -> None:
    assert read(*pieces) == read(b"".join(pieces))


def test_what_comes_after_the_last_whole_message_does_not_count() -> None:
    parser = Parser("3")
    assert list(parser.read(b"id: 4\ndata: a\n\nid: 5\ndata: b\n")) == [Message("4", "message", "a")]
    assert parser.last_id == "4"
    assert list(parser.read(b"\n")) == [Message("5", "message", "b")]
    assert parser.last_id == "5"


def test_the_service_says_how_long_to_pause_in_digits_only() -> None:
    parser = Parser()
    list(parser.read("retry: 2500\nretry: 1s\nretry: -3\nretry: ³\nretry:\n".encode()))
    assert parser.pause == 2.5


def test_changes_come_as_they_are_told(call: Either, fake: Fake) -> None:
    stream = [OPEN, b": hello\n\n", sent(1, state="running"), b"event: other\ndata: {}\n\n", sent(2)]
    fake.behave = in_turn([*stream, b"event: reset\nid: 9\ndata: {}\n\n"])
    assert call.first(3, fake, "events") == [change(1, state="running"), change(2), FeedEvent("9", "reset", None)]
    (asked,) = fake.asked
    assert (asked.method, asked.path) == ("GET", "/api/events")
    assert asked.headers["accept"] == "text/event-stream"
    assert "last-event-id" not in asked.headers


@pytest.mark.parametrize(
    "trouble", [[], [Break()], [b"id: 8\nevent: task\ndata: half of it", Break()], [b"id: 8\ndata: {}\n"]]
)
def test_the_feed_goes_on_after_the_last_whole_change_whatever_breaks_it(
    call: Either, fake: Fake, trouble: list[bytes | Break]
) -> None:
    down = problem("503 Service Unavailable", "Starting.")
    fake.behave = in_turn([OPEN, b"retry: 50\n\n", sent(6), sent(7), *trouble], down, [OPEN, sent(8), sent(9)])
    assert call.first(4, fake, "events", "5") == [change(6), change(7), change(8), change(9)]
    assert [asked.headers["last-event-id"] for asked in fake.asked] == ["5", "7", "7"]


def test_what_changes_while_the_first_connection_breaks_is_not_missed(call: Either, fake: Fake) -> None:
    told = head(Content_Type="text/event-stream", Last_Event_ID="41")
    fake.behave = in_turn([told, b"retry: 0\n:\n", Break()], [OPEN, sent(42)])
    assert call.first(1, fake, "events") == [change(42)]
    assert [asked.headers.get("last-event-id") for asked in fake.asked] == [None, "41"]


def test_a_stream_that_ends_at_once_is_not_opened_again_at_once(call: Either, fake: Fake) -> None:
    fake.behave = in_turn([OPEN], [OPEN, sent(1)])
    watch = Stopwatch()
    assert call.first(1, fake, "events") == [change(1)]
    assert watch.read().at_least(1.0)


def test_a_feed_that_never_says_anything_ends_with_the_patience(call: Either, fake: Fake) -> None:
    fake.behave = in_turn([OPEN, Break()])
    with pytest.raises(Unreachable):
        call(fake, "events", patience=0)


def test_a_feed_that_may_not_be_read_is_a_problem(call: Either, fake: Fake) -> None:
    fake.behave = in_turn(problem("401 Unauthorized", "That API token is not valid."))
    with pytest.raises(Unauthorized, match="not valid"):
        call(fake, "events")


@pytest.mark.parametrize("given", [raw(b"<html>"), [OPEN, b"event: task\ndata: {\n\n"]])
def test_what_is_no_feed_is_named_so(call: Either, fake: Fake, given: Answer) -> None:
    fake.behave = in_turn(given)
    with pytest.raises(BadAnswer):
        call(fake, "events")


def endless(closed: threading.Event) -> Any:
    """Answer with changes until nobody reads them any more."""

    def behave(*_: Any) -> Any:
        try:
            yield OPEN
            for number in itertools.count(1):
                yield sent(number)
        finally:
            closed.set()

    return behave


def test_leaving_the_feed_closes_its_connection(fake: Fake) -> None:
    closed = threading.Event()
    fake.behave = endless(closed)
    with Client(fake.url, TOKEN, timeout=HANG) as client:
        for event in client.events():
            assert event == change(1)
            break
        assert closed.wait(HANG)


def test_leaving_the_awaited_feed_closes_its_connection(fake: Fake) -> None:
    closed = threading.Event()
    fake.behave = endless(closed)

    async def go() -> bool:
        async with AsyncClient(fake.url, TOKEN, timeout=HANG) as client:
            async with contextlib.aclosing(client.events()) as events:
                assert await anext(events) == change(1)
            return await asyncio.to_thread(closed.wait, HANG)

    assert asyncio.run(go())
