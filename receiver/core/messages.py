"""The frozen values that cross the boundary between us and a provider. Pure.

Providers make and read them; nobody else needs to know a provider's own words.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from receiver.core.states import State, Via


@dataclass(frozen=True, slots=True)
class Order:
    """What a caller asked for: `input` is flat and as the caller gave it.

    `complete` says that the model's rules are known and were applied, so that documented defaults may be filled in.
    """

    task_id: str
    model: str
    input: Mapping[str, Any]
    complete: bool


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
    """Why a task failed: the provider's code and words, or ours."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Event:
    """What an answer, a callback or a check says about a task, in our words.

    `state` is one of submitted, running, succeeded, failed, or None where the message names a task but tells no
    state. `progress` is 0 to 1. Credits are in the provider's own unit. `ended_at` is the provider's own time of the
    end in Unix milliseconds. `found_at` tells where in the message the result stood, where that was searched for.
    Whatever the message does not tell is None or empty.
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
    def empty(self) -> bool:
        """Tell whether this is a success that brings nothing to show for it."""
        return self.state is State.SUCCEEDED and not self.outputs and self.result is None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What `verify` found: None where no signature scheme is configured, else what the valid signature covers."""

    signature: Literal["body", "id"] | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Where an event comes from.

    `believed` is false for weak evidence: a final state is then kept aside until the provider confirms it. `token`
    says that it came to the task's own callback URL, `signature` what a valid signature covered.
    """

    via: Via
    believed: bool = True
    token: bool = False
    signature: str | None = None
    claim: int | None = None
    """The task's claim under which a check was made: what came while it was under way is not answered by it."""


class Outcome(StrEnum):
    """What became of a piece of news."""

    APPLIED = "applied"  # it moved the task, or told newer progress in the same state
    REPEATED = "repeated"
    LATE = "late"  # older news than we have
    CONFIRMING = "confirming"  # weak evidence: the provider is asked at once
    HELD = "held"  # for an id that no task has yet
    UNMATCHED = "unmatched"  # it names another task
    UNREADABLE = "unreadable"
    FORGED = "forged"
