"""Reads an order from command line arguments: parameters get the types that the model's documentation gives them."""

import json
from collections.abc import Iterable
from typing import Any

from receiver.core import wire
from receiver.core.catalog import Model, Parameter
from receiver.core.errors import Fault, Invalid, Unreadable


def parse_pairs(place: str, pairs: Iterable[str]) -> dict[str, str]:
    """Return NAME=VALUE arguments as a dictionary; raises `Invalid`."""
    found = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise Invalid([Fault((place, pair[:60]), "must be written NAME=VALUE")])
        found[name] = value
    return found


def parse_input(model: Model | None, prompt: str | None, pairs: Iterable[str], whole: str | None) -> dict[str, Any]:
    """Return an input made of JSON, single parameters and the prompt; later ones win.

    Raises `Invalid`, also for a prompt that is given twice: it is unclear which one should be bought.
    """
    parameters = parse_pairs("set", pairs)
    if prompt is not None and "prompt" in parameters:
        raise Invalid([Fault(("prompt",), "is given by both --prompt and --set prompt=; use one of them")])
    given: dict[str, Any] = {}
    if whole is not None:
        try:
            read = wire.read_json(whole)
        except Unreadable as error:
            raise Invalid([Fault(("input",), str(error))]) from error
        if not isinstance(read, dict):
            raise Invalid([Fault(("input",), "must be a JSON object")])
        given = read
    known = (model.parameters if model else None) or {}
    given |= {name: _value(name, known.get(name), text) for name, text in parameters.items()}
    return given | ({"prompt": prompt} if prompt is not None else {})


def _value(name: str, parameter: Parameter | None, text: str) -> Any:
    """Return a text as it is for a text parameter; for any other, its value as JSON, or else the text."""
    if parameter is not None and parameter.kind == "string":
        return text
    try:
        return wire.read_json(text)
    except Unreadable as error:
        if _is_lenient_json(text):
            raise Invalid([Fault(("set", name), f"{error}; to pass it as text, write {json.dumps(text)}")]) from error
        return [text] if parameter is not None and parameter.kind == "strings" else text


def _is_lenient_json(text: str) -> bool:
    """Return whether only Python accepts a text as JSON: `NaN`, infinite numbers, too deep a nesting."""
    try:
        json.loads(text)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True
