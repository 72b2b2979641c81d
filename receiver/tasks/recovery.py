"""What a dead process left: submissions whose request may have been on its way when it died.

`app` calls it before the service is ready; the sweeps find in the same way whatever dies later.
"""

from receiver.lifecycle.transition import write_changes
from receiver.services import Services
from receiver.store import Transaction, tasks
from receiver.tasks.attempts import claimed_task, resolve_interrupted

AT_ONCE = 200
"""Submissions that are resolved in one transaction."""


async def recover(services: Services) -> int:
    """Resolve every submission whose lease ran out; returns how many there were."""
    resolved = 0
    while True:
        number = await services.store.write(lambda tx: _resolve_some(tx, services))
        resolved += number
        if number < AT_ONCE:
            return resolved


def _resolve_some(tx: Transaction, services: Services) -> int:
    """Claim and resolve in one transaction, so that nobody can come between."""
    claims = tasks.claim_crashed(tx, services.clock(), services.new_lease_end(), AT_ONCE)
    for claim in claims:
        resolve_interrupted(tx, services, claim)
        if (row := claimed_task(tx, claim)) is not None:
            write_changes(tx, row, services.context(row.provider), {"leased_until": None})
    return len(claims)
