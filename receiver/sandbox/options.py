"""The options that a prompt may contain, such as `[sandbox: callback=late result=fail after=0.5]`.

`handlers` parses them, `plan` and `progress` obey them. Pure.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

MAX_WORK_SECONDS = 3600.0
# Explanations of values whose name is not enough.
HINTS = {
    "lying": "lying (first the opposite of the true result, validly signed and to the right URL; then the true one)"
}

BRACKETS = re.compile(r"\[sandbox:([^\]]*)(\]?)")
SECONDS = re.compile(r"[0-9]{1,4}(\.[0-9]{1,9})?")


class CallbackFault(StrEnum):
    """What goes wrong with the callback."""

    DROP = "drop"
    TWICE = "twice"
    EARLY = "early"
    LATE = "late"
    FORGED = "forged"
    FOREIGN = "foreign"
    UNREADABLE = "unreadable"
    LYING = "lying"


class SubmitFault(StrEnum):
    """What goes wrong with the create request."""

    REFUSE = "refuse"
    BUSY = "busy"
    BREAK = "break"
    MUTE = "mute"


class StatusFault(StrEnum):
    """What goes wrong with every status request."""

    FAIL = "fail"


class ResultFault(StrEnum):
    """How the work fails."""

    FAIL = "fail"


CHOICES: Mapping[str, type[StrEnum]] = {
    "callback": CallbackFault,
    "submit": SubmitFault,
    "status": StatusFault,
    "result": ResultFault,
}


@dataclass(frozen=True, slots=True)
class Options:
    """The options in one prompt; None means that nothing goes wrong there.

    `after` is the time in seconds from the purchase to the end of the work.
    """

    callback: CallbackFault | None = None
    submit: SubmitFault | None = None
    status: StatusFault | None = None
    result: ResultFault | None = None
    after: float = 3.0

    @classmethod
    def parse(cls, prompt: str) -> Self:
        """Return the options in a prompt.

        Raises ValueError, naming what is allowed, for an unknown or repeated option, a wrong value, or an open bracket.
        """
        turned: dict[str, Any] = {}
        for inside, closing in BRACKETS.findall(prompt):
            if not closing:
                raise ValueError("The sandbox options are not closed; write them as [sandbox: after=3]")
            for word in inside.split():
                name, _, value = word.partition("=")
                if name in turned:
                    raise ValueError(f"The sandbox option {name!r} is given twice")
                turned[name] = _read(name, value)
        return cls(**turned)


def _read(name: str, value: str) -> StrEnum | float:
    if name == "after":
        return _seconds(value)
    if name not in CHOICES:
        raise ValueError(f"Unknown sandbox option {name!r}; allowed are {', '.join(CHOICES)}, after")
    choices = [choice.value for choice in CHOICES[name]]
    if value not in choices:
        allowed = ", ".join(HINTS.get(choice, choice) for choice in choices)
        raise ValueError(f"The sandbox option {name!r} cannot be {value!r}; allowed are {allowed}")
    return CHOICES[name](value)


def _seconds(value: str) -> float:
    if SECONDS.fullmatch(value) is None or float(value) > MAX_WORK_SECONDS:
        raise ValueError(
            f"The sandbox option 'after' cannot be {value!r}; allowed are seconds from 0 to {MAX_WORK_SECONDS:g}"
        )
    return float(value)
