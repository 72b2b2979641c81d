"""Functions to describe kie.ai's models.

Its pages change weekly and contradict each other and the API. So these parameters are advisory: nothing is refused
because of them, and no defaults are sent. Prices are those of the provider's list of 2026-06-30, in US$.
"""

from collections.abc import Mapping
from typing import Any

from receiver.core.catalog import Model, Parameter, Price, price_by, price_per_second

DOLLARS = 0.005
"""The price of one credit, approximately."""

Parameters = Mapping[str, Parameter]
Prices = Mapping[tuple[Any, ...], float]


def advisory_model(title: str, parameters: Parameters | None, price: Price | None = None, note: str = "") -> Model:
    """Return a model with advisory parameters; `note` is its price in the provider's list."""
    return Model(parameters, title, additional_parameters=True, price=price, price_note=note, advisory=True)


def price_in_dollars(dollars: Prices, *names: str) -> Price:
    """Return a price per video by the values of these parameters."""
    return price_by(_credits(dollars), *names)


def price_per_second_in_dollars(dollars: Prices, *names: str) -> Price:
    """Return a price by the values of these parameters and the `duration`."""
    return price_per_second(_credits(dollars), *names)


def unless_given(name: str, price: Price) -> Price:
    """Return a price that is unknown if this parameter is given: the list has another one for it."""
    return lambda given, known: None if given.get(name) else price(given, known)


def _credits(dollars: Prices) -> dict[tuple[Any, ...], float]:
    return {values: round(price / DOLLARS, 4) for values, price in dollars.items()}


def prompt(longest: int | None = None, *, required: bool = True) -> Parameter:
    """Return the parameter for the prompt."""
    return Parameter("string", "What to show.", required=required, max_length=longest)


def resolution(*options: str, default: str | None = None, required: bool = False) -> Parameter:
    """Return the parameter for the size of the frame."""
    return Parameter("string", "Size of the frame.", options, default, required)


def shape(*options: str, default: str | None = None, required: bool = False) -> Parameter:
    """Return the parameter for the shape of the frame."""
    return Parameter("string", "Shape of the frame.", options, default, required)


def seconds(*options: str, default: str | None = None, required: bool = False) -> Parameter:
    """Return the parameter for a length that is a string."""
    return Parameter("string", LENGTH, options, default, required)


LENGTH = "Length in seconds."
NEGATIVE = "What not to show."
CHECKER = Parameter("boolean", "Filter the result.")
