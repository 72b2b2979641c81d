"""The immutable values that pass between the providers' adapters and the rest of the service. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from receiver.core.states import State, Via


@dataclass(frozen=True, slots=True)
class Order:
    """An order, with `input` as the caller gave it.

    With `fill_defaults`, the input was validated against the model, so documented defaults may be filled in.
    """

    task_id: str
    model: str
    input: Mapping[str, Any]
    fill_defaults: bool


@dataclass(frozen=True, slots=True)
class Remote:
    """What a status request needs to know about a task."""

    remote_id: str
    model: str


@dataclass(frozen=True, slots=True)
class Callback:
    """One POST from a provider: header names in lower case, the body's raw bytes, the time in Unix milliseconds."""

    headers: Mapping[str, str]
    body: bytes
    received_at: int


@dataclass(frozen=True, slots=True)
class Output:
    """One produced file. `kind` is `video`, `image`, `audio` or `file`."""

    url: str
    kind: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a task failed: a code and a message, the provider's or ours."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Event:
    """What an answer, a callback or a check says about a task, in our terms.

    `state` is submitted, running, succeeded, failed, or None if the message has no state. `progress` is 0 to 1.
    Credits are in the provider's own unit. `ended_at` is when it ended by the provider's clock, in Unix milliseconds.
    `found_at` is where the result was found, if it had to be searched for. What the message lacks is None or empty.
    """

    state: State | None
    remote_id: str | None = None
    remote_state: str | None = None
    progress: float | None = None
    outputs: tuple[Output, ...] = ()
    result: Any = None
    error: Problem | None = None
    reserved: float | None = None
    charged: float | None = None
    ended_at: int | None = None
    found_at: str | None = None
    notices: tuple[str, ...] = field(default=())

    @property
    def is_empty_success(self) -> bool:
        """Return whether this is a success without a result."""
        return self.state is State.SUCCEEDED and not self.outputs and self.result is None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a valid signature covers; None if no signature scheme is configured."""

    signature: Literal["body", "id"] | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Where an event comes from.

    With weak evidence it is not `trusted`: a final event is then pending until the provider confirms it. `token` says
    that it came to the task's own callback URL, `signature` what a valid signature covers.
    """

    via: Via
    trusted: bool = True
    token: bool = False
    signature: str | None = None
    claim: int | None = None
    """The claim under which a check was made. It does not confirm what arrived while it was under way."""
    heard_at: int | None = None
    """When it came (Unix milliseconds), where that was not just now."""


class Outcome(StrEnum):
    """What became of a callback or an answer."""

    APPLIED = "applied"  # it changed the state, or reported newer progress
    REPEATED = "repeated"
    LATE = "late"  # older than what we know
    CONFIRMING = "confirming"  # weak evidence: the provider is checked at once
    HELD = "held"  # for a remote id that no task has yet
    UNMATCHED = "unmatched"  # it names another task
    UNREADABLE = "unreadable"
    FORGED = "forged"
