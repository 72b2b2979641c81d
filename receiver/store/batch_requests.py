"""The tasks that a batch under an idempotency key is about: a repeat is about the same ones, whatever matches by then.

`tasks.batch` keeps and reads them.
"""

import json
from dataclasses import dataclass

from sqlalchemy import bindparam, insert, select
from sqlmodel import SQLModel

from receiver.store.tables import as_json
from receiver.store.transaction import Transaction

BATCH = SQLModel.metadata.tables["batch_request"]

_BY_KEY = select(BATCH.c.digest, BATCH.c.task_ids, BATCH.c.next).where(BATCH.c.key == bindparam("batch"))
_INSERT = insert(BATCH)


@dataclass(frozen=True, slots=True)
class BatchTasks:
    """The ids of a batch, in order, and the cursor to the tasks that its filter left out."""

    task_ids: list[str]
    following: str | None


def find(tx: Transaction, key: str) -> tuple[str, BatchTasks] | None:
    """Return the digest of the body that came under a key first, and its tasks; None where the key is new."""
    row = tx.first(_BY_KEY, batch=key)
    return None if row is None else (str(row[0]), BatchTasks(json.loads(row[1]), row[2]))


def keep(tx: Transaction, key: str, digest: str, chosen: BatchTasks, now: int) -> None:
    """Keep the tasks of a batch under its key."""
    values = {"task_ids": as_json(chosen.task_ids), "next": chosen.following, "created_at": now}
    tx.run(_INSERT, key=key, digest=digest, **values)
