"""What is shown holds no secret, however it was written down; everything else stays as it is."""

import json
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.ids import new_id
from receiver.links import Links
from receiver.redaction import REDACTED, Redactor

TASK = new_id(1_795_176_000_000)
URL = Links(["a-signing-key"], "https://hooks.example.com/in").callback_url("gateway-x", TASK) or ""
TOKEN = URL.rpartition("/")[2]
SIGNATURE = TOKEN.rpartition(".")[2]
KEYS = ["sk-plain0123456789", "base64/with+slashes==", 'quo"te\\and&more', "schlüssel-🎬-geheim"]

Write = Callable[[str], str]


def php(text: str) -> str:
    """JSON as PHP writes it: slashes escaped."""
    return json.dumps(text).replace("/", "\\/")


def go(text: str) -> str:
    """JSON as Go writes it: what HTML could misread escaped."""
    return json.dumps(text, ensure_ascii=False).replace("&", "\\u0026").replace("+", "\\u002b").replace("/", "\\u002F")


def twice(write: Write) -> Write:
    return lambda text: write(json.dumps({"param": write(text)}))


WRITINGS: dict[str, Write] = {
    "plain": str,
    "JSON": json.dumps,
    "JSON of PHP": php,
    "JSON of Go": go,
    "JSON in JSON": twice(json.dumps),
    "JSON of PHP in itself": twice(php),
    "JSON of Go in itself": twice(go),
    "three deep": lambda text: json.dumps(twice(php)(text)),
    "four deep": lambda text: php(php(php(php(text)))),
    "percent-encoded": lambda text: quote(text, safe=""),
    "percent-encoded in lower case": lambda text: quote(text, safe="").replace("%2F", "%2f").replace("%3D", "%3d"),
    "percent-encoded twice": lambda text: quote(quote(text, safe=""), safe=""),
    "in a query": lambda text: f"https://a.example/?next={quote(text)}&x=1",
    "in HTML": lambda text: f'<a href="{text}">',
}


@pytest.mark.parametrize("writing", WRITINGS)
def test_the_token_of_an_echoed_callback_url_is_not_shown(writing: str) -> None:
    shown = Redactor([]).text(f"before {WRITINGS[writing](URL)} after")
    assert REDACTED in shown
    assert SIGNATURE not in shown
    assert TASK not in shown
    assert shown.startswith("before ")
    assert shown.endswith(" after")
    assert "gateway-x" in shown, "only the token goes"


@pytest.mark.parametrize("writing", WRITINGS)
@pytest.mark.parametrize("key", KEYS)
def test_a_secret_is_not_shown(writing: str, key: str) -> None:
    written = WRITINGS[writing](f"left{key}right")
    before, after = written.index("left") + 4, written.index("right")
    assert Redactor(KEYS).text(written) == written[:before] + REDACTED + written[after:]


def test_the_longer_of_two_secrets_leaves_no_rest() -> None:
    shown = Redactor(["secret-0", "secret-0-and-more"]).text("secret-0-and-more secret-0")
    assert shown == f"{REDACTED} {REDACTED}"


def test_what_is_short_is_no_secret_and_no_secret_at_all_is_none() -> None:
    text = "a sandbox of the word"
    assert Redactor(["sandbox", "", "a"]).text(text) == text
    assert Redactor([]).text(text) == text


def test_secrets_stand_for_themselves_and_not_for_a_pattern() -> None:
    assert Redactor(["a.b*c(d)[e"]).text("aXbbc(d)[e a.b*c(d)[e") == f"aXbbc(d)[e {REDACTED}"


@given(st.text())
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert Redactor(KEYS).text(text) == text


@given(before=st.text(max_size=50), after=st.text(max_size=50), key=st.sampled_from(KEYS))
def test_a_secret_is_found_wherever_it_stands(before: str, after: str, key: str) -> None:
    assert key not in Redactor(KEYS).text(before + key + after)


def test_headers_that_carry_credentials_are_not_shown() -> None:
    headers = {
        "Authorization": "Bearer x",
        "cookie": "a=b",
        "Set-Cookie": "c=d",
        "X-API-Key": "short",
        "proxy-authorization": "Basic x",
        "referer": URL,
        "x-echo": KEYS[0],
        "content-type": "application/json",
    }
    shown = Redactor(KEYS).headers(headers)
    assert list(shown) == list(headers)
    assert [name for name, value in shown.items() if value == REDACTED] == [
        "Authorization", "cookie", "Set-Cookie", "X-API-Key", "proxy-authorization", "x-echo"
    ]  # fmt: skip
    assert SIGNATURE not in shown["referer"]
    assert shown["content-type"] == "application/json"


@pytest.mark.parametrize(
    "hostile", ["\\" * 500_000, "callbacks/" * 50_000, "%25" * 200_000, "callbacks" + "\\" * 500_000]
)
def test_a_hostile_text_takes_no_time(hostile: str) -> None:
    began = time.monotonic()
    assert Redactor([*KEYS, "/starts-with-a-slash", "%starts"]).text(hostile)
    assert time.monotonic() - began < 2
