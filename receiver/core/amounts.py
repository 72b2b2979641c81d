"""Amounts of credits as whole millionths, so that they are stored, compared and summed exactly. Pure.

Providers and settings give numbers; whatever becomes a column is converted first, and back where it is shown.
"""

from decimal import Decimal
from typing import overload

MILLIONTHS = 1_000_000
"""Parts of one credit; what a provider tells beyond that is rounded."""


@overload
def to_millionths(credits_: float) -> int: ...
@overload
def to_millionths(credits_: None) -> None: ...
@overload
def to_millionths(credits_: float | None) -> int | None: ...
def to_millionths(credits_: float | None) -> int | None:
    """Return an amount as whole millionths, taking a float for the decimal number that was written."""
    return None if credits_ is None else int((Decimal(repr(credits_)) * MILLIONTHS).to_integral_value())


def to_credits(millionths: int) -> float | int:
    """Return an amount as the number that JSON shows: whole where it is whole."""
    whole, parts = divmod(millionths, MILLIONTHS)
    return millionths / MILLIONTHS if parts else whole


def times(credits_: float, number: float) -> float:
    """Return a product of two decimal numbers, without the error of binary ones."""
    return float(Decimal(repr(credits_)) * Decimal(repr(number)))
