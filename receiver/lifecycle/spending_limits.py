"""What keeps a task queued although it could be sent: limits that the operator set, and the provider's own.

`attempts` asks in the transaction that commits the attempt, so that no two processes pass the same gap; `submission`
refuses at once what could never pass. It decides nothing else about the task: it says why to wait, and how long.
"""

from dataclasses import dataclass

from receiver.config.settings import ProviderConfig
from receiver.core.amounts import to_credits, to_millionths
from receiver.core.errors import Fault, Invalid
from receiver.core.messages import Problem
from receiver.core.states import State
from receiver.lifecycle.transition import Context
from receiver.providers.base import Rate
from receiver.store import Transaction, spending
from receiver.store.task_row import TaskChanges, TaskRow

UNCONFIRMED_COUNTS = 15 * 60 * 1000
"""Milliseconds after its departure for which an unconfirmed task holds a place of `_MAX_RUNNING`."""
LONGEST_HOLD = 48 * 3600 * 1000
"""Milliseconds after its creation at which a task that was held by limits expires at the latest."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a task stays queued: a sentence for its notices, the limit's name and figure, and for how many seconds if
    that is known."""

    why: str
    limit: str
    seconds: float | None = None


def refuse_dearer_than_a_day(account: str, config: ProviderConfig, estimated: int | None) -> None:
    """Refuse an order that costs more than the account may spend in a day, so that it could never be sent.

    `estimated` is in millionths. Raises `Invalid`.
    """
    most = config.max_credits_per_day
    if most is None or estimated is None or estimated <= to_millionths(most):
        return
    name = _variable(account, "MAX_CREDITS_PER_DAY")
    words = (
        f"this order costs about {_amount(estimated)} credits, and {name} allows {_amount(to_millionths(most))} a day"
    )
    raise Invalid([Fault(("model",), f"{words}; order something cheaper or raise the limit")])


def reason_to_wait(tx: Transaction, task: TaskRow, config: ProviderConfig, rate: Rate | None, now: int) -> Wait | None:
    """Return why this task must not be sent now, or None. `now` is in Unix milliseconds."""
    if config.max_running is None and config.max_credits_per_day is None and rate is None:
        return None
    account = task.provider
    spending.lock_account(tx, account)
    return (
        _too_many_running(tx, account, config.max_running, now)
        or _too_much_spent(tx, task, config.max_credits_per_day, now)
        or _too_fast(tx, account, rate, now)
    )


def hold(task: TaskRow, wait: Wait, context: Context) -> TaskChanges:
    """Return the change that keeps a task held: by what, and that its deadline does not count before it is free.

    Once it was free, its deadline goes on counting, whatever holds it later.
    """
    if task.attempts:
        return {"held_by": wait.limit}
    longest = LONGEST_HOLD - context.schedule.due(0)
    return {"held_by": wait.limit, "deadline_from": task.created_at + max(longest, 0)}


def let_go(task: TaskRow, now: int) -> TaskChanges:
    """Return the change for a task that no limit holds: from the first such moment on its deadline counts."""
    if task.held_by is None:
        return {}
    if task.attempts:
        return {"held_by": None}
    return {"held_by": None, "deadline_from": min(now, task.deadline_from or now)}


def never_sent(task: TaskRow) -> Problem | None:
    """Return the error of a task that was queued to its deadline, held by a limit or never tried; else None."""
    if task.state != State.QUEUED:
        return None
    if task.held_by is not None:
        words = f"{task.held_by} held it back until its deadline"
    elif task.attempts == 0 and task.gaps == 0:
        words = "the service stopped before it could send it"
    else:
        return None
    return Problem("never_sent", f"Never sent: {words}. Nothing was bought.")


def _too_many_running(tx: Transaction, account: str, most: int | None, now: int) -> Wait | None:
    if most is None:
        return None
    found = spending.count_running(tx, account, now - UNCONFIRMED_COUNTS, now)
    if found.number < most:
        return None
    name = _variable(account, "MAX_RUNNING")
    words = f"Waiting for a running task to finish ({name}={most})."
    if found.unconfirmed:
        words += f" An unconfirmed task counts for {UNCONFIRMED_COUNTS // 60_000} min after it was sent."
    return Wait(words, f"{name}={most}")


def _too_much_spent(tx: Transaction, task: TaskRow, most: float | None, now: int) -> Wait | None:
    """Count what today (UTC) cost: charged, else reserved, else estimated."""
    if most is None:
        return None
    allowed, price = to_millionths(most), task.estimated or 0
    if spending.sum_spent_on(tx, task.provider, spending.start_of_day(now)) + price <= allowed:
        return None
    name, shown = _variable(task.provider, "MAX_CREDITS_PER_DAY"), _amount(allowed)
    words = f"Waiting for tomorrow (UTC): this task would exceed today's limit ({name}={shown} credits)."
    if price > allowed:
        words = f"Waiting for a higher limit: this task costs {_amount(price)} credits ({name}={shown})."
    return Wait(words, f"{name}={shown}")


def _too_fast(tx: Transaction, account: str, rate: Rate | None, now: int) -> Wait | None:
    if rate is None:
        return None
    window = round(rate.seconds * 1000)
    oldest = spending.departure_before(tx, account, now - window, now, rate.number)
    if oldest is None:
        return None
    own = f"{account} accepts {rate.number} orders per {rate.seconds:g} s"
    return Wait(f"Waiting: {own}.", f"the provider's own limit ({own})", max((oldest + window - now) / 1000, 0.05))


def _amount(millionths: int) -> str:
    return f"{to_credits(millionths)}"


def _variable(account: str, name: str) -> str:
    return f"{account.upper().replace('-', '_')}_{name}"
