"""What knowing a model's usual times saves: status requests for each task, and the delay until its result is known.

A simulation on a clock of its own, the same in each run: it lets traffic of several kinds through the rules that plan
checks (`lifecycle.schedule`), with what they measured so far, beside a check every ten seconds and beside the rule that
measures nothing. `python -m tests.bench.polling` prints the table of `docs/concepts/polling.md`.
"""

import argparse
import heapq
import itertools
import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from receiver.core.measured import ENOUGH_TASKS, Measured
from receiver.lifecycle.measuring import ended_at
from receiver.lifecycle.schedule import Checked, Schedule

SEED = 20261120
TASKS = 400
"""Tasks of each model in each kind of traffic."""
USUAL = {"image": 18.0, "sora-2": 95.0, "sora-2-text-to-video": 185.0, "long video": 420.0}
"""Seconds that tasks of each model usually take; 95 and 185 are those of recorded messages."""
SPREAD = 0.25
"""Standard deviation of the logarithm of these times."""
UNTOLD = {"image", "long video"}
"""Models whose messages do not tell when the task ended."""
BETWEEN = 60.0
"""Seconds between two orders of a model."""
HOUR = 3600.0
DOWN = (3 * HOUR, 4 * HOUR)
FIXED = 10.0


@dataclass(frozen=True)
class Traffic:
    """One kind of traffic: with callback URLs or without, which share of the callbacks comes, and how late."""

    name: str
    share: float = 1.0
    late: float = 0.0
    has_url: bool = True
    down: tuple[float, float] | None = None


KINDS = (
    Traffic("all callbacks come"),
    Traffic("no callback comes", share=0.0),
    Traffic("half of them come", share=0.5),
    Traffic("they come 10 minutes late", late=600.0),
    Traffic("the provider is down for an hour", down=DOWN),
    Traffic("no callback URL", share=0.0, has_url=False),
)


@dataclass(eq=False)
class Task:
    """One task: when it leaves, ends and is called back (virtual milliseconds), and what was found out of it."""

    model: str
    number: int
    departed: int
    ended: int
    called_back: int | None
    gaps: int = 0
    asked: int = 0
    last: int | None = None
    """When it was last asked about with an answer."""
    failed: bool = False
    """The last check got no answer."""
    known: int | None = None


@dataclass
class Rule:
    """How checks are planned. `first` and `following` return virtual milliseconds."""

    name: str
    first: Callable[[Task, Traffic, Measured], int]
    following: Callable[[int, Task, Traffic, Measured, float], int]
    measured: dict[str, Measured] = field(default_factory=dict)


def schedule() -> Schedule:
    """Return the schedule of an account where nothing is set."""
    return Schedule(None, None, None, None, deadline=12 * HOUR)


def every_ten_seconds() -> Rule:
    """Return the rule that asks every ten seconds from the departure on."""
    return Rule(
        "every 10 s",
        lambda task, _traffic, _known: task.departed + _ms(FIXED),
        lambda now, _task, _traffic, _known, _chance: now + _ms(FIXED),
    )


def knowing() -> Rule:
    """Return the rule of the service."""
    plans = schedule()

    def first(task: Task, traffic: Traffic, known: Measured) -> int:
        return plans.first_check(task.departed, task.departed, known, callback=traffic.has_url).at

    def following(now: int, task: Task, traffic: Traffic, known: Measured, chance: float) -> int:
        checked = Checked(failed=task.failed, awaits_callback=traffic.has_url)
        due = plans.due(task.departed)
        plan = plans.next_check(now, task.departed, due, measured=known, checked=checked, gaps=task.gaps, chance=chance)
        task.gaps = task.gaps + 1 if plans.grows(known, checked) else 0
        return plan.at

    return Rule("knowing", first, following)


def without_measuring() -> Rule:
    """Return the rule of the service as it is while nothing is measured, which was its rule for all tasks before."""
    rule, nothing = knowing(), Measured()
    return Rule(
        "unmeasured",
        lambda task, traffic, _known: rule.first(task, traffic, nothing),
        lambda now, task, traffic, _known, chance: rule.following(now, task, traffic, nothing, chance),
    )


RULES = (every_ten_seconds, without_measuring, knowing)


def tasks_of(traffic: Traffic, number: int) -> list[Task]:
    """Return the tasks of one kind of traffic, the same for each rule."""
    chance = random.Random(f"{SEED} {traffic.name}")  # noqa: S311 - no secret
    made = []
    for model, usual in USUAL.items():
        at = 0.0
        for position in range(number):
            at += chance.expovariate(1 / BETWEEN)
            if traffic.down is not None and traffic.down[0] <= at < traffic.down[1]:
                at += traffic.down[1] - traffic.down[0]  # nobody takes orders
            ended = at + chance.lognormvariate(math.log(usual), SPREAD)
            called = ended + traffic.late + chance.uniform(0.2, 2.0)
            comes = chance.random() < traffic.share and not _is_down(traffic, called)
            made.append(Task(model, position, _ms(at), _ms(ended), _ms(called) if comes else None))
    return made


def run(traffic: Traffic, rule: Rule, number: int) -> list[Task]:
    """Let the traffic pass under a rule; returns its tasks with what was found out."""
    chance = random.Random(f"{SEED} pauses")  # noqa: S311 - no secret
    order = itertools.count()
    events: list[tuple[int, int, str, Task]] = []

    def happens(at: int, what: str, task: Task) -> None:
        heapq.heappush(events, (at, next(order), what, task))

    tasks = tasks_of(traffic, number)
    for task in tasks:
        happens(task.departed, "departs", task)
        if task.called_back is not None:
            happens(task.called_back, "is called back", task)
    while events:
        now, _, what, task = heapq.heappop(events)
        known = rule.measured.get(task.model, Measured())
        if task.known is not None:
            continue
        if what == "departs":
            happens(rule.first(task, traffic, known), "is checked", task)
        elif what == "is called back":
            learn(rule, traffic, task, now, arrived=True)
        else:
            task.asked += 1
            is_down = _is_down(traffic, now / 1000)
            if not is_down and now >= task.ended:
                learn(rule, traffic, task, now, arrived=False)
                continue
            task.failed = is_down
            if not is_down:
                task.last = now
            happens(rule.following(now, task, traffic, known, chance.random()), "is checked", task)
    return tasks


def learn(rule: Rule, traffic: Traffic, task: Task, now: int, *, arrived: bool) -> None:
    """Note that a task's end is known, and measure it as `lifecycle.measuring` does."""
    task.known = now
    if not arrived and task.failed:
        return
    told = None if task.model in UNTOLD else task.ended
    earliest = task.departed if arrived or task.last is None else task.last
    seconds = (ended_at(told, earliest, now, arrived=arrived) - task.departed) / 1000
    known = rule.measured.get(task.model, Measured())
    rule.measured[task.model] = known.add(seconds, awaited=traffic.has_url, arrived=arrived)


@dataclass(frozen=True)
class Figures:
    """Status requests for each task, and seconds from its end until that was known."""

    requests: float
    median: float
    p95: float


def figures(tasks: Sequence[Task]) -> Figures:
    """Return the figures of tasks that came after their model was measured, the same ones under each rule."""
    counted = [task for task in tasks if task.number >= ENOUGH_TASKS]
    delays = sorted((task.known - task.ended) / 1000 for task in counted if task.known is not None)
    requests = statistics.mean(task.asked for task in counted)
    return Figures(requests, statistics.median(delays), delays[int(0.95 * len(delays))])


def measure(number: int) -> Iterator[tuple[str, list[Figures]]]:
    """Yield each kind of traffic with its figures under each rule, then all of them together."""
    together: list[list[Task]] = [[] for _ in RULES]
    for traffic in KINDS:
        found = [run(traffic, make(), number) for make in RULES]
        for gathered, tasks in zip(together, found, strict=True):
            gathered.extend(tasks)
        yield traffic.name, [figures(tasks) for tasks in found]
    yield "all together", [figures(tasks) for tasks in together]


def table(number: int) -> str:
    """Return the figures as a table in Markdown."""
    lines = ["| traffic | every 10 s | before | now |", "|---|---|---|---|"]
    for name, found in measure(number):
        cells = [f"{each.requests:.1f}; {each.median:.0f} s, {each.p95:.0f} s" for each in found]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _is_down(traffic: Traffic, at: float) -> bool:
    return traffic.down is not None and traffic.down[0] <= at < traffic.down[1]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tasks", type=int, default=TASKS, help="tasks of each model")
    print(table(options.parse_args().tasks))


if __name__ == "__main__":
    main()
