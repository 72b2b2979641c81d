"""When a task is due next: backoff with jitter, first checks, deadlines. Pure.

Every change of a task asks it. Times are Unix milliseconds, settings are in seconds.
"""

from dataclasses import dataclass

from receiver.config.settings import Settings

POLL_AFTER = 30.0
"""Seconds to the first check where neither the settings nor the provider's documents say."""
GROWTH = 1.6
JITTER = 0.2
"""Gaps vary by this share, up and down, so that tasks of one moment do not stay in step."""


def delay(gaps: int, first: float, longest: float, chance: float) -> float:
    """Return the pause before the next request in seconds.

    `gaps` counts the pauses so far, `chance` is a random number from 0 to 1. The first pause is `first`, each later
    one longer, none above `longest` (before jitter).
    """
    grown = first * GROWTH ** min(gaps, 60)
    return min(grown, max(longest, first)) * (1 - JITTER + 2 * JITTER * chance)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The pauses of one provider account, in seconds."""

    poll_after: float
    callback_grace: float
    poll_every: float
    poll_max: float
    deadline: float

    @classmethod
    def of(cls, settings: Settings, advice: float | None) -> "Schedule":
        """Return the schedule of these settings, with the provider's advice on the first check where none is set."""
        return cls(
            poll_after=advice or POLL_AFTER if settings.poll_after is None else settings.poll_after,
            callback_grace=settings.callback_grace,
            poll_every=settings.poll_every,
            poll_max=settings.poll_max,
            deadline=settings.deadline,
        )

    def first_check(self, since: int, departed: int, *, callback: bool) -> int:
        """Return the time of the first check of a task that was taken: the pause counts from `since`."""
        pause = self.callback_grace if callback else self.poll_after
        return self.no_later_than_deadline(since + _ms(pause), departed)

    def next_try(self, now: int, departed: int, gaps: int, chance: float, asked: float | None = None) -> int:
        """Return the time of the next request: after `asked` seconds where the provider named them, else a gap."""
        return self.no_later_than_deadline(now + self.pause(gaps, chance, asked), departed)

    def pause(self, gaps: int, chance: float, asked: float | None = None) -> int:
        """Return the milliseconds until the next request: `asked` seconds where the provider named them, else a gap."""
        return _ms(delay(gaps, self.poll_every, self.poll_max, chance) if asked is None else asked)

    def due(self, departed: int) -> int:
        """Return the deadline of a task whose last try departed then (for a queued one: that was created then)."""
        return departed + _ms(self.deadline)

    def no_later_than_deadline(self, at: int, departed: int) -> int:
        """Put a time off no further than the deadline."""
        return min(at, self.due(departed))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
