"""When a task is due next, and why: first checks, growing pauses with jitter, deadlines, the late watch. Pure.

Every change of a task asks it. Times are Unix milliseconds, settings and pauses are in seconds. What was measured of
the task's model decides as soon as there is enough of it; the settings are bounds, and count alone until then.
"""

import math
from dataclasses import dataclass

from receiver.config.settings import Settings
from receiver.core.measured import Measured
from receiver.core.times import format_duration
from receiver.store.task_row import TaskChanges

POLL_AFTER = 30.0
"""Seconds to the first check where neither the settings nor the provider's documents say."""
CALLBACK_GRACE = 300.0
"""Seconds to the first check of a task with a callback URL, where nothing is set."""
POLL_EVERY = 10.0
POLL_MAX = 120.0
GROWTH = 1.6
JITTER = 0.2
"""Gaps vary by this share, up and down, so that tasks of one moment do not stay in step."""

REQUEST_PRICE = 4.0
"""Seconds that a result may be expected to wait before a status request is worth it."""
SHORTEST_PAUSE = 5.0
"""Seconds between two checks that follow measured times, where `RECEIVER_POLL_EVERY` is not set."""
USUAL, SLOW = 0.5, 0.95
"""Shares of a model's tasks that ended by its usual time, and by the time after which a task is slow."""
CALLBACK_MARGIN = 15.0
"""Seconds that a callback may take, beyond a quarter of the time of a slow task."""
AGE_SHARE = 0.25
"""Longest pause of a slow task, as a share of its age."""
LATE_SHARE = 0.25
"""Pause in the late watch, as a share of the time since the task expired."""
LATE_MAX = 3600.0


LAST_TIME = "Its deadline: it is checked for the last time, and expires without a result."


def delay(gaps: int, first: float, longest: float, chance: float) -> float:
    """Return the pause before the next request in seconds.

    `gaps` counts the pauses so far, `chance` is a random number from 0 to 1. The first pause is `first`, each later
    one longer, none above `longest` (before jitter).
    """
    grown = first * GROWTH ** min(gaps, 60)
    return min(grown, max(longest, first)) * _jitter(chance)


@dataclass(frozen=True, slots=True)
class Plan:
    """When a task is due next, and why, in a sentence."""

    at: int
    because: str

    @classmethod
    def of(cls, at: int | None, because: str | None) -> "Plan | None":
        """Return what two columns hold, if anything; a plan of an earlier release has no reason."""
        return None if at is None else cls(at, because or "It was planned by an earlier release.")

    def or_earlier(self, other: "Plan | None") -> "Plan":
        """Return the earlier of two plans."""
        return self if other is None or self.at <= other.at else other

    def changes(self) -> TaskChanges:
        """Return the change that plans this."""
        return {"next_check_at": self.at, "next_check_because": self.because}


@dataclass(frozen=True, slots=True)
class Checked:
    """What the last check of a task brought: no usable answer, or a success without its result. `retry_after` are the
    seconds that the provider asked to wait; `awaits_callback`: the task has a callback URL."""

    failed: bool = False
    empty: bool = False
    awaits_callback: bool = False
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """The pauses of one provider account, in seconds; None where nothing is set. `advice` is the provider's own, for
    the first check."""

    poll_after: float | None
    callback_grace: float | None
    poll_every: float | None
    poll_max: float | None
    deadline: float
    late_watch: float = 0.0
    advice: float | None = None

    @classmethod
    def of(cls, settings: Settings, advice: float | None) -> "Schedule":
        """Return the schedule of these settings, with the provider's advice on the first check where none is set."""
        given = settings.given
        return cls(
            poll_after=settings.poll_after,
            callback_grace=settings.callback_grace if "callback_grace" in given else None,
            poll_every=settings.poll_every if "poll_every" in given else None,
            poll_max=settings.poll_max if "poll_max" in given else None,
            deadline=settings.deadline,
            late_watch=settings.late_watch,
            advice=advice,
        )

    # --- checks

    def first_check(self, since: int, departed: int, measured: Measured, *, callback: bool) -> Plan:
        """Return the first check of a task that was taken.

        A measured pause counts from the departure of its order, any other from `since`: then, or when the task was
        taken up later.
        """
        age = max(since - departed, 0) / 1000 if measured.is_enough else 0.0
        pause, because = self.first_pause(measured, callback=callback, age=age)
        begins = departed if measured.is_enough else since
        return _by(self.due(departed), Plan(max(begins + _ms(pause), since), because))

    def first_pause(self, measured: Measured, *, callback: bool, age: float = 0.0) -> tuple[float, str]:
        """Return the seconds from its departure to the first check of a model's task that has this age, and why."""
        if not measured.is_enough:
            return self._unmeasured(callback=callback)
        usual = _show(measured.quantile(USUAL))
        expects = callback and not measured.misses_callbacks
        first = _fallback(measured) if expects else max(measured.pause(0.0, REQUEST_PRICE), SHORTEST_PAUSE)
        if age >= first:
            first = age + self._measured_pause(age, measured, Checked(awaits_callback=callback))
        wait, setting = self._at_most(first, callback=callback)
        if expects:
            words = f"Callbacks of this model usually arrive after {usual}; checked at {_show(wait)}"
            return wait, f"{words}{setting} if none has come."
        words = f"Tasks of this model usually end after {usual}; checked from {_show(wait)} on{setting}."
        if callback:
            came = f"{measured.arrived} of the latest {measured.awaited}"
            words = f"Only {came} callbacks of this model came. {words}"
        return wait, words

    def _at_most(self, seconds: float, *, callback: bool) -> tuple[float, str]:
        """Return the seconds within the setting for such tasks, and its name where it cut them."""
        limit = self.callback_grace if callback else self.poll_after
        if limit is None or seconds <= limit:
            return seconds, ""
        return limit, " (RECEIVER_CALLBACK_GRACE)" if callback else " (RECEIVER_POLL_AFTER)"

    def _unmeasured(self, *, callback: bool) -> tuple[float, str]:
        if callback:
            grace = CALLBACK_GRACE if self.callback_grace is None else self.callback_grace
            return grace, f"Its callback is awaited; checked after {_show(grace)} if none has come."
        if self.poll_after is not None:
            return self.poll_after, f"First checked after {_show(self.poll_after)} (RECEIVER_POLL_AFTER)."
        if self.advice:
            return self.advice, f"The provider advises a first check after {_show(self.advice)}."
        return POLL_AFTER, f"First checked after {_show(POLL_AFTER)}; too few tasks of this model were measured yet."

    def next_check(
        self, now: int, departed: int, until: int, *, measured: Measured, checked: Checked, gaps: int, chance: float
    ) -> Plan:
        """Return the next check of a task after one that did not end it, at the latest at `until`."""
        if checked.retry_after is not None:
            pause, because = checked.retry_after, f"The provider asked to wait {_show(checked.retry_after)}."
        elif self.grows(measured, checked):
            pause, because = self.growing_pause(gaps, chance), _again(checked, self.growing_pause(gaps))
        else:
            steady = self._measured_pause(max(now - departed, 0) / 1000, measured, checked)
            usual = f"Tasks of this model usually end after {_show(measured.quantile(USUAL))}."
            pause, because = steady * _jitter(chance), f"{_again(checked, steady)} {usual}"
        return _by(until, Plan(now + _ms(pause), because))

    def grows(self, measured: Measured, checked: Checked) -> bool:
        """Return whether the pause after this check counts for the growth of the next ones."""
        return checked.failed or checked.empty or not measured.is_enough

    def _measured_pause(self, age: float, measured: Measured, checked: Checked) -> float:
        """Return the seconds until the next check of a task of this age, before jitter."""
        shortest = SHORTEST_PAUSE if self.poll_every is None else self.poll_every
        longest = max(POLL_MAX if self.poll_max is None else self.poll_max, shortest)
        slow = AGE_SHARE * max(age, measured.quantile(SLOW))
        if checked.awaits_callback and not measured.misses_callbacks:
            return min(max(_fallback(measured) - age, slow, shortest), longest)
        return min(max(min(measured.pause(age, REQUEST_PRICE), slow), shortest), longest)

    # --- attempts

    def next_try(
        self, now: int, departed: int, gaps: int, chance: float, asked: float | None = None, *, why: str
    ) -> Plan:
        """Return the next request of a queued task: after `asked` seconds where they are known, else a gap."""
        pause = self.growing_pause(gaps, chance) if asked is None else asked
        words = f"about {_show(self.growing_pause(gaps))}" if asked is None else _show(asked)
        return _by(self.due(departed), Plan(now + _ms(pause), f"{why}; tried again after {words}."))

    def growing_pause(self, gaps: int, chance: float = 0.5) -> float:
        """Return the seconds until the next request where nothing else is known than how often it grew."""
        first = POLL_EVERY if self.poll_every is None else self.poll_every
        return delay(gaps, first, POLL_MAX if self.poll_max is None else self.poll_max, chance)

    # --- the end

    def due(self, departed: int) -> int:
        """Return the deadline of a task whose last try departed then (for a queued one: that was created then)."""
        return departed + _ms(self.deadline)

    def watched_until(self, ended: int) -> int:
        """Return when the late watch of a task ends that expired at a time."""
        return ended + _ms(self.late_watch)

    def late_check(self, now: int, ended: int, chance: float, retry_after: float | None = None) -> Plan:
        """Return the next check of a task whose time was over at `ended`; the pauses grow with the time since."""
        longest = max(min(LATE_SHARE * (now - ended) / 1000, LATE_MAX), POLL_MAX)
        pause = max(longest * _jitter(chance), retry_after or 0.0)
        at, until = now + _ms(pause), self.watched_until(ended)
        words = "Its time is over, but a late result still counts: it is checked in growing pauses"
        return Plan(min(at, until), f"{words} for {_show(self.late_watch)}.")


def _by(due: int, plan: Plan) -> Plan:
    """Put a plan off no further than the deadline."""
    return plan if plan.at < due else Plan(due, LAST_TIME)


def _fallback(measured: Measured) -> float:
    """Return the age at which a callback that usually comes is missed.

    Some slow tasks must not delay the others: where they are few, twice the usual time is enough.
    """
    slow = measured.quantile(SLOW) * (1 + AGE_SHARE) + CALLBACK_MARGIN
    return min(slow, max(2 * measured.quantile(USUAL), CALLBACK_GRACE))


def _again(checked: Checked, pause: float) -> str:
    """Return what the last check brought, and after which pause the next one comes, before jitter."""
    words = "It was still under way"
    if checked.failed:
        words = "The last check brought no usable answer"
    elif checked.empty:
        words = "The provider says that it is done, but its result is missing"
    return f"{words}; checked again after about {_show(pause)}."


def _jitter(chance: float) -> float:
    return 1 - JITTER + 2 * JITTER * chance


def _show(seconds: float) -> str:
    return format_duration(math.ceil(seconds) * 1000)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
