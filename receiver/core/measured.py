"""What was measured of one model at one account: how long its tasks take, and whether their callbacks come. Pure.

`store.measured` keeps it, `lifecycle.schedule` plans with it. Newer tasks count for more: whenever the weights reach
their bound, all are halved, so that what happens now is found out within some tasks. Ages are seconds since the
departure of a task's order.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

BUCKETS_PER_DOUBLING = 4
LAST_BUCKET = 80
"""Beyond it lie 12 days, longer than any task is followed."""
TASK_WEIGHT = 16
"""Weight of one task when it is added: it can be halved four times before it is forgotten."""
ENOUGH_TASKS = 20
"""Tasks after which the measured times count."""
REMEMBERED_TASKS = 64
"""Tasks whose weights are kept at most, before all are halved."""
ENOUGH_CALLBACKS = 8
REMEMBERED_CALLBACKS = 16
RELIABLE_SHARE = 0.8
"""Callbacks are waited for if at least this share of the latest ones came."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The times of a model's latest tasks as weights by bucket, and of its latest callbacks how many were awaited and
    how many of them brought the end of their task themselves."""

    times: Mapping[int, int] = field(default_factory=dict)
    awaited: int = 0
    arrived: int = 0

    @property
    def tasks(self) -> int:
        """Return of how many tasks the times are remembered."""
        return sum(self.times.values()) // TASK_WEIGHT

    @property
    def is_enough(self) -> bool:
        """Return whether enough tasks were measured for their times to count."""
        return self.tasks >= ENOUGH_TASKS

    @property
    def misses_callbacks(self) -> bool:
        """Return whether too many of the latest callbacks did not come to be waited for."""
        return self.awaited >= ENOUGH_CALLBACKS and self.arrived < RELIABLE_SHARE * self.awaited

    def add(self, seconds: float, *, awaited: bool, arrived: bool) -> "Measured":
        """Return this with one more task that ended after so many seconds. `awaited`: it had a callback URL;
        `arrived`: its callback came before it was found out by a check."""
        times = dict(self.times)
        bucket = bucket_of(seconds)
        times[bucket] = times.get(bucket, 0) + TASK_WEIGHT
        if sum(times.values()) > REMEMBERED_TASKS * TASK_WEIGHT:
            times = {each: weight // 2 for each, weight in times.items() if weight > 1}
        callbacks = (self.awaited + awaited, self.arrived + (awaited and arrived))
        if callbacks[0] > REMEMBERED_CALLBACKS:
            callbacks = (callbacks[0] // 2, callbacks[1] // 2)
        return Measured(times, *callbacks)

    def quantile(self, share: float) -> float:
        """Return the age by which this share of the tasks had ended; 0 where none was measured."""
        wanted = share * sum(self.times.values())
        for start, end, weight in self._pieces():
            if wanted <= weight:
                return start + (end - start) * wanted / weight
            wanted -= weight
        return 0.0

    def pause(self, age: float, price: float) -> float:
        """Return the seconds after this age at which waiting longer costs more than asking: infinite if never.

        From the tasks that took longer than `age` follows how likely the task has ended unnoticed by each later time.
        Added up, that is how long its result is expected to have waited; a request is worth `price` seconds of that.
        """
        pieces = [(max(start, age), end, weight, start) for start, end, weight in self._pieces() if end > age]
        parts = [(start, end, weight * (end - start) / (end - whole)) for start, end, weight, whole in pieces]
        # One task more that never ends: from few tasks nobody can tell that all have ended.
        left = price * (sum(weight for _, _, weight in parts) + TASK_WEIGHT)
        at, ended = age, 0.0
        for start, end, weight in parts:
            if ended * (start - at) >= left:
                break
            left -= ended * (start - at)
            at, length = start, end - start
            if (ended + weight / 2) * length >= left:
                rate = weight / length
                return at + (math.sqrt(ended**2 + 2 * rate * left) - ended) / rate - age
            left -= (ended + weight / 2) * length
            at, ended = end, ended + weight
        return at + left / ended - age if ended else math.inf

    def _pieces(self) -> Iterator[tuple[float, float, int]]:
        """Yield the beginning, the end and the weight of each bucket, in order."""
        for bucket in sorted(self.times):
            start = 0.0 if bucket == 0 else _edge(bucket)
            yield start, _edge(bucket + 1), self.times[bucket]


def bucket_of(seconds: float) -> int:
    """Return the bucket of a time: all up to a second share the first one, then each is a fifth longer."""
    if seconds <= 1:
        return 0
    return min(int(math.log2(seconds) * BUCKETS_PER_DOUBLING), LAST_BUCKET)


def _edge(bucket: int) -> float:
    return float(2 ** (bucket / BUCKETS_PER_DOUBLING))
