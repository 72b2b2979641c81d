"""What a shell completes besides commands and options: task ids, accounts and models.

Typer calls these functions while a person presses Tab, and offers what begins like the word that is typed. They print
nothing and raise nothing: both would end up in the middle of the line.
"""

import asyncio
from contextlib import suppress

import typer

from receiver.cli.runtime import read_settings
from receiver.core.errors import ReceiverError
from receiver.providers import connect
from receiver.providers.base import Provider
from receiver.store import Store, reading, schema
from receiver.store.engine import require_database
from receiver.store.tables import Task

Completions = list[tuple[str, str]]
"""Values, each with what a shell that shows more than values shows beside it."""
OFFERED = 50
"""Task ids that are offered at most: the newest."""


def complete_task_ids(incomplete: str) -> Completions:
    """Return the newest tasks that this may be the beginning of; Typer leaves out those that it is not."""
    with suppress(ReceiverError, OSError):
        tasks = asyncio.run(_newest(read_settings().database, incomplete))
        return [(task.id, f"{task.state}, {task.model}") for task in tasks]
    return []


async def _newest(database: str, incomplete: str) -> list[Task]:
    require_database(database)
    schema.require_current(database)
    store = Store(database)
    wanted = reading.Filter(q=incomplete or None, limit=OFFERED)
    try:
        return await store.read(lambda session: reading.brief_listing(session, wanted))
    finally:
        await store.close()


def complete_accounts() -> Completions:
    """Return the configured accounts."""
    return [(name, account.family) for name, account in _accounts().items()]


def complete_models(context: typer.Context) -> Completions:
    """Return the models of the account that was named before."""
    account = _accounts().get(context.params.get("provider") or "")
    models = account.models.items() if account is not None else ()
    return [(name, model.price_note or "") for name, model in models]


def _accounts() -> dict[str, Provider]:
    with suppress(ReceiverError, OSError):
        return connect(read_settings().providers)
    return {}
