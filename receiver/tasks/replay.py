"""Reads a stored callback again, the same way in as a new one: verify -> read -> apply -> ask where that is due.

For callbacks that a mended adapter can read now, whose signature a corrected secret fits, or whose task is known by
now. `receiver replay` calls it. It invents no delivery: the one that is stored stays as it came, with its first
outcome, and is not counted again; a note in the task's history says what came of reading it again.
"""

from collections.abc import Callable
from dataclasses import dataclass

from receiver.core.errors import Conflict, NotFound
from receiver.core.messages import Callback, Outcome
from receiver.services import Services
from receiver.store import Transaction, journal, reading, tasks
from receiver.store.tables import Delivery
from receiver.store.task_row import TaskChanges
from receiver.tasks.inbox import NEEDS_CHECK, Address, IncomingDelivery, check_after_delivery, parse_callback


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of a stored delivery when it came (`was`), and what of reading it again."""

    delivery: int
    task_id: str | None
    was: Outcome
    outcome: Outcome


async def replay(services: Services, delivery_id: int) -> Replayed:
    """Read a stored delivery again, and ask its provider where what it says needs that.

    A signature has to have been in its time window when the delivery came, not now. A delivery to an account that
    names a task of ours by now becomes one of that task's, and is counted there; one that still names none is kept
    with what it says now, until a task learns its id.

    Raises `NotFound`, `Invalid` where its provider is not configured, `Conflict` where a task took it meanwhile.
    """
    replayed = await services.store.write(await replay_unit(services, delivery_id))
    if replayed.outcome in NEEDS_CHECK and replayed.task_id is not None:
        await check_after_delivery(services, replayed.task_id)
    return replayed


async def replay_unit(services: Services, delivery_id: int) -> Callable[[Transaction], Replayed]:
    """Return the unit that reads a stored delivery again; raises what `replay` raises."""
    stored = await services.store.read(lambda session: reading.delivery(session, delivery_id))
    if stored is None:
        raise NotFound(f"There is no delivery {delivery_id}; `receiver show TASK_ID` and the task's page name them.")
    provider = services.provider(stored.provider)
    # What came to an account names its task in the body; no URL of a task proves anything there.
    own_url = stored.task_id if provider.takes_callbacks and stored.remote_id is None else None
    callback = Callback(stored.headers, stored.body, stored.received_at)
    delivered = IncomingDelivery(
        Address(provider, own_url),
        callback,
        parse_callback(provider, callback),
        services.settings.confirm,
        services.context(provider.name),
    )
    return _unit(delivered, stored)


def _unit(delivered: IncomingDelivery, stored: Delivery) -> Callable[[Transaction], Replayed]:
    delivery_id, was = int(stored.id or 0), Outcome(stored.outcome)

    def read_again(tx: Transaction) -> Replayed:
        task_id = stored.task_id or delivered.find_task(tx)
        facts: TaskChanges = {}
        if task_id is None:
            columns = delivered.held_columns()
            _require(journal.update_held(tx, delivery_id, **columns))
            return Replayed(delivery_id, None, was, Outcome(columns["outcome"]))
        task = tasks.current(tx, task_id)
        if task is None:
            raise NotFound(f"There is no task {task_id}.")
        now = delivered.context.now
        if stored.task_id is None:
            history_id = journal.note(tx, task_id, now, "delivery")
            _require(journal.update_held(tx, delivery_id, task_id=task_id, history_id=history_id))
            facts["deliveries"] = task.deliveries + 1
        # Its place in the history is before what it changes.
        place = journal.note(tx, task_id, now, "note")
        outcome = delivered.change_task(tx, task, facts)
        words = f"Delivery {delivery_id} was replayed: {outcome} (first outcome: {was})."
        journal.complete_note(tx, place, {"text": words, "delivery": delivery_id, "outcome": outcome.value})
        return Replayed(delivery_id, task_id, was, outcome)

    return read_again


def _require(found: bool) -> None:  # noqa: FBT001 - whether the delivery was still as it was read
    if not found:
        raise Conflict("Another task claimed this delivery. Run the command again.")
