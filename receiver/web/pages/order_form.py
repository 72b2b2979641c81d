"""The form of a new task, built from the catalog's entry of a model, and its values, read as an input.

`routes` calls it. An empty field means that the parameter is not given. A value that cannot be read as the parameter's
type is passed on as text: `Model.validate` refuses it, unless the task is sent as is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from receiver.core import wire
from receiver.core.catalog import Kind, Model, Parameter
from receiver.core.errors import Fault, Invalid, Unreadable
from receiver.tasks.submission import NewTask, digest_of
from receiver.web.api.requests import OrderBody, validate
from receiver.web.pages.forms import Form, read_key

PREFIX = "input."
EXTRA = "extra"
AS_IS = "as_is"
UNKNOWN = Model({"prompt": Parameter("string", "What to show.")}, additional_parameters=True)
"""The form of a model with undocumented parameters: a prompt, and JSON for the rest."""

Control = Literal["area", "line", "number", "select", "lines", "json"]
_CONTROLS: Mapping[Kind, Control] = {
    "string": "line",
    "boolean": "select",
    "integer": "number",
    "number": "number",
    "strings": "lines",
    "objects": "json",
}
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Field:
    """One field, with the value typed so far and what is wrong with it."""

    name: str
    label: str
    help: str
    control: Control
    value: str = ""
    fault: str = ""
    required: bool = False
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class OrderForm:
    """The whole form, with the faults that concern no single field."""

    fields: tuple[Field, ...]
    faults: tuple[str, ...]
    validates: bool
    as_is: bool


def build_form(model: Model | None, form: Form, faults: Sequence[Fault] = ()) -> OrderForm:
    """Return the form of a model, filled with what was typed, each fault at its field."""
    wrong = {str(fault.loc[1]): fault.msg for fault in faults if fault.loc[:1] == ("input",) and len(fault.loc) > 1}
    known, is_open = _parameters(model)
    binding = model is not None and model.is_validated
    fields = [_field(name, item, form, wrong.pop(name, ""), binding=binding) for name, item in known.items()]
    if is_open:
        help_ = "A JSON object with more parameters, under the provider's own names."
        further = Field(EXTRA, "More parameters", help_, "json", form.get(EXTRA, ""), wrong.pop(EXTRA, ""))
        fields.append(further)
    others = [_sentence(fault) for fault in faults if fault.loc[:1] != ("input",)]
    others += [f"{name}: {message}" for name, message in wrong.items()]
    return OrderForm(tuple(fields), tuple(others), binding, AS_IS in form)


def _sentence(fault: Fault) -> str:
    return f"{'.'.join(map(str, fault.loc))}: {fault.msg}" if fault.loc else fault.msg


def read_order(provider: str, name: str, model: Model | None, form: Form) -> NewTask:
    """Return the order that a form makes; raises `Invalid`, and `HTTPException` where its key is missing."""
    given = {"provider": provider, "model": name, "input": _input(model, form), "validate": AS_IS not in form}
    body = validate(OrderBody, given)
    return NewTask(
        body.provider, body.model, body.input, validate=body.validated, key=read_key(form), digest=digest_of(given)
    )


def _parameters(model: Model | None) -> tuple[Mapping[str, Parameter], bool]:
    shown = model if model is not None and model.parameters is not None else UNKNOWN
    return shown.parameters or {}, shown.additional_parameters


def _field(name: str, item: Parameter, form: Form, fault: str, *, binding: bool) -> Field:
    """Return the field of a parameter; unless the catalog's entry is `binding`, nothing is required."""
    options = _options(item)
    control: Control = "select" if options else "area" if name == "prompt" else _CONTROLS[item.kind]
    typed = form.get(PREFIX + name, "")
    return Field(PREFIX + name, name, _help(item, control), control, typed, fault, binding and item.required, options)


def _options(item: Parameter) -> tuple[tuple[str, str], ...]:
    if item.kind == "boolean":
        choices = [("true", "yes"), ("false", "no")]
    else:
        choices = [(str(option), str(option)) for option in item.options]
    if not choices:
        return ()
    default = {True: "yes", False: "no"}.get(item.default, item.default) if item.kind == "boolean" else item.default
    return (("", "not given" if default is None else f"not given (default: {default})"), *choices)


def _help(item: Parameter, control: Control) -> str:
    sizes = {"characters": item.max_length, "items" if item.max_items != 1 else "item": item.max_items}
    parts = [item.help, {"lines": "One per line.", "json": "A JSON list of objects."}.get(control, "")]
    parts += [f"At most {number:,} {of}." for of, number in sizes.items() if number is not None]
    return " ".join(filter(None, parts))


def _input(model: Model | None, form: Form) -> dict[str, Any]:
    known, is_open = _parameters(model)
    given: dict[str, Any] = {}
    faults: list[Fault] = []
    for name, item in known.items():
        typed = form.get(PREFIX + name, "")
        if typed.strip():
            try:
                given[name] = _READERS[item.kind](typed)
            except Unreadable as error:
                faults.append(Fault(("input", name), f"is {error}"))
    if is_open:
        _add_further(form.get(EXTRA, ""), given, faults)
    if faults:
        raise Invalid(faults)
    return given


def _add_further(typed: str, given: dict[str, Any], faults: list[Fault]) -> None:
    if not typed.strip():
        return
    try:
        further = wire.read_object(typed)
    except Unreadable as error:
        faults.append(Fault(("input", EXTRA), f"is {error}"))
        return
    faults += [Fault(("input", EXTRA), f"repeats {name}, which has its own field") for name in further if name in given]
    given |= {name: value for name, value in further.items() if name not in given}


def _integer(typed: str) -> int | str:
    digits = typed.strip()
    return int(digits) if digits.removeprefix("-").isdecimal() and len(digits) < 20 else digits


def _number(typed: str) -> Any:
    try:
        number = wire.as_number(wire.read_json(typed))
    except Unreadable:
        return typed
    return typed if number is None else number


_READERS: Mapping[Kind, Any] = {
    "string": lambda typed: typed,
    "boolean": lambda typed: _BOOLEANS.get(typed, typed),
    "integer": _integer,
    "number": _number,
    "strings": lambda typed: [line.strip() for line in typed.split("\n") if line.strip()],
    "objects": wire.read_json,
}
