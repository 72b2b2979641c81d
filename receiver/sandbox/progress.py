"""How far the work on a purchase is at a given time.

Status answers and callbacks are both made from it, so that they disagree only where an option says so. Pure.
"""

from dataclasses import dataclass
from enum import StrEnum

from receiver.sandbox.options import CallbackFault, Options, ResultFault


class Phase(StrEnum):
    """The sandbox's own words; each family has its own for the wire."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of the work; times are epoch seconds or None, `share` is what is done (0 to 1)."""

    phase: Phase
    started_at: float | None = None
    finished_at: float | None = None
    share: float = 0.0


def start_of(bought_at: float, options: Options) -> float:
    """Return when the work begins: after a third of the whole time."""
    return bought_at + _duration(options) / 3


def end_of(bought_at: float, options: Options) -> float:
    """Return when the work is finished."""
    return bought_at + _duration(options)


def progress_at(bought_at: float, options: Options, now: float) -> Progress:
    """Return the progress at `now` of work that was bought at `bought_at`, both in epoch seconds."""
    start, end = start_of(bought_at, options), end_of(bought_at, options)
    if now >= end:
        phase = Phase.FAILED if options.result is ResultFault.FAIL else Phase.SUCCEEDED
        return Progress(phase, started_at=start, finished_at=end, share=1.0)
    if now >= start:
        return Progress(Phase.RUNNING, started_at=start, share=(now - bought_at) / (end - bought_at))
    return Progress(Phase.WAITING, share=(now - bought_at) / (end - bought_at))


def _duration(options: Options) -> float:
    """Return how long the work takes; with an early callback, it must be done before the submission is answered."""
    return 0.0 if options.callback is CallbackFault.EARLY else options.after
