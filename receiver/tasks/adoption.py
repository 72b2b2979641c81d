"""What a person resolves: a task whose submission is unclear, and one that was bought elsewhere.

The API, the pages and the command line call it. It sends nothing: it writes down what the person found at the
provider, and the next check asks about it.
"""

from receiver.core import wire
from receiver.core.errors import Conflict, Fault, Invalid, NotFound
from receiver.core.messages import Event, Problem, Source
from receiver.core.states import State, Via
from receiver.lifecycle.apply import apply
from receiver.lifecycle.transition import transition
from receiver.services import Services
from receiver.store import Transaction, tasks
from receiver.store.task_row import TaskChanges, TaskRow
from receiver.tasks.checks import check_now
from receiver.tasks.submission import NewTask, find_task_by_key, place, require_model_id, require_notify_url

NOT_BOUGHT = Problem("not_bought", "A person checked at the provider: it was not bought.")


async def adopt(services: Services, task_id: str, remote_id: str) -> None:
    """Take up an unclear task under the provider's id that a person found; the provider is asked at once.

    Raises `NotFound`, `Invalid` for what is no id, and `Conflict` where the task is not unclear or the id is another
    task's.
    """
    found = _checked_id(remote_id)

    def unit(tx: Transaction) -> None:
        row = _unclear(tx, task_id)
        _require_free(tx, row.provider, found)
        context = services.context(row.provider)
        changes: TaskChanges = {
            "remote_id": found,
            "adopted_at": context.now,
            "may_have_cost": row.attempts > 0,
            "finished_at": None,
            "next_check_at": context.now,
            "next_check_because": "A person named its id; the provider is asked now.",
        }
        transition(tx, row, State.SUBMITTED, Via.HAND, context, changes=changes)

    await services.store.write(unit)
    services.background.start(check_now(services, task_id))


async def not_bought(services: Services, task_id: str) -> None:
    """Close an unclear task that a person did not find at the provider. Raises `NotFound` and `Conflict`."""

    def unit(tx: Transaction) -> None:
        row = _unclear(tx, task_id)
        event = Event(State.FAILED, error=NOT_BOUGHT)
        apply(tx, row, event, Source(Via.HAND), services.context(row.provider), changes={"may_have_cost": False})

    await services.store.write(unit)


async def track(services: Services, order: NewTask, remote_id: str) -> tuple[str, bool]:
    """Follow a task that was bought elsewhere: nothing is sent but status requests.

    Returns its id and whether it is new. Raises `Invalid`, and `Conflict` where another task has this id or the key
    was used for another order.
    """
    if (known := await find_task_by_key(services, order)) is not None:
        return known, False
    services.provider(order.provider)
    require_model_id(order.model)
    require_notify_url(services, order)
    found = _checked_id(remote_id)
    columns = {"state": State.SUBMITTED.value, "validated": False, "remote_id": found}
    task_id, is_new = await place(services, order, columns, lambda tx: _require_free(tx, order.provider, found))
    if is_new:
        services.background.start(check_now(services, task_id))
    return task_id, is_new


def is_unclear(state: State, remote_id: str | None) -> bool:
    """Return whether a person may resolve a task: unconfirmed, or expired without the provider's id."""
    return state is State.UNCONFIRMED or (state is State.EXPIRED and remote_id is None)


def _checked_id(remote_id: str) -> str:
    found = wire.read_id(remote_id)
    if found is None:
        raise Invalid([Fault(("remote_id",), f"must be the provider's id, 1 to {wire.MAX_ID_LENGTH} characters")])
    return found


def _unclear(tx: Transaction, task_id: str) -> TaskRow:
    """Read a task that a person may resolve; raises `NotFound` and `Conflict`."""
    row = tasks.current(tx, task_id)
    if row is None:
        raise NotFound(f"There is no task {task_id}.")
    if not is_unclear(row.state, row.remote_id):
        words = "only an unconfirmed one, or an expired one without the provider's id, is resolved by hand"
        raise Conflict(f"The task is {row.state}; {words}.")
    return row


def _require_free(tx: Transaction, provider: str, remote_id: str) -> None:
    holder = tasks.by_remote(tx, provider, remote_id)
    if holder is not None:
        raise Conflict(f"Task {holder} already has this id.")
