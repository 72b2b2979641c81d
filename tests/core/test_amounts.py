"""Amounts are exact: what was written as a decimal number is stored, summed and shown as that number."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.amounts import multiply, to_credits, to_millionths

WRITTEN = st.decimals(min_value=0, max_value=10**9, places=6)


@given(st.lists(WRITTEN, max_size=20))
def test_a_sum_is_that_of_the_decimal_numbers_that_were_written(amounts: list[Decimal]) -> None:
    assert sum(to_millionths(float(amount)) for amount in amounts) == sum(amounts) * 1_000_000


@given(WRITTEN)
def test_an_amount_comes_back_as_it_was_written(amount: Decimal) -> None:
    shown = to_credits(to_millionths(float(amount)))
    assert Decimal(repr(shown)) == amount
    assert isinstance(shown, int) == (amount == amount.to_integral_value())


@pytest.mark.parametrize(
    ("credits_", "millionths"),
    [
        (50, 50_000_000),
        (12.5, 12_500_000),
        (0.1, 100_000),
        (1e12, 10**18),
        (-3, -3_000_000),
        (0.30000000000000004, 300_000),  # as providers write 0.1 + 0.2
        (1e-9, 0),
        (1e300, 10**306),
    ],
)
def test_any_number_has_its_millionths(credits_: float, millionths: int) -> None:
    assert to_millionths(credits_) == millionths


def test_what_is_not_known_stays_so() -> None:
    assert to_millionths(None) is None


def test_a_tenth_and_two_tenths_are_three_tenths() -> None:
    assert to_credits(to_millionths(0.1) + to_millionths(0.2)) == 0.3
    assert multiply(0.1, 3) == 0.3
