"""What is known of a model: its parameters, its price, advice on polling; and how an order is validated against it.

The provider files fill it; submission, the pages' forms and `GET /api/providers` read it. It never talks to anyone,
and an order for a model that it does not know passes untouched.
"""

import difflib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from receiver.core import wire
from receiver.core.amounts import times
from receiver.core.errors import Fault, Invalid

Kind = Literal["string", "boolean", "integer", "number", "strings", "objects"]
"""The JSON type of a parameter: a text, true or false, a whole number, any number, a list of texts or of objects."""

_TYPES: Mapping[Kind, tuple[type | tuple[type, ...], str, dict[str, Any]]] = {
    "string": (str, "a text", {"type": "string"}),
    "boolean": (bool, "true or false", {"type": "boolean"}),
    "integer": (int, "a whole number", {"type": "integer"}),
    "number": ((int, float), "a number", {"type": "number"}),
    "strings": (list, "a list of texts", {"type": "array", "items": {"type": "string"}}),
    "objects": (list, "a list of objects", {"type": "array", "items": {"type": "object"}}),
}
_ITEMS: Mapping[Kind, type] = {"strings": str, "objects": dict}

OWNED = frozenset({"model", "callBackUrl", "callback_url", "request_type", "notify_hook", "client_request_id"})
"""Names that the adapters fill in themselves; they are refused in `input`."""
MAX_UNKNOWN = 10


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter under the provider's own name and type.

    `default` is what the provider's document gives, and is then sent explicitly. `max_length` counts characters of a
    text, `max_items` the items of a list; `minimum` and `maximum` bound a number.
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

    def fault(self, value: Any) -> str | None:
        """Say what is wrong with a value, or None."""
        python_type, words, _ = _TYPES[self.kind]
        if not isinstance(value, python_type) or (self.kind in ("integer", "number") and isinstance(value, bool)):
            return f"must be {words}{self._spelled_options()}, not {_shown(value)}"
        if self.options and value not in self.options:
            return f"must be one of{self._spelled_options(':')}, not {_shown(value)}{_nearest(value, self.options)}"
        return self._size_fault(value)

    def _size_fault(self, value: Any) -> str | None:
        if isinstance(value, str):
            if self.required and not value.strip():
                return "must not be empty"
            if self.max_length and len(value) > self.max_length:
                return f"has {len(value)} characters; at most {self.max_length} are taken"
        if isinstance(value, list):
            if not all(isinstance(item, _ITEMS[self.kind]) for item in value):
                return f"must be {_TYPES[self.kind][1]}"
            if self.max_items and len(value) > self.max_items:
                return f"has {len(value)} items; at most {self.max_items} are taken"
        if isinstance(value, int | float):
            return self._bound_fault(value)
        return None

    def _bound_fault(self, value: float) -> str | None:
        if not abs(value) <= sys.float_info.max:  # written so that NaN does not pass
            return "must be finite"
        if self.minimum is not None and value < self.minimum:
            return f"must be at least {self.minimum}, not {_shown(value)}"
        if self.maximum is not None and value > self.maximum:
            return f"must be at most {self.maximum}, not {_shown(value)}"
        return None

    def _spelled_options(self, lead: str = ", one of") -> str:
        return f"{lead} {', '.join(_shown(option) for option in self.options)}" if self.options else ""

    def schema(self) -> dict[str, Any]:
        """Describe this parameter as JSON Schema."""
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
"""The cost of an input (defaults filled in) in the provider's own credits; None where no document says.

What nobody gave counts as its dearest: in a table that is told by the table, for a length by the model's parameters.
"""

Rule = Callable[[Mapping[str, Any]], Fault | None]
"""A rule between parameters: what is wrong with an input (defaults filled in), or None."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model as its provider documents it.

    `parameters` is None where no document gives them. `open` passes names that are not listed, for models whose
    document is known to leave some out. `hints` says that the parameters are shown and priced, but not relied on:
    nothing is refused on their word, and no defaults are sent. `price_note` is the price list in words.
    """

    parameters: Mapping[str, Parameter] | None = None
    title: str = ""
    open: bool = False
    price: Price | None = None
    price_note: str = ""
    rules: tuple[Rule, ...] = field(default=())
    hints: bool = False

    @property
    def validates(self) -> bool:
        """Tell whether orders for this model are checked at all."""
        return self.parameters is not None and not self.hints

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Fill in the defaults that the documents give; what the caller gave stays as it is."""
        return dict(given) if self.hints else self._with_defaults(given)

    def _with_defaults(self, given: Mapping[str, Any]) -> dict[str, Any]:
        known = self.parameters or {}
        return {name: item.default for name, item in known.items() if item.default is not None} | dict(given)

    def validate(self, given: Mapping[str, Any]) -> None:
        """Check an input; raises `Invalid` with every fault at once, each with its place below `input`.

        Of unknown names the first `MAX_UNKNOWN` are told: looking for what was meant takes its time.
        """
        if not self.validates:
            return
        faults = [*self._missing(given), *self._unknown(given), *self._wrong(given)]
        if not faults:
            complete = self.complete(given)
            faults = [fault for rule in self.rules if (fault := rule(complete))]
        if faults:
            raise Invalid(faults)

    def _missing(self, given: Mapping[str, Any]) -> list[Fault]:
        known = self.parameters or {}
        return [
            Fault(("input", name), "is required") for name, item in known.items() if item.required and name not in given
        ]

    def _unknown(self, given: Mapping[str, Any]) -> list[Fault]:
        known = self.parameters or {}
        if self.open:
            return []
        unknown = islice((name for name in given if name not in known), MAX_UNKNOWN)
        return [
            Fault(("input", name), f"is not a parameter of this model{_nearest(name, tuple(known))}")
            for name in unknown
        ]

    def _wrong(self, given: Mapping[str, Any]) -> list[Fault]:
        known = self.parameters or {}
        return [
            Fault(("input", name), words)
            for name, value in given.items()
            if name in known and (words := known[name].fault(value))
        ]

    def estimate(self, given: Mapping[str, Any]) -> float | None:
        """Price an input in credits, as its provider completes it; None where no document gives a price for it.

        Where neither the input nor a default says what a price depends on, it is the dearest that may come of it.
        """
        price = self.price(self._with_defaults(given), self.parameters or {}) if self.price else None
        return None if price is None else min(price, wire.MAX_CREDITS)

    def schema(self) -> dict[str, Any]:
        """Describe the input as JSON Schema."""
        known = self.parameters or {}
        return {
            "type": "object",
            "properties": {name: item.schema() for name, item in known.items()},
            "required": [name for name, item in known.items() if item.required],
            "additionalProperties": not self.validates or self.open,
        }


def refuse_owned(given: Mapping[str, Any]) -> None:
    """Refuse names in `input` that the adapters fill in themselves; raises `Invalid`."""
    faults = [Fault(("input", name), "is filled in by this service; leave it out") for name in given if name in OWNED]
    if faults:
        raise Invalid(faults)


def fixed(credits_: float) -> Price:
    """Price every input the same."""
    return lambda _given, _known: credits_


def by(table: Mapping[tuple[Any, ...], float], *names: str) -> Price:
    """Price an input by the values of these parameters; a combination that the table lacks has no known price."""

    def price(given: Mapping[str, Any], _known: Mapping[str, Parameter]) -> float | None:
        wanted = {place: given[name] for place, name in enumerate(names) if name in given}
        if not all(isinstance(value, str | int) for value in wanted.values()):
            return None
        fitting = (each for row, each in table.items() if all(row[place] == value for place, value in wanted.items()))
        return max(fitting, default=None)

    return price


def per_second(table: Mapping[tuple[Any, ...], float], *names: str, seconds: str = "duration") -> Price:
    """Price an input by its length, at the rate that `by` finds; the length may be a number or a text."""
    rate = by(table, *names)

    def price(given: Mapping[str, Any], known: Mapping[str, Parameter]) -> float | None:
        each = rate(given, known)
        length = wire.credit(given[seconds]) if seconds in given else _longest(known.get(seconds))
        return None if each is None or length is None or length <= 0 else times(each, length)

    return price


def _longest(length: Parameter | None) -> float | None:
    """Return the greatest length that a parameter may have, if its bounds or options say."""
    if length is None or length.maximum is not None:
        return length.maximum if length else None
    return max(filter(None, map(wire.credit, length.options)), default=None)


def _nearest(value: Any, options: tuple[str | int, ...]) -> str:
    names = {str(option): option for option in options}
    found = difflib.get_close_matches(str(value)[:100], names, n=1)
    return f"; did you mean {_shown(names[found[0]])}?" if found else ""


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value[:60]}"'
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)[:60] if isinstance(value, int | float) else ("a list" if isinstance(value, list) else "an object")
