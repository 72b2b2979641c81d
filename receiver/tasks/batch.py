"""One action for many tasks: check, order again, cancel, acknowledge, close as not bought.

The API and the command line call `run`. Each task is handled as the single action would handle it, and fails alone.
Under an idempotency key the tasks are kept before anything is done, and each order has a key of its own that is made
of it: a repeat is about the same tasks and buys nothing twice.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from receiver.core.amounts import to_credits, to_millionths
from receiver.core.errors import Conflict, ReceiverError, StoreUnavailable
from receiver.core.states import State
from receiver.services import Services
from receiver.store import Session, Transaction, batch_requests, reading
from receiver.store.batch_requests import BatchTasks
from receiver.store.reading import Filter
from receiver.store.tables import Task
from receiver.tasks import adoption, submission
from receiver.tasks.acknowledgement import acknowledge
from receiver.tasks.checks import check_now
from receiver.tasks.submission import RETRYABLE

MAX_TASKS = 500
CHECKS_AT_ONCE = 20
CHECK_SECONDS = 50.0
"""After so long no further check is begun: whoever asked waits for the answer."""


class Action(StrEnum):
    """What is done with each task."""

    CHECK = "check"
    RETRY = "retry"
    CANCEL = "cancel"
    ACKNOWLEDGE = "acknowledge"
    NOT_BOUGHT = "not_bought"


@dataclass(frozen=True, slots=True)
class Batch:
    """An action, the tasks that it is for, and its limits. `digest` tells an equal batch under a key from another."""

    action: Action
    tasks: Sequence[str] | Filter
    max_credits: float | None = None
    key: str | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one task: the one to look at now, which for `retry` is the new one, or an error."""

    task_id: str
    shown: str | None = None
    error: ReceiverError | None = None


async def run(services: Services, batch: Batch) -> tuple[list[Result], str | None]:
    """Return the results in order, and the cursor to the tasks that a filter left out.

    Raises `Conflict` before anything is done where the orders would cost more than `max_credits`, or nobody knows what,
    and where the key was used for another batch; raises `StoreUnavailable`.
    """
    chosen = await services.store.write(lambda tx: _find_kept(tx, batch)) if batch.key else None
    is_repeat = chosen is not None
    if chosen is None:
        chosen = await services.store.read(lambda session: _choose(session, batch))
    may_order = await _refuse_over_limit(services, batch, chosen.task_ids)
    if batch.key and not is_repeat:
        chosen = await services.store.write(partial(_keep, batch=batch, chosen=chosen, now=services.clock()))
    runner = _Runner(services, batch, may_order, is_repeat=is_repeat)
    return list(await asyncio.gather(*map(runner.run, chosen.task_ids))), chosen.following


def _find_kept(tx: Transaction, batch: Batch) -> BatchTasks | None:
    found = batch_requests.find(tx, batch.key or "")
    if found is None:
        return None
    digest, chosen = found
    if digest != batch.digest:
        raise Conflict("This Idempotency-Key was used for another batch. Use a new key.")
    return chosen


def _keep(tx: Transaction, batch: Batch, chosen: BatchTasks, now: int) -> BatchTasks:
    """Keep the tasks under the batch's key, unless an equal batch was faster; returns those that are kept."""
    kept = _find_kept(tx, batch)
    if kept is None:
        batch_requests.keep(tx, batch.key or "", batch.digest, chosen, now)
    return kept or chosen


def _choose(session: Session, batch: Batch) -> BatchTasks:
    if not isinstance(batch.tasks, Filter):
        return BatchTasks(list(batch.tasks), None)
    ids = reading.matching_ids(session, batch.tasks)
    return BatchTasks(ids, ids[-1] if len(ids) == batch.tasks.limit else None)


async def _refuse_over_limit(services: Services, batch: Batch, task_ids: Sequence[str]) -> frozenset[str] | None:
    """Return the tasks that may be ordered again within the limit; None where there is no limit. Raises `Conflict`."""
    limit = batch.max_credits
    if limit is None:
        return None
    found = await services.store.read(lambda session: reading.tasks(session, task_ids))
    prices = {task_id: _price(services, task) for task_id, task in found.items() if task.state in RETRYABLE}
    unknown = [task_id for task_id in task_ids if task_id in prices and prices[task_id] is None]
    if unknown:
        words = f"the price of {unknown[0]} is not known. Leave out that task, or the limit"
        raise Conflict(f"max_credits cannot be kept: {words}. Nothing was ordered.")
    total = sum(to_millionths(price) for price in prices.values() if price is not None)
    if total > to_millionths(limit):
        words = f"these orders are estimated at {to_credits(total)} credits, and max_credits is {limit}"
        raise Conflict(f"Nothing was ordered: {words}.")
    return frozenset(prices)


def _price(services: Services, task: Task) -> float | None:
    provider = services.providers.get(task.provider)
    model = provider.models.get(task.model) if provider else None
    return model.estimate(task.input) if model else None


class _Runner:
    """Handles the tasks of one batch, all at the same time."""

    def __init__(self, services: Services, batch: Batch, may_order: frozenset[str] | None, *, is_repeat: bool) -> None:
        self._services = services
        self._batch = batch
        self._may_order = may_order
        self._is_repeat = is_repeat
        self._checks = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._no_check_after = asyncio.get_running_loop().time() + CHECK_SECONDS
        self._actions: dict[Action, Callable[[str], Awaitable[str | None]]] = {
            Action.CHECK: self._check,
            Action.RETRY: self._retry,
            Action.CANCEL: partial(submission.cancel, services),
            Action.ACKNOWLEDGE: partial(acknowledge, services),
            Action.NOT_BOUGHT: partial(adoption.not_bought, services),
        }

    async def run(self, task_id: str) -> Result:
        """Handle one task; what is wrong with it is its own result."""
        try:
            return Result(task_id, await self._actions[self._batch.action](task_id) or task_id)
        except Conflict as error:
            return Result(task_id, task_id) if await self._was_done(task_id) else Result(task_id, error=error)
        except ReceiverError as error:
            return Result(task_id, error=error)

    async def _check(self, task_id: str) -> None:
        async with self._checks:
            if asyncio.get_running_loop().time() > self._no_check_after:
                raise StoreUnavailable(f"It was not checked within {CHECK_SECONDS:.0f} s. Send it again.")
            await check_now(self._services, task_id)

    async def _retry(self, task_id: str) -> str:
        if self._may_order is not None and task_id not in self._may_order:
            raise Conflict("It could not be ordered again when the batch began, so its price was not counted.")
        key = self._batch.key
        own = f"batch-{hashlib.sha256(f'{key} {task_id}'.encode()).hexdigest()}" if key else None
        new, _ = await submission.retry(self._services, task_id, own)
        return new

    async def _was_done(self, task_id: str) -> bool:
        """Return whether an earlier request under the same key has done it: then it is no conflict."""
        task = await self._services.store.read(lambda session: reading.task(session, task_id))
        if not self._is_repeat or task is None:
            return False
        if self._batch.action is Action.CANCEL:
            return task.state is State.CANCELLED
        return self._batch.action is Action.NOT_BOUGHT and task.error_code == adoption.NOT_BOUGHT.code
