"""What keeps a task queued although it could be sent: limits that the operator set, and the provider's own.

`attempts` asks in the transaction that commits the attempt, so that no two processes pass the same gap. It decides
nothing about the task: it says why to wait, and how long.
"""

from dataclasses import dataclass

from receiver.moves import Row
from receiver.providers.base import Rate
from receiver.settings import ProviderConfig
from receiver.store import Transaction, spending


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a task stays queued, in a sentence for its notices, and for how many seconds if that is known."""

    why: str
    seconds: float | None = None


def reason_to_wait(tx: Transaction, task: Row, config: ProviderConfig, rate: Rate | None, now: int) -> Wait | None:
    """Say why this task must not be sent now, or None. `now` is in Unix milliseconds."""
    if config.max_running is None and config.max_credits_per_day is None and rate is None:
        return None
    account = task["provider"]
    spending.lock(tx, account)
    return (
        _too_many_running(tx, account, config.max_running)
        or _too_much_spent(tx, task, config.max_credits_per_day, now)
        or _too_fast(tx, account, rate, now)
    )


def _too_many_running(tx: Transaction, account: str, most: int | None) -> Wait | None:
    if most is None or spending.running(tx, account) < most:
        return None
    return Wait(f"Waits for others to end: {_variable(account, 'MAX_RUNNING')} is {most}.")


def _too_much_spent(tx: Transaction, task: Row, most: float | None, now: int) -> Wait | None:
    """Count what today (UTC) cost: charged, else reserved, else estimated."""
    if most is None:
        return None
    spent = spending.spent_on(tx, task["provider"], now - now % spending.DAY)
    if spent + (task["estimated"] or 0) <= most:
        return None
    name = _variable(task["provider"], "MAX_CREDITS_PER_DAY")
    return Wait(f"Waits for tomorrow (UTC): with this one, today would cost more than {name}, {most:g} credits.")


def _too_fast(tx: Transaction, account: str, rate: Rate | None, now: int) -> Wait | None:
    if rate is None:
        return None
    window = round(rate.seconds * 1000)
    oldest = spending.departure_before(tx, account, now - window, now, rate.number)
    if oldest is None:
        return None
    words = f"Waits: {account} takes {rate.number} orders in {rate.seconds:g} s."
    return Wait(words, max((oldest + window - now) / 1000, 0.05))


def _variable(account: str, name: str) -> str:
    return f"{account.upper().replace('-', '_')}_{name}"
