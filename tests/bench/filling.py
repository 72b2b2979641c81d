"""Fills a database with tasks that await their callback, faster than the API could take them."""

from collections.abc import Mapping
from dataclasses import dataclass

from receiver.config.keys import with_generated_secrets
from receiver.config.settings import Settings
from receiver.core.ids import new_id
from receiver.core.links import CALLBACKS
from receiver.core.states import State
from receiver.providers import CONFIG_TYPES
from receiver.services import Services
from receiver.store import Transaction, schema, tasks
from receiver.store.tables import as_json

CHECKED_AFTER = 300_000
"""Milliseconds until the first check of each, when nothing else is asked for."""


@dataclass(frozen=True)
class Waiting:
    """One task that was submitted: its id, the provider's, and the path that its callback comes to."""

    task_id: str
    remote_id: str
    path: str


async def fill(
    environ: Mapping[str, str], number: int, *, prompt: str = "a paper boat", checked_after: int = CHECKED_AFTER
) -> list[Waiting]:
    """Create the database and so many tasks of `revid` in it."""
    settings = with_generated_secrets(Settings.load(environ, CONFIG_TYPES))
    schema.migrate(settings.database)
    services = Services.open(settings)
    now = services.clock()
    ids = {f"remote{position}": new_id(now) for position in range(number)}

    def unit(tx: Transaction) -> None:
        for remote_id, task_id in ids.items():
            tasks.insert_task(tx, _submitted(task_id, remote_id, prompt, now, checked_after))

    await services.store.write(unit)
    urls = {remote_id: services.links.callback_url("revid", task_id) or "" for remote_id, task_id in ids.items()}
    await services.close()
    return [
        Waiting(task_id, remote_id, f"{CALLBACKS}{urls[remote_id].partition(CALLBACKS)[2]}")
        for remote_id, task_id in ids.items()
    ]


def _submitted(task_id: str, remote_id: str, prompt: str, now: int, checked_after: int) -> dict[str, object]:
    counters = ("attempts", "checks", "deliveries", "unstored", "empties", "gaps", "claim")
    return {
        **dict.fromkeys(counters, 0),
        "id": task_id,
        "provider": "revid",
        "model": "sora-2-text-to-video",
        "state": State.SUBMITTED.value,
        "input": as_json({"prompt": prompt}),
        "prompt": prompt,
        "validated": True,
        "metadata": "{}",
        "remote_id": remote_id,
        "notices": "[]",
        "token_seen": False,
        "may_have_cost": False,
        "callback_url": True,
        "created_at": now,
        "submitted_at": now,
        "updated_at": now,
        "next_check_at": now + checked_after,
    }
