"""The strict reader refuses what is not plain JSON, and the readings of single fields survive anything in them."""

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.core import wire
from receiver.core.errors import Unreadable
from tests.measuring import processor_seconds
from tests.providers import hostile

thorough = settings(max_examples=200, deadline=None)
HUGE = 10**399


# --- read_json


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b'{"a":[1,-2.5,true,null,"b"]}', {"a": [1, -2.5, True, None, "b"]}, id="plain"),
        pytest.param(b" \t\r\n[ ]\n", [], id="blanks around it"),
        pytest.param(b"\xef\xbb\xbf{}", {}, id="a byte-order mark"),
        pytest.param('{"ü":"\U0001f6a2"}'.encode(), {"ü": "\U0001f6a2"}, id="UTF-8"),
        pytest.param('["text"]', ["text"], id="a text instead of bytes"),
        pytest.param(b'{"a":1,"a":2}', {"a": 2}, id="of duplicate keys the last"),
        pytest.param(b"9007199254740993", 2**53 + 1, id="a whole number beyond floats"),
        pytest.param(b"9" * 400, 10**400 - 1, id="400 digits"),
        pytest.param(b"1e308", 1e308, id="a big real number"),
        pytest.param(b"1e-400", 0.0, id="a real number too small to tell from 0"),
        pytest.param(rb'"\ud800\u0000"', "\ud800\0", id="a lone surrogate and NUL as escapes"),
        pytest.param(b"[" * 100 + b"]" * 100, ..., id="100 levels"),
        pytest.param(b"[" + b"{}," * 500 + b"{}]", [{}] * 501, id="many objects side by side"),
        pytest.param(b'"' + b"[{" * 500 + b'"', "[{" * 500, id="brackets inside a text"),
        pytest.param(rb'["\"' + b"[" * 500 + rb'\\"]', ['"' + "[" * 500 + "\\"], id="brackets behind escapes"),
    ],
)
def test_plain_json_is_read(data: bytes | str, expected: Any) -> None:
    found = wire.read_json(data)
    assert expected is ... or (found == expected and type(found) is type(expected))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b" \n", id="blanks only"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b'{"a":1} {', id="junk behind it"),
        pytest.param(b"{'a':1}", id="single quotes"),
        pytest.param(b"[1,]", id="a comma too many"),
        pytest.param(b"NaN", id="NaN"),
        pytest.param(b"[Infinity]", id="Infinity"),
        pytest.param(b"[-Infinity]", id="-Infinity"),
        pytest.param(b"1e400", id="1e400"),
        pytest.param(b"-1e400", id="-1e400"),
        pytest.param(b"1" + b"0" * 400 + b".0", id="a real number out of range, spelled out"),
        pytest.param(b"9" * 401, id="401 digits"),
        pytest.param(b"9" * 100_000, id="100,000 digits"),
        pytest.param(b"[" * 101 + b"]" * 101, id="101 levels"),
        pytest.param(b'{"a":' * 101 + b"1" + b"}" * 101, id="101 levels of objects"),
        pytest.param(b'["' + rb"\"" * 3 + b'",' + b"[" * 100 + b"]" * 101, id="101 levels behind escapes"),
        pytest.param(b'["' + rb"\\" + b'",' + b"[" * 100 + b"]" * 101, id="101 levels behind an escaped backslash"),
        pytest.param(b"[" * 100_000, id="100,000 levels, never closed"),
        pytest.param(b'{"a":"\xff"}', id="not UTF-8"),
        pytest.param(b'"\xed\xa0\x80"', id="a surrogate as bytes"),
        pytest.param("{}".encode("utf-16"), id="UTF-16"),
        pytest.param("{}".encode("utf-32"), id="UTF-32"),
        pytest.param(b'"a\nb"', id="a line break inside a text"),
        pytest.param(b"\xef\xbb\xbf\xef\xbb\xbf{}", id="two byte-order marks"),
        pytest.param(b"taskId=1", id="a form"),
    ],
)
def test_everything_else_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable, match=r"^not JSON: "):
        wire.read_json(data)


@thorough
@given(data=st.binary() | hostile.bodies)
def test_any_bytes_are_json_or_unreadable(data: bytes) -> None:
    try:
        found = wire.read_json(data)
    except Unreadable:
        return
    assert found == json.loads(data)


@thorough
@given(value=hostile.values)
def test_what_was_written_as_json_is_read_as_it_was(value: Any) -> None:
    assert wire.read_json(json.dumps(value)) == value


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"[" + b"[]," * 349_000 + b"[]]", id="flat brackets"),
        pytest.param(b'["' + rb"\"[" * 349_000 + b'"]', id="quoted brackets"),
        pytest.param(b"[" * 1_048_576, id="open brackets"),
        pytest.param(b"9" * 1_048_576, id="digits"),
        pytest.param(b"0." + b"9" * 1_048_574, id="decimals"),
        pytest.param(b"1e" + b"9" * 1_048_574, id="an exponent"),
        pytest.param(b'{"a":' + b"9" * 400 + b"}" * 1_048_000, id="junk behind it"),
    ],
)
def test_a_whole_megabyte_is_read_or_refused_at_once(data: bytes) -> None:
    began = time.thread_time()
    with suppress(Unreadable):
        wire.read_json(data)
    spent = time.thread_time() - began
    assert spent < processor_seconds(1)


def test_an_object_is_read_and_anything_else_is_unreadable() -> None:
    assert wire.read_object(b'{"a":1}') == {"a": 1}
    assert wire.read_object(b'"{}"') == {}, "a sender that encodes its JSON twice"
    for data in (b"[]", b"null", b'"[]"', b'"x"', b'"NaN"', b"7"):
        with pytest.raises(Unreadable):
            wire.read_object(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b'{"a":1}', {"a": 1}, id="an object"),
        pytest.param(json.dumps('{"a":1}').encode(), {"a": 1}, id="as a text within a text"),
        pytest.param(json.dumps(json.dumps('{"a":1}')).encode(), {"a": 1}, id="twice"),
        pytest.param(b'[{"a":1}]', {"a": 1}, id="in a list of its own"),
        pytest.param(b'[{"a":1},{"a":2}]', {"a": 1}, id="the first of a list"),
        pytest.param(b'"[{\\"a\\":1}]"', {"a": 1}, id="a list within a text"),
    ],
)
def test_a_message_is_one_object_however_it_is_wrapped(data: bytes, expected: Any) -> None:
    assert wire.read_message(data) == expected


@pytest.mark.parametrize(
    "data", [b"[]", b"[1]", b"null", b"7", b'"a"', b'"{"', b'""', b"", b'"\\"\\\\\\"{}\\\\\\"\\""']
)
def test_a_message_without_an_object_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        wire.read_message(data)


# --- JSON inside JSON


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param('{"resultUrls":["u"]}', {"resultUrls": ["u"]}, id="a text"),
        pytest.param(json.dumps('{"a":1}'), {"a": 1}, id="encoded twice"),
        pytest.param({"a": 1}, {"a": 1}, id="an object as it is"),
        pytest.param([1], [1], id="a list as it is"),
        pytest.param("", None, id="empty"),
        pytest.param(" \n", None, id="blank"),
        pytest.param(None, None, id="null"),
        pytest.param("null", None, id="null as a text"),
        pytest.param('""', None, id="empty, encoded twice"),
        pytest.param(7, 7, id="a number"),
        pytest.param(json.dumps(json.dumps("[]")), "[]", id="encoded three times is no result"),
    ],
)
def test_json_inside_json_is_read_in_every_form(value: Any, expected: Any) -> None:
    assert wire.read_nested(value) == expected


@pytest.mark.parametrize("value", ['{"a":', "https://example.com/a.mp4", json.dumps('{"a":'), "[" * 200 + "]" * 200])
def test_broken_json_inside_json_is_unreadable(value: str) -> None:
    with pytest.raises(Unreadable):
        wire.read_nested(value)


# --- single fields


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", "a"),
        ("  a\n", "a"),
        ("", None),
        ("  ", None),
        (7, "7"),
        (0, "0"),
        (1.5, "1.5"),
        (HUGE, str(HUGE)),
        (True, None),
        (None, None),
        ([], None),
        ({}, None),
        ("a\0b", "a\ufffdb"),
        ("a\ud800b", "a\ufffdb"),
        ("\ud83d\udea2", "\U0001f6a2"),
        ("\udea2\ud83d", "\ufffd\ufffd"),
        ("\ufeffa", "\ufeffa"),
        ("x" * 2000, "x" * 2000),
        ("x" * 3000, "x" * 1999 + "…"),
    ],
)
def test_a_text_is_clean_and_bounded_and_never_empty(value: Any, expected: str | None) -> None:
    assert wire.read_text(value) == expected


@given(value=hostile.texts)
def test_clean_text_fits_every_database_and_clean_text_stays_as_it_is(value: str) -> None:
    cleaned = wire.clean_text(value)
    cleaned.encode("utf-8")
    assert "\0" not in cleaned
    assert wire.clean_text(cleaned) == cleaned
    if "\0" not in value and not any(0xD800 <= ord(character) < 0xE000 for character in value):
        assert cleaned == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("task_1", "task_1"),
        (" task_1 ", "task_1"),
        (2**53 + 1, "9007199254740993"),
        (0, "0"),
        ("", None),
        (" ", None),
        (None, None),
        (True, None),
        (False, None),
        (1.0, None),  # whatever it was has lost its last digits
        (["a"], None),
        ({"id": "a"}, None),
        ("a\0", "a\ufffd"),
        ("x" * 512, "x" * 512),
        ("x" * 513, None),
    ],
)
def test_a_remote_id_is_text_and_whole_numbers_keep_every_digit(value: Any, expected: str | None) -> None:
    assert wire.read_id(value) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"a": 1, "b": 2}, 1),
        ({"b": 2}, 2),
        ({"a": None, "b": 2}, 2),
        ({"a": "", "b": 2}, 2),
        ({"a": 0, "b": 2}, 0),
        ({"a": [], "b": 2}, []),
        ({"c": 3}, None),
    ],
)
def test_the_first_key_with_a_value_is_taken(source: dict[str, Any], expected: Any) -> None:
    assert wire.first_value(source, "a", "b") == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1756693898, 1756693898000),
        (1756693898000, 1756693898000),
        (1756693898.5, 1756693898500),
        ("1756693898", 1756693898000),
        ("1756693898000", 1756693898000),
        (10**11 - 1, (10**11 - 1) * 1000),
        (10**11, 10**11),
        ("2026-05-11T00:03:10.000Z", 1778457790000),
        ("2026-05-11T02:03:10+02:00", 1778457790000),
        ("2026-05-11 00:03:10", 1778457790000),
        (" 2026-05-11T00:03:10Z\n", 1778457790000),
        (0, None),
        ("0", None),
        ("", None),
        (None, None),
        (-1, None),
        (1e-9, None),
        (True, None),
        ("soon", None),
        ("nan", None),
        ([1], None),
        (10**14, None),
        (HUGE, None),
        (1e308, None),
        ("1e308", None),
        ("9" * 50, None),
        # beyond what a calendar can show in every time zone
        ("0001-01-01T00:00:00+23:59", None),
        ("9999-12-31T23:59:59-23:59", None),
        ("1969-12-31T23:59:59Z", None),
    ],
)
def test_a_time_is_milliseconds_whatever_it_came_as_and_nonsense_is_unset(value: Any, expected: int | None) -> None:
    found = wire.parse_timestamp(value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0%", 0),
        ("93%", 0.93),
        (" 93 % ", 0.93),
        ("100%", 1),
        ("0.5%", 0.005),
        ("250%", 1),
        (45, 0.45),
        (100, 1),
        (0, 0),
        (1, 0.01),
        (0.46, 0.46),
        (1.0, 1),
        (45.5, 0.455),
        ("0.50", 0.5),
        ("45", 0.45),
        ("45.5", 0.455),
        (HUGE, None),
        (10**300, 1),
        ("", None),
        ("%", None),
        ("half", None),
        ("nan%", None),
        (-1, None),
        ("-5%", None),
        (None, None),
        (True, None),
        ([50], None),
    ],
)
def test_progress_is_a_fraction_whatever_it_came_as(value: Any, expected: float | None) -> None:
    assert wire.parse_progress(value) == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 7),
        ("7", 7),
        ("0402", 402),
        (-7, -7),
        (10**9 - 1, 10**9 - 1),
        *((other, None) for other in (10**9, "1" * 10, "٣", "7.0", 7.0, True, None, "", "-7", [7])),
    ],
)
def test_a_whole_number_is_read_from_numbers_and_digits_only(value: Any, expected: int | None) -> None:
    assert wire.parse_integer(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (6, 6.0),
        (0, 0.0),
        (1.5, 1.5),
        ("75", 75.0),
        ("0.5", 0.5),
        (1e12, 1e12),
        *((other, None) for other in (1e13, HUGE, "", "many", "nan", "inf", True, None, [6])),
    ],
)
def test_credits_are_finite_amounts(value: Any, expected: float | None) -> None:
    assert wire.parse_credits(value) == expected


@pytest.mark.parametrize(("value", "expected"), [(["a", 1], ["a", 1]), ("a", ["a"]), (None, []), (7, []), ({}, [])])
def test_a_single_string_counts_as_a_list_of_one(value: Any, expected: list[Any]) -> None:
    assert wire.as_list(value) == expected


@pytest.mark.parametrize(("value", "expected"), [({"a": 1}, {"a": 1}), ([], {}), ("{}", {}), (None, {})])
def test_anything_but_an_object_counts_as_an_empty_one(value: Any, expected: dict[str, Any]) -> None:
    assert wire.as_mapping(value) == expected


@thorough
@given(value=hostile.values)
def test_no_reading_of_a_field_ever_raises(value: Any) -> None:
    for read in (
        wire.read_text,
        wire.read_id,
        wire.parse_timestamp,
        wire.parse_progress,
        wire.as_number,
        wire.parse_integer,
        wire.parse_credits,
    ):
        read(value)
    wire.first_value(wire.as_mapping(value), "a")
