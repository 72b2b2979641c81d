"""How far the work on a purchase is at a given moment.

Status answers and callbacks are both made from this one truth, so that they can only disagree where a knob says so.
Pure: it is told the time and never reads it.
"""

from dataclasses import dataclass
from enum import StrEnum

from receiver.sandbox.knobs import CallbackKnob, Knobs, ResultKnob


class Phase(StrEnum):
    """The sandbox's own words; each family has its own for the wire."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Truth:
    """The state of the work; times are epoch seconds and None while not reached, `share` is what is done (0 to 1)."""

    phase: Phase
    started_at: float | None = None
    finished_at: float | None = None
    share: float = 0.0


def start_of(bought_at: float, knobs: Knobs) -> float:
    """When the work begins: after a third of the ordered time."""
    return bought_at + _duration(knobs) / 3


def end_of(bought_at: float, knobs: Knobs) -> float:
    """When the work is finished."""
    return bought_at + _duration(knobs)


def truth_at(bought_at: float, knobs: Knobs, now: float) -> Truth:
    """The truth about work that was bought at `bought_at` as it is at `now`, both in epoch seconds."""
    start, end = start_of(bought_at, knobs), end_of(bought_at, knobs)
    if now >= end:
        phase = Phase.FAILED if knobs.result is ResultKnob.FAIL else Phase.SUCCEEDED
        return Truth(phase, started_at=start, finished_at=end, share=1.0)
    if now >= start:
        return Truth(Phase.RUNNING, started_at=start, share=(now - bought_at) / (end - bought_at))
    return Truth(Phase.WAITING, share=(now - bought_at) / (end - bought_at))


def _duration(knobs: Knobs) -> float:
    """An early callback tells of the end before the create request is answered, so the work must be done by then."""
    return 0.0 if knobs.callback is CallbackKnob.EARLY else knobs.after
