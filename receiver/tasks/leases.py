"""Giving leases back that were taken in vain.

Whoever claims tasks and then cannot work on them (the database is away, the service stops) gives them back here, so
that others need not wait until they run out.
"""

from collections.abc import Iterable

from receiver.core.states import State
from receiver.lifecycle.attempt_results import FREE
from receiver.lifecycle.schedule import Plan
from receiver.lifecycle.transition import write_changes
from receiver.services import Services
from receiver.store import Transaction, tasks
from receiver.store.task_row import TaskChanges, TaskRow
from receiver.store.tasks import Claim


def give_back(services: Services, claims: Iterable[Claim]) -> None:
    """Give leases back as soon as the database can be written; returns at once.

    The lease on a submission that may be under way is kept: its end tells that the submission is unclear.
    """
    given = tuple(claims)

    def unit(tx: Transaction) -> None:
        for claim in given:
            row = tasks.current(tx, claim.task_id)
            if row is not None and row.claim == claim.number and row.state != State.SUBMITTING:
                context = services.context(row.provider)
                write_changes(tx, row, context, given_back(row, context.now))

    services.background.start(services.write_until_deadline(unit))


def given_back(row: TaskRow, now: int) -> TaskChanges:
    """Return the change that gives a lease back with nothing sent: an order is due at once, for whoever looks next."""
    changes: TaskChanges = {"leased_until": None}
    if row.state is State.QUEUED:
        changes |= Plan(now, FREE).changes()
    return changes
