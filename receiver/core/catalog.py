"""What is known about a model: its parameters and its price. Validates orders and estimates what they cost. Pure.

The provider files describe models with it; submission, the pages' forms and `GET /api/providers` read them. An order
for an unknown model passes unchanged.
"""

import difflib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from receiver.core import wire
from receiver.core.amounts import multiply
from receiver.core.errors import Fault, Invalid

Kind = Literal["string", "boolean", "integer", "number", "strings", "objects"]
"""The JSON type of a parameter; `strings` and `objects` are lists of them."""

_TYPES: Mapping[Kind, tuple[type | tuple[type, ...], str, dict[str, Any]]] = {
    "string": (str, "a string", {"type": "string"}),
    "boolean": (bool, "true or false", {"type": "boolean"}),
    "integer": (int, "a whole number", {"type": "integer"}),
    "number": ((int, float), "a number", {"type": "number"}),
    "strings": (list, "a list of strings", {"type": "array", "items": {"type": "string"}}),
    "objects": (list, "a list of objects", {"type": "array", "items": {"type": "object"}}),
}
_ITEMS: Mapping[Kind, type] = {"strings": str, "objects": dict}

RESERVED_NAMES = frozenset({"model", "callBackUrl", "callback_url", "request_type", "notify_hook", "client_request_id"})
"""Names that the adapters fill in; they are refused in `input`."""
MAX_UNKNOWN = 10


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter under the provider's own name and type.

    `default` is the documented one, and is sent explicitly. `max_length` counts the characters of a string, `max_items`
    the items of a list; `minimum` and `maximum` bound a number.
    """

    kind: Kind
    help: str = ""
    options: tuple[str | int, ...] = ()
    default: Any = None
    required: bool = False
    max_length: int | None = None
    max_items: int | None = None
    minimum: float | None = None
    maximum: float | None = None

    def find_fault(self, value: Any) -> str | None:
        """Return what is wrong with a value, or None."""
        python_type, words, _ = _TYPES[self.kind]
        if not isinstance(value, python_type) or (self.kind in ("integer", "number") and isinstance(value, bool)):
            return f"must be {words}{self._list_options()}, not {_describe_value(value)}"
        if self.options and value not in self.options:
            return (
                f"must be one of{self._list_options(':')}, not {_describe_value(value)}{_suggest(value, self.options)}"
            )
        return self._find_size_fault(value)

    def _find_size_fault(self, value: Any) -> str | None:
        if isinstance(value, str):
            if self.required and not value.strip():
                return "must not be empty"
            if self.max_length and len(value) > self.max_length:
                return f"has {len(value)} characters; the maximum is {self.max_length}"
        if isinstance(value, list):
            if not all(isinstance(item, _ITEMS[self.kind]) for item in value):
                return f"must be {_TYPES[self.kind][1]}"
            if self.max_items and len(value) > self.max_items:
                return f"has {len(value)} items; the maximum is {self.max_items}"
        if isinstance(value, int | float):
            return self._find_bound_fault(value)
        return None

    def _find_bound_fault(self, value: float) -> str | None:
        if not abs(value) <= sys.float_info.max:  # written so that NaN does not pass
            return "must be finite"
        if self.minimum is not None and value < self.minimum:
            return f"must be at least {self.minimum}, not {_describe_value(value)}"
        if self.maximum is not None and value > self.maximum:
            return f"must be at most {self.maximum}, not {_describe_value(value)}"
        return None

    def _list_options(self, lead: str = ", one of") -> str:
        return f"{lead} {', '.join(_describe_value(option) for option in self.options)}" if self.options else ""

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of this parameter."""
        schema = dict(_TYPES[self.kind][2])
        optional = {"description": self.help, "enum": list(self.options), "default": self.default}
        sizes = {
            "maxLength": self.max_length,
            "maxItems": self.max_items,
            "minimum": self.minimum,
            "maximum": self.maximum,
        }
        schema |= {name: value for name, value in optional.items() if value not in ("", [], None)}
        schema |= {name: value for name, value in sizes.items() if value is not None}
        if self.required and self.kind == "string":
            schema["minLength"] = 1
        return schema


Price = Callable[[Mapping[str, Any], Mapping[str, Parameter]], float | None]
"""Returns the cost of an input (with defaults) in the provider's own credits; None if no document gives it.

A parameter that is missing counts as its most expensive value.
"""

Rule = Callable[[Mapping[str, Any]], Fault | None]
"""A rule between parameters: returns what is wrong with an input (with defaults), or None."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model as its provider documents it.

    `parameters` is None where no document gives them. With `additional_parameters`, names that are not listed are
    accepted: the document is known to be incomplete. `advisory` parameters are shown and priced, but nothing is refused
    because of them, and no defaults are sent. `price_note` is the price list in words.
    """

    parameters: Mapping[str, Parameter] | None = None
    title: str = ""
    additional_parameters: bool = False
    price: Price | None = None
    price_note: str = ""
    rules: tuple[Rule, ...] = field(default=())
    advisory: bool = False

    @property
    def is_validated(self) -> bool:
        """Return whether orders for this model are validated."""
        return self.parameters is not None and not self.advisory

    def with_defaults(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return an input with the documented defaults for what the caller left out."""
        return dict(given) if self.advisory else self._fill_defaults(given)

    def _fill_defaults(self, given: Mapping[str, Any]) -> dict[str, Any]:
        known = self.parameters or {}
        return {name: item.default for name, item in known.items() if item.default is not None} | dict(given)

    def validate(self, given: Mapping[str, Any]) -> None:
        """Raise `Invalid` with everything that is wrong with an input.

        Only the first `MAX_UNKNOWN` unknown names are listed: finding a suggestion takes time.
        """
        if not self.is_validated:
            return
        faults = [*self._find_missing(given), *self._find_unknown(given), *self._find_wrong(given)]
        if not faults:
            complete = self.with_defaults(given)
            faults = [fault for rule in self.rules if (fault := rule(complete))]
        if faults:
            raise Invalid(faults)

    def _find_missing(self, given: Mapping[str, Any]) -> list[Fault]:
        known = self.parameters or {}
        return [
            Fault(("input", name), "is required") for name, item in known.items() if item.required and name not in given
        ]

    def _find_unknown(self, given: Mapping[str, Any]) -> list[Fault]:
        known = self.parameters or {}
        if self.additional_parameters:
            return []
        unknown = islice((name for name in given if name not in known), MAX_UNKNOWN)
        return [
            Fault(("input", name), f"is not a parameter of this model{_suggest(name, tuple(known))}")
            for name in unknown
        ]

    def _find_wrong(self, given: Mapping[str, Any]) -> list[Fault]:
        known = self.parameters or {}
        return [
            Fault(("input", name), words)
            for name, value in given.items()
            if name in known and (words := known[name].find_fault(value))
        ]

    def estimate(self, given: Mapping[str, Any]) -> float | None:
        """Return the estimated cost of an input in credits; None if no document gives its price.

        If neither the input nor a default gives what the price depends on, it is the highest possible one.
        """
        price = self.price(self._fill_defaults(given), self.parameters or {}) if self.price else None
        return None if price is None else min(price, wire.MAX_CREDITS)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the input."""
        known = self.parameters or {}
        return {
            "type": "object",
            "properties": {name: item.schema() for name, item in known.items()},
            "required": [name for name, item in known.items() if item.required],
            "additionalProperties": not self.is_validated or self.additional_parameters,
        }


def refuse_reserved_names(given: Mapping[str, Any]) -> None:
    """Raise `Invalid` for names in `input` that the adapters fill in."""
    words = "is filled in by this service; leave it out"
    faults = [Fault(("input", name), words) for name in given if name in RESERVED_NAMES]
    if faults:
        raise Invalid(faults)


def fixed_price(credits_: float) -> Price:
    """Return a price that is the same for every input."""
    return lambda _given, _known: credits_


def price_by(table: Mapping[tuple[Any, ...], float], *names: str) -> Price:
    """Return a price by the values of these parameters; combinations that are not in the table have none."""

    def price(given: Mapping[str, Any], _known: Mapping[str, Parameter]) -> float | None:
        wanted = {place: given[name] for place, name in enumerate(names) if name in given}
        if not all(isinstance(value, str | int) for value in wanted.values()):
            return None
        fitting = (each for row, each in table.items() if all(row[place] == value for place, value in wanted.items()))
        return max(fitting, default=None)

    return price


def price_per_second(table: Mapping[tuple[Any, ...], float], *names: str, seconds: str = "duration") -> Price:
    """Return a price by duration, at the rate that `price_by` finds; the duration may be a number or a string."""
    rate = price_by(table, *names)

    def price(given: Mapping[str, Any], known: Mapping[str, Parameter]) -> float | None:
        each = rate(given, known)
        length = wire.parse_credits(given[seconds]) if seconds in given else _longest_duration(known.get(seconds))
        return None if each is None or length is None or length <= 0 else multiply(each, length)

    return price


def _longest_duration(length: Parameter | None) -> float | None:
    """Return the longest duration that a parameter accepts, if its bounds or options give one."""
    if length is None or length.maximum is not None:
        return length.maximum if length else None
    return max(filter(None, map(wire.parse_credits, length.options)), default=None)


def _suggest(value: Any, options: tuple[str | int, ...]) -> str:
    names = {str(option): option for option in options}
    found = difflib.get_close_matches(str(value)[:100], names, n=1)
    return f"; did you mean {_describe_value(names[found[0]])}?" if found else ""


def _describe_value(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value[:60]}"'
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)[:60] if isinstance(value, int | float) else ("a list" if isinstance(value, list) else "an object")
