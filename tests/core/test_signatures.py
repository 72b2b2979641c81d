"""Signatures over callbacks: published vectors hold, every change of them is refused, and nothing else comes out."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.core.errors import Forged
from receiver.core.signatures import (
    parse_webhook_secret,
    require_recent,
    require_signature,
    require_standard_webhook,
    sign_standard_webhook,
)

pytestmark = pytest.mark.row("C4")


@dataclass(frozen=True)
class Vector:
    """One message signed after Standard Webhooks, as it was published."""

    secret: str
    message: str
    time: str
    body: bytes
    signature: str

    def holds(self, *, now: int | None = None, keys: list[bytes] | None = None) -> bool:
        """Tell whether it is taken for signed; `now` is in Unix seconds, and its own time if left out."""
        headers = {
            "webhook-id": self.message,
            "webhook-timestamp": self.time,
            "webhook-signature": self.signature,
        }
        moment = SIGNED_AT[self.secret] if now is None else now
        return passes(headers, self.body, keys or [parse_webhook_secret(self.secret)], moment)


def passes(headers: dict[str, str], body: bytes, keys: list[bytes], now: int) -> bool:
    try:
        require_standard_webhook(headers, body, keys, now * 1000)
    except Forged:
        return False
    return True


STANDARD = [
    Vector(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "1614265330",
        b'{"test": 2432232314}',
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    ),
    Vector(
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        "1649367553",
        b'{"email":"test@example.com","username":"test_user"}',
        "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    ),
]
OPENAI = Vector(
    "whsec_RdvaYFYUXuIFuEbvZHwMfYFhUf7aMYjYcmM24+Aj40c=",
    "wh_685c059ae39c8190af8c71ed1022a24d",
    "1750861210",
    b'{"id": "evt_685c059ae3a481909bdc86819b066fb6", "object": "event", "created_at": 1750861210, '
    b'"type": "response.completed", "data": {"id": "resp_123"}}',
    "v1,gUAg4R2hWouRZqRQG4uJypNS8YK885G838+EHb4nKBY=",
)
OPENAI_VIDEO = replace(
    OPENAI,
    message="wh_abc123",
    time="1758941485",
    body=b'{"id":"evt_abc123","object":"event","created_at":1758941485,"type":"video.completed",'
    b'"data":{"id":"video_abc123"}}',
    signature="v1,4J60U+6FH0vnvO4x567ozOn2vCJtPzlZ4BqTK8eN1bg=",
)
REPLICATE = replace(
    STANDARD[0],
    signature="v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
)
"""The first of its two signatures is wrong, as while a key is changed."""
VECTORS = [*STANDARD, OPENAI, REPLICATE]
SIGNED_AT = {vector.secret: int(vector.time) for vector in VECTORS}
SIGNED = STANDARD[0]
NOW = int(SIGNED.time)


# --- Standard Webhooks


@pytest.mark.parametrize("vector", VECTORS, ids=lambda it: it.message)
def test_a_published_vector_holds(vector: Vector) -> None:
    assert vector.holds()


def test_a_published_event_about_a_video_holds() -> None:
    assert OPENAI_VIDEO.holds(now=1758941485)


def changes(text: bytes) -> Iterator[bytes]:
    """Change every byte to every other, drop it, and double it."""
    for place, byte in enumerate(text):
        before, after = text[:place], text[place + 1 :]
        yield from (before + bytes([other]) + after for other in range(256) if other != byte)
        yield before + after
        yield before + bytes([byte, byte]) + after
    yield text + b" "
    yield b" " + text


@pytest.mark.parametrize("vector", [*STANDARD, OPENAI], ids=lambda it: it.message)
def test_every_change_of_a_byte_is_refused(vector: Vector) -> None:
    assert not any(replace(vector, body=changed).holds() for changed in changes(vector.body))
    assert not any(replace(vector, message=changed).holds() for changed in in_text(vector.message))
    assert not any(replace(vector, time=changed).holds() for changed in in_text(vector.time))
    for changed in in_text(vector.signature):
        # Blanks part the signatures of a list, so one before or after is no change.
        assert replace(vector, signature=changed).holds() is (changed.strip(" ") == vector.signature)


def in_text(text: str) -> Iterator[str]:
    return (changed.decode("latin-1") for changed in changes(text.encode()))


@pytest.mark.parametrize(
    ("away", "held"), [(-301, False), (-300, True), (-1, True), (0, True), (299, True), (300, True), (301, False)]
)
def test_a_signature_holds_for_300_seconds_either_way(away: int, held: bool) -> None:  # noqa: FBT001
    assert SIGNED.holds(now=NOW + away) is held


@pytest.mark.parametrize("late", [300_001, -300_001])
def test_the_window_ends_on_the_millisecond(late: int) -> None:
    assert require_recent("1614265330", 1614265330_000 + (late // abs(late)) * 300_000) == "1614265330"
    with pytest.raises(Forged):
        require_recent("1614265330", 1614265330_000 + late)


TIMES = [
    *("", " ", "nan", "inf", "1e9", "-1", "+1614265330", "-1614265330", "1614265330.0", "0x6037b1f2", "1_614_265_330"),
    *(" 1614265330", "1614265330 ", "1614265330\n", "1614265330\0", "1614265330,1614265330"),
    *("\uff11\uff16\uff11\uff14\uff12\uff16\uff15\uff13\uff13\uff10", "\u0661" * 10, "\u00b2" * 10, "\ud800"),
    *("9" * 12, "9" * 5000, "0" * 12, "1" * 10_000, "001614265330" * 2),
]


@pytest.mark.parametrize("odd", TIMES, ids=lambda it: repr(it)[:30])
def test_a_time_that_is_no_number_of_seconds_is_refused(odd: str) -> None:
    assert not replace(SIGNED, time=odd).holds()
    with pytest.raises(Forged):
        require_recent(odd, NOW * 1000)


def test_a_missing_time_is_refused() -> None:
    with pytest.raises(Forged):
        require_recent(None, NOW * 1000)


GOOD = SIGNED.signature
SIGNATURES = [
    *(
        "",
        " ",
        ",",
        "v1",
        "v1,",
        "v1,a,b",
        "v1,\u00e9",
        "v1 ,",
        "v1,abc",
        "v1, " + GOOD[3:],
        GOOD[3:],
        "v1=" + GOOD[3:],
    ),
    *("v1a," + GOOD[3:], "v2," + GOOD[3:], "V1," + GOOD[3:], GOOD.rstrip("="), GOOD + "=", GOOD.replace(",", ";")),
    *(
        GOOD.swapcase(),
        GOOD + ",",
        "v1,v1," + GOOD[3:],
        "\ud800",
        "v1,\ud800\udc00",
        "\0",
        GOOD + "\0",
        "v1," + "A" * 44,
    ),
    *("v1," + "=" * 44, GOOD + "\n", GOOD + "\t" + GOOD, "v1," + "A" * 10_000, "v1,x " * 2_500, " " * 10_000),
    base64.b64decode(GOOD[3:]).hex(),
]


@pytest.mark.parametrize("odd", SIGNATURES, ids=lambda it: repr(it)[:30])
def test_a_signature_header_that_holds_no_right_signature_is_refused(odd: str) -> None:
    assert not replace(SIGNED, signature=odd).holds()


@pytest.mark.parametrize(
    "listed",
    [
        f"v1,wrong {GOOD}",
        f"{GOOD} v1,wrong",
        f"v1a,ed25519 {GOOD}",
        f"v1 {GOOD}",
        f"  {GOOD} ",
        " ".join([*(f"v1,{number}" for number in range(99)), GOOD]),
    ],
    ids=lambda it: it[:20],
)
def test_one_right_signature_in_a_list_is_enough(listed: str) -> None:
    assert replace(SIGNED, signature=listed).holds()


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_refused(name: str) -> None:
    headers = {"webhook-id": SIGNED.message, "webhook-timestamp": SIGNED.time, "webhook-signature": GOOD}
    key = parse_webhook_secret(SIGNED.secret)
    assert passes(headers, SIGNED.body, [key], NOW)
    assert not passes({kept: value for kept, value in headers.items() if kept != name}, SIGNED.body, [key], NOW)
    assert not passes(headers | {name: ""}, SIGNED.body, [key], NOW)


def test_any_of_several_keys_will_do_and_no_key_never_does() -> None:
    right, other = parse_webhook_secret(SIGNED.secret), parse_webhook_secret(OPENAI.secret)
    assert SIGNED.holds(keys=[other, right])
    assert SIGNED.holds(keys=[right, other])
    assert not SIGNED.holds(keys=[other])
    with pytest.raises(Forged):
        require_signature([""], b"", [])


# --- kie.ai


KIE_SIGNED = b"e989621f54392584b05867f87b160672.1769670760"
KIE_KEY = b"test-webhook-hmac-key"
KIE_SIGNATURE = "QUC21Q09sGCd3KI0Jws6WObnYR1cS1LLF4DL3Pwkz64="


def kie_holds(signature: str, signed: bytes = KIE_SIGNED, key: bytes = KIE_KEY) -> bool:
    try:
        require_signature([signature], signed, [key])
    except Forged:
        return False
    return True


def test_the_vector_of_kie_holds_and_every_change_of_a_byte_is_refused() -> None:
    assert kie_holds(KIE_SIGNATURE)
    assert not any(kie_holds(changed.decode("latin-1")) for changed in changes(KIE_SIGNATURE.encode()))
    assert not any(kie_holds(KIE_SIGNATURE, signed=changed) for changed in changes(KIE_SIGNED))
    assert not any(kie_holds(KIE_SIGNATURE, key=changed) for changed in changes(KIE_KEY))


def test_a_right_signature_spelled_another_way_is_refused() -> None:
    digest = base64.b64decode(KIE_SIGNATURE)
    spellings = [
        digest.hex(),
        digest.hex().upper(),
        KIE_SIGNATURE[:-1],
        f"{KIE_SIGNATURE[:-2]}5=",
        f"sha256={digest.hex()}",
    ]
    assert not any(kie_holds(other) for other in spellings)


# --- secrets


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        ("whsec_" + base64.b64encode(b"k" * 24).decode(), b"k" * 24),
        ("whsec_" + base64.b64encode(b"k" * 64).decode(), b"k" * 64),
        ("a secret without that prefix", b"a secret without that prefix"),
        ("caf\u00e9", b"caf\xc3\xa9"),
    ],
)
def test_a_secret_is_base64_after_its_prefix_and_its_own_text_without(secret: str, key: bytes) -> None:
    assert parse_webhook_secret(secret) == key


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_abc", "whsec_not base64", "whsec_\u00e9", "whsec_ab=c", "\ud800"]
)
def test_a_secret_that_is_none_is_a_value_error(secret: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - settings turn any of them into their own words
        parse_webhook_secret(secret)


# --- anything at all


anything = st.one_of(st.text(st.characters(exclude_categories=()), max_size=60), st.sampled_from([*TIMES, *SIGNATURES]))


@settings(max_examples=300, deadline=None)
@given(message=anything, time_=anything, signature=anything, body=st.binary(max_size=40), now=st.integers(0, 2**60))
def test_nothing_but_forged_comes_out_of_any_header(
    message: str, time_: str, signature: str, body: bytes, now: int
) -> None:
    headers = {"webhook-id": message, "webhook-timestamp": time_, "webhook-signature": signature}
    with pytest.raises(Forged):
        require_standard_webhook(headers, body, [b"a key that nobody knows"], now)


# --- our own signatures


@pytest.mark.row("C6")
def test_our_messages_are_signed_as_the_published_vectors_are_once_with_each_secret() -> None:
    for vector in VECTORS:
        keys = [b"another-secret-of-24-bytes", parse_webhook_secret(vector.secret)]
        headers = sign_standard_webhook(vector.message, int(vector.time), vector.body, keys)
        first, second = headers["webhook-signature"].split(" ")
        assert second in vector.signature.split(" ")
        assert first.startswith("v1,")
        assert first != second
        assert headers["webhook-id"] == vector.message
        assert headers["webhook-timestamp"] == vector.time
        for key in keys:
            assert passes(headers, vector.body, [key], int(vector.time))
