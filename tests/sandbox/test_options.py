"""What a prompt may order, and what it may not."""

import pytest

from receiver.sandbox.options import CallbackFault, Options, ResultFault, StatusFault, SubmitFault


def test_a_prompt_without_options_orders_nothing_unusual() -> None:
    assert Options.parse("A cat [on a mat]") == Options(callback=None, submit=None, status=None, result=None, after=3.0)


def test_all_options_are_read_in_any_order_from_anywhere_in_the_prompt() -> None:
    options = Options.parse("A cat [sandbox: after=0.25 result=fail submit=break status=fail callback=late] on a mat")
    assert options == Options(CallbackFault.LATE, SubmitFault.BREAK, StatusFault.FAIL, ResultFault.FAIL, 0.25)


@pytest.mark.parametrize("value", ["drop", "twice", "early", "late", "forged", "foreign", "unreadable", "lying"])
def test_every_promised_callback_trouble_is_known(value: str) -> None:
    assert Options.parse(f"[sandbox: callback={value}]").callback == CallbackFault(value)


@pytest.mark.parametrize("value", ["refuse", "busy", "break", "mute"])
def test_every_promised_submit_trouble_is_known(value: str) -> None:
    assert Options.parse(f"[sandbox: submit={value}]").submit == SubmitFault(value)


@pytest.mark.parametrize("value", ["0", "0.5", "3600"])
def test_the_time_may_be_anything_from_nothing_to_an_hour(value: str) -> None:
    assert Options.parse(f"[sandbox: after={value}]").after == float(value)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("calback=drop", "allowed are callback, submit, status, result, after"),
        ("callback=lost", "allowed are drop, twice, early, late, forged, foreign, unreadable, lying"),
        ("callback=lie", "lying .first the opposite of the true result, .* then the true one"),
        ("submit", "allowed are refuse, busy, break, mute"),
        ("result=success", "allowed are fail"),
        ("after=3601", "seconds from 0 to 3600"),
        ("after=-1", "seconds from 0 to 3600"),
        ("after=nan", "seconds from 0 to 3600"),
        ("after=1 after=2", "given twice"),
    ],
)
def test_an_option_that_does_not_exist_is_refused_with_what_is_allowed(options: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Options.parse(f"A cat [sandbox: {options}]")


def test_options_that_are_never_closed_are_not_taken_for_plain_words() -> None:
    with pytest.raises(ValueError, match="not closed"):
        Options.parse("A cat [sandbox: callback=drop")
