"""Amounts of credits as whole millionths, so that they are stored, compared and summed exactly. Pure.

Providers and settings give decimal numbers. They are converted before they are stored, and back when they are shown.
"""

from decimal import Decimal
from typing import overload

MILLIONTHS = 1_000_000
"""Parts of one credit; finer amounts are rounded."""


@overload
def to_millionths(credits_: float) -> int: ...
@overload
def to_millionths(credits_: None) -> None: ...
@overload
def to_millionths(credits_: float | None) -> int | None: ...
def to_millionths(credits_: float | None) -> int | None:
    """Return an amount as whole millionths; a float stands for the decimal number that was written."""
    return None if credits_ is None else int((Decimal(repr(credits_)) * MILLIONTHS).to_integral_value())


def to_credits(millionths: int) -> float | int:
    """Return an amount as JSON shows it: an integer where it is whole."""
    whole, parts = divmod(millionths, MILLIONTHS)
    return millionths / MILLIONTHS if parts else whole


def multiply(credits_: float, number: float) -> float:
    """Return the product of two decimal numbers, without binary rounding errors."""
    return float(Decimal(repr(credits_)) * Decimal(repr(number)))
