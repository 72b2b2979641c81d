"""A person has looked at a task: it leaves the attention list until something new happens to it.

The API, the pages and the command line call it. It changes nothing else about the task.
"""

from receiver.core.errors import NotFound
from receiver.services import Services
from receiver.store import Transaction, attention, journal, tasks


async def acknowledge(services: Services, task_id: str) -> None:
    """Take a task off the attention list; one that is not on it stays as it is. Raises `NotFound`."""
    now = services.clock()

    def unit(tx: Transaction) -> None:
        if tasks.current(tx, task_id) is None:
            raise NotFound(f"There is no task {task_id[:60]}.")
        if reasons := attention.acknowledge(tx, task_id):
            journal.note(tx, task_id, now, "note", {"text": f"A person acknowledged it ({', '.join(reasons)})."})

    await services.store.write(unit)
