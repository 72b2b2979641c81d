"""Callback URLs and signed texts: readable by us alone, for one purpose, over rotations, whatever a stranger sends."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.ids import new_id
from receiver.core.links import MAX_TOKEN_LENGTH, Links

URL = "https://hooks.example.com/in"
TASK = "tsk_01m7wd7tg08b50pxm5pq082ee5"
OLD, NEW, NEXT = "an-old-key", "a-new-key", "the-next-key"
URL_SAFE = string.ascii_letters + string.digits + "-_.~"
EVERY = [*string.printable, "é", "٣", "\ufeff", "\udcff", "\0", "🎬"]


def links(*keys: str, public_url: str | None = URL) -> Links:
    return Links(keys, public_url)


def token(made: Links, provider: str = "revid", task_id: str = TASK) -> str:
    url = made.callback_url(provider, task_id)
    assert url is not None
    prefix = f"{URL}/callbacks/{provider}/"
    assert url.startswith(prefix)
    return url.removeprefix(prefix)


def test_a_callback_url_is_read_back_and_needs_no_quoting() -> None:
    made = links(NEW)
    assert made.read_task_id("revid", token(made)) == TASK
    assert set(token(made)) <= set(URL_SAFE)
    assert len(token(made)) < MAX_TOKEN_LENGTH / 4
    assert token(made) == token(links(NEW)), "the same after a restart"


def test_without_a_public_url_there_are_no_links_but_old_ones_are_read() -> None:
    made = links(NEW, public_url=None)
    assert made.callback_url("revid", TASK) is None
    assert made.read_task_id("revid", token(links(NEW))) == TASK


def test_the_first_key_signs_and_all_verify() -> None:
    rotated = links(NEW, OLD)
    assert token(rotated) == token(links(NEW)) != token(links(OLD))
    for signed in (token(links(OLD)), token(links(NEW)), token(rotated)):
        assert rotated.read_task_id("revid", signed) == TASK
    three = links(NEXT, NEW, OLD)
    assert three.read_task_id("revid", token(links(OLD))) == TASK


def test_a_removed_key_is_refused() -> None:
    assert links(NEXT, NEW).read_task_id("revid", token(links(OLD))) is None
    assert links(NEW).unsign_timed("session", links(OLD).sign_timed("session", "x"), 60) is None


@pytest.mark.row("C1")
@pytest.mark.parametrize("other", ["apixo", "revid2", "Revid", "gateway-x", "", "revi", "revid "])
def test_a_token_of_another_provider_is_refused(other: str) -> None:
    made = links(NEW)
    assert made.read_task_id(other, token(made)) is None


@pytest.mark.row("C1")
def test_every_change_of_one_character_refuses_or_names_the_same_task() -> None:
    """Base64 has spare bits at its end, so a text may be changed without its meaning; never to another task's."""
    made, text = links(NEW, OLD), token(links(NEW))
    read = [
        made.read_task_id("revid", text[:at] + character + text[at + 1 :])
        for at in range(len(text))
        for character in EVERY
        if character != text[at]
    ]
    assert set(read) <= {None, TASK}
    assert read.count(TASK) < 10


@pytest.mark.row("C1")
def test_every_character_added_or_left_out_refuses_or_names_the_same_task() -> None:
    made, text = links(NEW), token(links(NEW))
    changed = [text[:at] + character + text[at:] for at in range(len(text) + 1) for character in EVERY]
    changed += [text[:at] + text[at + 1 :] for at in range(len(text))]
    assert {made.read_task_id("revid", one) for one in changed} <= {None, TASK}


@pytest.mark.row("C1")
def test_the_id_of_one_task_does_not_match_the_signature_of_another() -> None:
    made = links(NEW)
    other = new_id(1_795_176_000_001)
    assert made.read_task_id("revid", f"{other}.{token(made).rpartition('.')[2]}") is None
    assert made.read_task_id("revid", f"{other}.{token(made)}") is None


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", TASK, f"{TASK}.", f".{TASK}", "x" * 10_000, "." * 10_000, "é" * 100, "\udcff.\udcff", "\0.\0",
     "٣.٣", f"{TASK}.{'A' * 43}", f"{TASK}.====", f"{TASK}.é"],
)  # fmt: skip
def test_what_is_no_token_is_refused(text: str) -> None:
    made = links(NEW)
    assert made.read_task_id("revid", text) is None
    assert made.unsign_timed("session", text, 60) is None


@given(st.text(max_size=600))
def test_no_text_is_a_token_by_chance_nor_breaks_the_reader(text: str) -> None:
    made = links(NEW)
    assert made.read_task_id("revid", text) is None
    assert made.unsign_timed("session", text, 60) is None


def test_a_token_is_read_without_regard_to_the_clock() -> None:
    """A clock that is stepped back must never refuse a paid result: nothing in the token is a time."""
    assert token(links(NEW)).split(".") == [TASK, token(links(NEW)).rpartition(".")[2]]


def test_a_signed_text_is_read_for_its_purpose_and_its_time() -> None:
    made = links(NEW)
    signed = made.sign_timed("session", "a value. with: dots")
    assert made.unsign_timed("session", signed, 60) == "a value. with: dots"
    assert links(NEXT, NEW).unsign_timed("session", signed, 60) == "a value. with: dots"
    assert made.unsign_timed("session", signed, -1) is None, "over"


PURPOSES = ("session", "form", "login link", "callback revid", "revid", "")


@pytest.mark.parametrize("purpose", PURPOSES)
def test_purposes_do_not_mix(purpose: str) -> None:
    made = links(NEW)
    signed = made.sign_timed(purpose, TASK)
    for other in PURPOSES:
        assert (made.unsign_timed(other, signed, 60) == TASK) == (other == purpose)
    for provider in ("revid", "session", "form"):
        assert made.read_task_id(provider, signed) != TASK, "a signed text is no callback token"
    assert made.unsign_timed(purpose, token(made), 60) is None, "nor the other way round"


def test_a_text_of_any_characters_survives_its_signature() -> None:
    made = links(NEW)
    assert made.unsign_timed("form", made.sign_timed("form", "é🎬 %/?#&="), 60) == "é🎬 %/?#&="


def test_an_undated_text_is_read_for_its_purpose_alone_by_every_key_however_old_it_is() -> None:
    signed = links(OLD).sign_text("question", "1-a")
    assert links(NEW, OLD).unsign_text("question", signed) == "1-a"
    assert links(NEW).unsign_text("question", signed) is None
    assert links(OLD).unsign_text("answer", signed) is None
    assert links(OLD).unsign_text("question", f"{signed}x") is None
    assert links(OLD).unsign_text("question", "") is None
    assert links(OLD).unsign_text("question", "é" * 10 + signed) is None
    assert links(OLD).unsign_text("question", "x" * MAX_TOKEN_LENGTH + signed) is None
    assert links(OLD).unsign_text("question", links(OLD).sign_timed("question", "1-a")) is None
    assert links(OLD).read_task_id("question", signed) is None
