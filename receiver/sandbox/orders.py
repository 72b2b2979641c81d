"""Reads submissions and validates them against the documented parameters.

The families use it with their own rules. Pure. It must not accept more than the documents: the string "10" and the
number 10 are different values.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

MAX_PROMPT_LENGTH = 10_000


class OrderError(ValueError):
    """The order does not follow the documents; the message names the field."""


@dataclass(frozen=True, slots=True)
class Order:
    """A valid order: what the sandbox needs of it, and the whole body."""

    model: str
    prompt: str
    body: dict[str, Any]
    callback_url: str | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """What a field's value must be, in words and as a test."""

    says: str
    holds: Callable[[Any], bool]


def one_of(*options: str | int) -> Rule:
    """Return the rule that the value is one of these, of the same type."""
    listed = ", ".join(json.dumps(option) for option in options)
    return Rule(f"one of {listed}", lambda value: any(value == o and type(value) is type(o) for o in options))


def whole(least: int, most: int) -> Rule:
    """Return the rule that the value is a whole number within these bounds, not text, and not true or false."""
    return Rule(f"a whole number from {least} to {most}", lambda value: type(value) is int and least <= value <= most)


def strings(most: int) -> Rule:
    """Return the rule that the value is a list of at most so many strings."""
    return Rule(f"a list of at most {most} strings", lambda value: STRINGS.holds(value) and len(value) <= most)


BOOLEAN = Rule("true or false", lambda value: isinstance(value, bool))
STRING = Rule("a string", lambda value: isinstance(value, str))
STRINGS = Rule(
    "a list of strings", lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value)
)


def read_object(raw: bytes) -> dict[str, Any]:
    """Return the JSON object in a request body. Raises OrderError."""
    try:
        body = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise OrderError("The request body is not valid JSON") from None
    if not isinstance(body, dict):
        raise OrderError("The request body is not a JSON object")
    return body


def required_text(fields: Mapping[str, Any], name: str, *, within: str = "", limit: int = MAX_PROMPT_LENGTH) -> str:
    """Return a string that must be there, must not be empty and must not exceed `limit` characters."""
    value = fields.get(name)
    if value is None or value == "":
        raise OrderError(f"Missing required field: {within}{name}")
    if not isinstance(value, str):
        raise OrderError(f"{within}{name} must be a string")
    if len(value) > limit:
        raise OrderError(f"{within}{name} must not exceed {limit} characters")
    return value


def required_object(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a JSON object that must be there."""
    if name not in fields:
        raise OrderError(f"Missing required field: {name}")
    return optional_object(fields, name)


def optional_object(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a JSON object that may be missing, which is read as an empty one."""
    value = fields.get(name, {})
    if not isinstance(value, dict):
        raise OrderError(f"{name} must be an object")
    return value


def optional_link(fields: Mapping[str, Any], name: str) -> str | None:
    """Return an http or https URL that may be missing."""
    value = fields.get(name)
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except (ValueError, TypeError, AttributeError):
        usable = False
    if not isinstance(value, str) or not usable:
        raise OrderError(f"{name} must be an http or https URL")
    return value


def check_destination(url: str, callbacks_to: str | None) -> None:
    """Raise OrderError for a URL that is not under `callbacks_to`, if that is given."""
    # The slash matters: `http://receiver.example:8000@elsewhere.example/` has the same beginning.
    if callbacks_to is not None and not url.startswith(f"{callbacks_to.rstrip('/')}/"):
        raise OrderError("This sandbox may not call that callback URL")


def check(fields: Mapping[str, Any], rules: Mapping[str, Rule], *, within: str = "") -> None:
    """Raise OrderError for the first field that breaks its rule; fields without a rule pass."""
    for name, rule in rules.items():
        if name in fields and not rule.holds(fields[name]):
            raise OrderError(f"{within}{name} must be {rule.says}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
