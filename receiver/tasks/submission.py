"""Submit an order: validate it, store it once, and start its first attempt.

The API, the pages and the command line call `submit` and `retry`. Nothing is sent from here: that is `attempts`.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from receiver.core import wire
from receiver.core.amounts import to_millionths
from receiver.core.catalog import refuse_reserved_names
from receiver.core.errors import Conflict, Fault, Invalid, NotFound, OutcomeUnknown, StoreUnavailable
from receiver.core.ids import new_id
from receiver.core.states import SETTLED, State, Via
from receiver.lifecycle.attempt_results import FREE
from receiver.lifecycle.schedule import Plan
from receiver.lifecycle.spending_limits import refuse_dearer_than_a_day
from receiver.lifecycle.transition import add_notices, transition, write_changes
from receiver.outbound.guard import ForbiddenLink
from receiver.outbound.webhooks import check_receiver
from receiver.services import Services
from receiver.store import Transaction, reading, tasks
from receiver.store.tables import Task, as_json
from receiver.store.task_row import TaskChanges
from receiver.store.tasks import Claim
from receiver.tasks.attempts import attempt

MAX_MODEL_LENGTH = 200
FIRST_ATTEMPT = "Its first request is under way."
RETRYABLE = SETTLED | {State.UNCONFIRMED}


@dataclass(frozen=True, slots=True)
class NewTask:
    """What a caller orders. `digest` tells an equal order under the same idempotency key from another."""

    provider: str
    model: str
    input: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    validate: bool = True
    key: str | None = None
    digest: str | None = None
    retry_of: str | None = None
    notify_url: str | None = None


def digest_of(body: Any) -> str:
    """Fingerprint a JSON body, whatever the order of its keys."""
    return hashlib.sha256(as_json(_sorted(body)).encode()).hexdigest()


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


async def submit(services: Services, order: NewTask) -> tuple[str, bool]:
    """Store an order and attempt to submit it once; returns the task's id and whether it is new.

    Returns when the first attempt has ended, at the latest after the timeout of one request; the attempt goes on even
    if the caller is cancelled. Raises `Invalid` before anything is stored, `Conflict` where the key was used for
    another order, `StoreUnavailable`.
    """
    if (known := await find_task_by_key(services, order)) is not None:
        return known, False
    model = services.provider(order.provider).models.get(order.model)
    require_model_id(order.model)
    refuse_reserved_names(order.input)
    validated = order.validate and model is not None and model.is_validated
    if validated and model is not None:
        model.validate(order.input)
    estimated = to_millionths(model.estimate(order.input) if model else None)
    require_notify_url(services, order)
    refuse_dearer_than_a_day(order.provider, services.settings.providers[order.provider], estimated)
    columns = {
        "state": State.QUEUED.value,
        "validated": validated,
        "estimated": estimated,
        "claim": 1,
        "leased_until": services.new_lease_end(),  # until its first attempt, which begins at once
    }

    def check(tx: Transaction) -> None:
        if order.retry_of is not None:
            _require_retryable(tx, order.retry_of)

    if order.key is None:
        # A caller who is told that it could not be stored orders again: no sweep may send it before they are answered.
        columns["next_check_at"] = services.context(order.provider).schedule.due(services.clock())
        columns["next_check_because"] = FIRST_ATTEMPT
    task_id, is_new = await place(services, order, columns, check)
    if is_new:
        trying = services.background.start(attempt(services, Claim(task_id, 1)))
        await asyncio.wait({trying}, timeout=services.settings.timeout)
        if not trying.done() and order.key is None:
            await _let_sweeps_send(services, task_id)
    return task_id, is_new


async def _let_sweeps_send(services: Services, task_id: str) -> None:
    """Make an order due whose first attempt still waits, now that its caller is told that it is stored."""

    def unit(tx: Transaction) -> None:
        row = tasks.current(tx, task_id)
        if row is not None and row.state == State.QUEUED and row.attempts == 0:
            context = services.context(row.provider)
            write_changes(tx, row, context, Plan(context.now, FREE).changes())

    try:
        await services.store.write(unit)
    except StoreUnavailable:
        services.background.start(services.write_until_deadline(unit))  # its first attempt is under way all the same


def require_model_id(model: str) -> None:
    """Refuse a model id that no provider has; raises `Invalid`."""
    if not 0 < len(model) <= MAX_MODEL_LENGTH:
        raise Invalid([Fault(("model",), f"must have 1 to {MAX_MODEL_LENGTH} characters")])


def require_notify_url(services: Services, order: NewTask) -> None:
    """Raise `Invalid` for a URL of the order to which no message may be sent.

    A retry keeps the URL of its task: it was accepted before, and is checked again when a message is sent.
    """
    if order.notify_url is None or order.retry_of is not None:
        return
    try:
        check_receiver(order.notify_url, services.settings.notify_hosts)
    except ForbiddenLink as error:
        raise Invalid([Fault(("notify_url",), str(error))]) from error


async def place(
    services: Services, order: NewTask, columns: dict[str, Any], check: Callable[[Transaction], None]
) -> tuple[str, bool]:
    """Store an order as a new task, unless one under the same key was faster; returns its id and whether it is new.

    `check` runs in the same transaction and may raise. Raises `Conflict` and `StoreUnavailable`.
    """
    now = services.clock()
    plan = {"next_check_at": now, "next_check_because": FIRST_ATTEMPT}
    row = _task_row(order, new_id(now)) | {"created_at": now, "updated_at": now} | plan | columns

    def insert(tx: Transaction) -> str | None:
        racing = tasks.by_key(tx, order.key) if order.key else None
        if racing is not None:
            return _of_same_order(order, str(racing["id"]), racing["order_digest"])
        check(tx)
        tasks.insert_task(tx, row)
        return None

    try:
        racing = await services.store.write(insert)
    except OutcomeUnknown:
        if order.key is None and row["state"] == State.QUEUED.value:
            services.background.start(_withdraw(services, row))
        raise
    if racing is None:
        return str(row["id"]), True
    await _wait_for_first_attempt(services, racing)
    return racing, False


async def _withdraw(services: Services, order: dict[str, Any]) -> None:
    """Cancel an order whose caller was refused: they order again, and without a key that would buy it twice."""
    words = "Not sent: the caller was told that it could not be stored."

    def unit(tx: Transaction) -> None:
        row, context = tasks.current(tx, order["id"]), services.context(order["provider"])
        if row is None:
            # Its commit may still be on its way to PostgreSQL: it finds its place taken, or we find it.
            tasks.insert_task(tx, order | _WITHDRAWN | {"finished_at": context.now, "notices": as_json([words])})
            return
        # As the caller would, if they knew of it.
        changes: TaskChanges = {"leased_until": None}
        transition(tx, row, State.CANCELLED, Via.HAND, context, changes=changes | add_notices(row.notices, words))

    await services.write_until_deadline(unit)


async def cancel(services: Services, task_id: str) -> None:
    """Withdraw a task that is still queued, so that it is never sent; raises `NotFound` and `Conflict`."""

    def unit(tx: Transaction) -> None:
        row = tasks.current(tx, task_id)
        if row is None:
            raise NotFound(f"There is no task {task_id}.")
        context = services.context(row.provider)
        if not transition(tx, row, State.CANCELLED, Via.HAND, context, changes={"settled_by": Via.HAND.value}):
            raise Conflict(f"The task is {row.state}; only a queued one can be cancelled.")

    await services.store.write(unit)


async def find_task_by_key(services: Services, order: NewTask) -> str | None:
    """Return the id of the task ordered before under the same key, whatever became of its provider and its model."""
    key = order.key
    task = await services.store.read(lambda session: reading.by_key(session, key)) if key else None
    if task is None:
        return None
    known = _of_same_order(order, task.id, task.order_digest)
    await _wait_for_first_attempt(services, known)
    return known


def _of_same_order(order: NewTask, task_id: str, digest: str | None) -> str:
    if digest != order.digest:
        raise Conflict("This Idempotency-Key was used for another order. Use a new key.")
    return task_id


def _require_retryable(tx: Transaction, task_id: str) -> None:
    row = tasks.current(tx, task_id)
    if row is None or row.state not in RETRYABLE:
        words = f"The task is {row.state if row else 'gone'}"
        raise Conflict(f"{words}; only a final, expired or unconfirmed one can be ordered again.")


async def _wait_for_first_attempt(services: Services, task_id: str) -> None:
    """Wait for the attempt that the same order, racing with this one, has begun."""

    def over(task: Task | None) -> bool:
        return task is None or task.leased_until is None or task.state not in (State.QUEUED, State.SUBMITTING)

    query, seconds = (lambda session: reading.task(session, task_id)), services.settings.timeout
    await services.store.until(query, over, seconds, of=[task_id])


def _task_row(order: NewTask, task_id: str) -> dict[str, Any]:
    prompt = order.input.get("prompt")
    return {
        "id": task_id,
        "provider": order.provider,
        "model": wire.clean_text(order.model),
        "input": as_json(dict(order.input)),
        "prompt": wire.clean_text(prompt) if isinstance(prompt, str) else None,
        "metadata": as_json(dict(order.metadata)),
        "idempotency_key": order.key,
        "order_digest": order.digest,
        "retry_of": order.retry_of,
        "notify_url": order.notify_url,
        "notices": "[]",
        **_UNTOUCHED,
    }


async def retry(services: Services, task_id: str, key: str | None) -> tuple[str, bool]:
    """Order the same again as a new task; returns its id and whether it is new.

    Only of a final, expired or unconfirmed task, else `Conflict`. Raises `NotFound`, and what `submit` raises.
    """
    task = await services.store.read(lambda session: reading.task(session, task_id))
    if task is None:
        raise NotFound(f"There is no task {task_id}.")
    provider = services.providers.get(task.provider)
    model = provider.models.get(task.model) if provider else None
    order = NewTask(
        task.provider,
        task.model,
        task.input,
        task.meta,
        validate=task.validated or model is None or not model.is_validated,
        key=key,
        digest=digest_of({"retry_of": task_id}),
        retry_of=task_id,
        notify_url=task.notify_url,
    )
    return await submit(services, order)


_WITHDRAWN = {"state": State.CANCELLED.value, "leased_until": None, "settled_by": Via.HAND.value,
              "next_check_at": None, "next_check_because": None}  # fmt: skip
_COUNTERS = ("attempts", "checks", "deliveries", "unstored", "empties", "gaps", "claim")
_UNTOUCHED: dict[str, Any] = dict.fromkeys(_COUNTERS, 0) | {"token_seen": False, "callback_url": False}
_UNTOUCHED["may_have_cost"] = False
