"""What is shown holds no secret, however it was written down; everything else stays as it is."""

import base64
import html
import json
import time
from collections.abc import Callable
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core import wire
from receiver.core.ids import new_id
from receiver.core.links import Links
from receiver.core.redaction import REDACTED, Redactor
from receiver.providers.answers import excerpt
from tests.measuring import processor_seconds

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
    "escaped in HTML": html.escape,
    "escaped in HTML twice": lambda text: html.escape(html.escape(text)),
    "numeric entities": lambda text: "".join(c if c.isascii() and c.isalnum() else f"&#{ord(c)};" for c in text),
    "hexadecimal entities": lambda text: "".join(c if c.isascii() and c.isalnum() else f"&#x{ord(c):X};" for c in text),
}
ENCODINGS: dict[str, Callable[[bytes], str]] = {
    "base64": lambda raw: base64.b64encode(raw).decode(),
    "base64 of URLs": lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("="),
    "base64 in a query": lambda raw: quote(base64.b64encode(raw), safe=""),
    "base64 in JSON of PHP": lambda raw: php(base64.b64encode(raw).decode()),
    "hexadecimal": bytes.hex,
    "hexadecimal in capitals": lambda raw: raw.hex().upper(),
}


@pytest.mark.parametrize("writing", WRITINGS)
def test_the_token_of_an_echoed_callback_url_is_not_shown(writing: str) -> None:
    shown = Redactor([]).redact_text(f"before {WRITINGS[writing](URL)} after")
    assert REDACTED in shown
    assert SIGNATURE not in shown
    assert TASK not in shown
    assert shown.startswith("before ")
    assert shown.endswith(" after")
    assert "gateway" in shown, "only the token goes"


@pytest.mark.parametrize("writing", WRITINGS)
@pytest.mark.parametrize("key", KEYS)
def test_a_secret_is_not_shown(writing: str, key: str) -> None:
    written = WRITINGS[writing](f"left{key}right")
    before, after = written.index("left") + 4, written.index("right")
    assert Redactor(KEYS).redact_text(written) == written[:before] + REDACTED + written[after:]


@pytest.mark.row("C8")
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("before", ["", "a", "ab", "Basic:"])
def test_a_secret_inside_of_something_encoded_is_not_shown(before: str, key: str, encoding: str) -> None:
    encode = ENCODINGS[encoding]
    shown = Redactor(KEYS).redact_text(f"<{encode(f'{before}{key} and more'.encode())}>")
    assert REDACTED in shown
    # What is left tells less than the three bytes that an encoding writes at once, on either side.
    assert len(shown) <= len(f"<{encode(f'{before}{REDACTED} and more'.encode())}>") + 16
    assert not any(encode(key.encode())[at : at + 8] in shown for at in range(4, len(encode(key.encode())) - 12))


@pytest.mark.parametrize("before", ["", "a", "ab"])
def test_the_token_of_a_callback_url_in_base64_is_not_shown(before: str) -> None:
    shown = Redactor([]).redact_text(base64.b64encode(f"{before}{URL}".encode()).decode() + '", "x": 1}')
    assert shown.endswith(f'{REDACTED}", "x": 1}}')
    assert base64.b64encode(TOKEN.encode()).decode()[8:20] not in shown


@pytest.mark.row("C8")
@pytest.mark.parametrize("cut", ["", "…", "\\u2026", '\\\\\\u2026", "more'])
@pytest.mark.parametrize("key", KEYS)
def test_the_beginning_of_a_secret_after_which_a_text_was_cut_is_not_shown(key: str, cut: str) -> None:
    for kept in range(8, len(key)):
        shown = Redactor(KEYS).redact_text(f"the key is {key[:kept]}{cut}")
        assert shown == f"the key is {REDACTED}{cut}"
    assert Redactor(KEYS).redact_text(f"{key[:8]} is how it begins") == f"{key[:8]} is how it begins"


def test_half_a_secret_is_not_shown_where_this_service_cuts_by_itself() -> None:
    redactor, key = Redactor(KEYS), KEYS[0]
    for before in range(150, 200):
        page = httpx.Response(500, text=f"<p>{'x' * before} {key} and more</p>" + "y" * 200)
        shown = redactor.redact_text(f"HTTP 500: {excerpt(page)} or so")
        assert key[:9] not in shown
        assert key[:9] not in redactor.redact_text(wire.read_text("x" * (1800 + before) + key) or "")


def test_a_signed_id_is_not_shown_wherever_it_stands() -> None:
    assert Redactor([]).redact_text(f"hook {TOKEN}, task {TASK}.") == f"hook {TASK}.{REDACTED}, task {TASK}."


def test_a_results_url_keeps_what_is_no_secret_so_that_it_works() -> None:
    url = f"https://cdn.example.com/callbacks/revid/out.mp4?jwt=a.b.{'c' * 43}&key="
    assert Redactor(KEYS).redact_url(url) == url
    assert Redactor(KEYS).redact_url(url + KEYS[0]) == url + REDACTED
    assert SIGNATURE not in Redactor(KEYS).redact_url(f"https://cdn.example.com/?hook={quote(URL, safe='')}")


def test_the_longer_of_two_secrets_leaves_no_rest() -> None:
    shown = Redactor(["secret-0", "secret-0-and-more"]).redact_text("secret-0-and-more secret-0")
    assert shown == f"{REDACTED} {REDACTED}"


def test_what_is_short_is_no_secret_and_no_secret_at_all_is_none() -> None:
    text = "a sandbox of the word"
    assert Redactor(["sandbox", "", "a"]).redact_text(text) == text
    assert Redactor([]).redact_text(text) == text


def test_secrets_stand_for_themselves_and_not_for_a_pattern() -> None:
    assert Redactor(["a.b*c(d)[e"]).redact_text("aXbbc(d)[e a.b*c(d)[e") == f"aXbbc(d)[e {REDACTED}"


@given(st.text())
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert Redactor(KEYS).redact_text(text) == text


@given(before=st.text(max_size=50), after=st.text(max_size=50), key=st.sampled_from(KEYS))
def test_a_secret_is_found_wherever_it_stands(before: str, after: str, key: str) -> None:
    assert key not in Redactor(KEYS).redact_text(before + key + after)


def test_headers_that_carry_credentials_are_not_shown() -> None:
    headers = {
        "Authorization": "Bearer x",
        "cookie": "a=b",
        "Set-Cookie": "c=d",
        "X-API-Key": "short",
        "proxy-authorization": "Basic x",
        "X-Auth-Token": "short",
        "referer": URL,
        "x-echo": KEYS[0],
        "content-type": "application/json",
    }
    shown = Redactor(KEYS).redact_headers(headers)
    assert list(shown) == list(headers)
    assert [name for name, value in shown.items() if value == REDACTED] == [
        "Authorization", "cookie", "Set-Cookie", "X-API-Key", "proxy-authorization", "X-Auth-Token", "x-echo"
    ]  # fmt: skip
    assert SIGNATURE not in shown["referer"]
    assert shown["content-type"] == "application/json"


@pytest.mark.parametrize(
    "hostile", ["\\" * 500_000, "callbacks/" * 50_000, "%25" * 200_000, "callbacks" + "\\" * 500_000]
)
def test_a_hostile_text_takes_no_time(hostile: str) -> None:
    began = time.thread_time()
    assert Redactor([*KEYS, "/starts-with-a-slash", "%starts"]).redact_text(hostile)
    spent = time.thread_time() - began
    assert spent < processor_seconds(2)


def test_values_are_redacted_and_stay_values() -> None:
    redactor = Redactor(["12345678", "null, true", "s" * 12])
    value = {"n": 12345678, "f": 12345678.5, "l": [None, True, 1234567, "a null, true b"], "s" * 12: {"x": "s" * 12}}
    assert redactor.redact_value(value) == {
        "n": REDACTED,
        "f": f"{REDACTED}.5",
        "l": [None, True, 1234567, f"a {REDACTED} b"],
        REDACTED: {"x": REDACTED},
    }
