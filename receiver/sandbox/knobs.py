"""The troubles that a prompt may order, such as `[sandbox: callback=late result=fail after=0.5]`.

The desk parses them out of each order, the plan and the truth follow them. Pure: no knob does anything by itself.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

LONGEST_WORK = 3600.0
# What a value's name does not say by itself.
HINTS = {
    "lying": "lying (before the end the opposite of the truth, to the right URL and rightly signed; then the truth)"
}

BRACKETS = re.compile(r"\[sandbox:([^\]]*)(\]?)")
SECONDS = re.compile(r"[0-9]{1,4}(\.[0-9]{1,9})?")


class CallbackKnob(StrEnum):
    """What goes wrong with the callback."""

    DROP = "drop"
    TWICE = "twice"
    EARLY = "early"
    LATE = "late"
    FORGED = "forged"
    FOREIGN = "foreign"
    UNREADABLE = "unreadable"
    LYING = "lying"


class SubmitKnob(StrEnum):
    """What goes wrong with the create request."""

    REFUSE = "refuse"
    BUSY = "busy"
    BREAK = "break"
    MUTE = "mute"


class StatusKnob(StrEnum):
    """What goes wrong with every status request."""

    FAIL = "fail"


class ResultKnob(StrEnum):
    """How the work ends, if not well."""

    FAIL = "fail"


CHOICES: Mapping[str, type[StrEnum]] = {
    "callback": CallbackKnob,
    "submit": SubmitKnob,
    "status": StatusKnob,
    "result": ResultKnob,
}


@dataclass(frozen=True, slots=True)
class Knobs:
    """What one prompt orders; a knob that is not set (None) means that all goes well there.

    `after` is the time in seconds from the purchase to the end of the work.
    """

    callback: CallbackKnob | None = None
    submit: SubmitKnob | None = None
    status: StatusKnob | None = None
    result: ResultKnob | None = None
    after: float = 3.0

    @classmethod
    def parse(cls, prompt: str) -> Self:
        """Read the knobs out of a prompt; one without brackets orders nothing unusual.

        Raises ValueError, naming what is allowed, for an unknown or repeated knob, a wrong value, or an open bracket.
        """
        turned: dict[str, Any] = {}
        for inside, closing in BRACKETS.findall(prompt):
            if not closing:
                raise ValueError("The sandbox knobs are not closed: write them as [sandbox: after=3]")
            for word in inside.split():
                name, _, value = word.partition("=")
                if name in turned:
                    raise ValueError(f"The sandbox knob {name!r} is given twice")
                turned[name] = _read(name, value)
        return cls(**turned)


def _read(name: str, value: str) -> StrEnum | float:
    if name == "after":
        return _seconds(value)
    if name not in CHOICES:
        raise ValueError(f"Unknown sandbox knob {name!r}; allowed are {', '.join(CHOICES)}, after")
    choices = [choice.value for choice in CHOICES[name]]
    if value not in choices:
        allowed = ", ".join(HINTS.get(choice, choice) for choice in choices)
        raise ValueError(f"The sandbox knob {name!r} cannot be {value!r}; allowed are {allowed}")
    return CHOICES[name](value)


def _seconds(value: str) -> float:
    if SECONDS.fullmatch(value) is None or float(value) > LONGEST_WORK:
        raise ValueError(
            f"The sandbox knob 'after' cannot be {value!r}; allowed are seconds from 0 to {LONGEST_WORK:g}"
        )
    return float(value)
