"""What the tables of kie.ai's models are written with.

Its pages change weekly and contradict each other and the API: so a table here is a hint, nothing is refused on its
word, and no defaults are sent. Prices are those of the provider's list of 2026-06-30, in US$.
"""

from collections.abc import Mapping
from typing import Any

from receiver.core.catalog import Model, Parameter, Price, price_by, price_per_second

DOLLARS = 0.005
"""What one credit costs, about."""

Parameters = Mapping[str, Parameter]
Prices = Mapping[tuple[Any, ...], float]


def hints(title: str, parameters: Parameters | None, price: Price | None = None, note: str = "") -> Model:
    """Describe a model; `note` is its price as the list gives it. Without `parameters` they are not known."""
    return Model(parameters, title, additional_parameters=True, price=price, price_note=note, advisory=True)


def a_video(dollars: Prices, *names: str) -> Price:
    """Price a video as a whole by the values of these parameters."""
    return price_by(_credits(dollars), *names)


def a_second(dollars: Prices, *names: str) -> Price:
    """Price a video by the values of these parameters and its `duration`."""
    return price_per_second(_credits(dollars), *names)


def without(name: str, price: Price) -> Price:
    """Know a price only where this parameter is not given: with it the list has another one."""
    return lambda given, known: None if given.get(name) else price(given, known)


def _credits(dollars: Prices) -> dict[tuple[Any, ...], float]:
    return {values: round(price / DOLLARS, 4) for values, price in dollars.items()}


def prompt(longest: int | None = None, *, required: bool = True) -> Parameter:
    """Describe the prompt."""
    return Parameter("string", "What to show.", required=required, max_length=longest)


def resolution(*options: str, default: str | None = None, required: bool = False) -> Parameter:
    """Describe the size of the frame."""
    return Parameter("string", "Size of the frame.", options, default, required)


def shape(*options: str, default: str | None = None, required: bool = False) -> Parameter:
    """Describe the shape of the frame."""
    return Parameter("string", "Shape of the frame.", options, default, required)


def seconds(*options: str, default: str | None = None, required: bool = False) -> Parameter:
    """Describe a length that is a text."""
    return Parameter("string", LENGTH, options, default, required)


LENGTH = "Length in seconds."
NEGATIVE = "What not to show."
CHECKER = Parameter("boolean", "Filter the result.")
