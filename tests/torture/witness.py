"""What must be true of a database when the fire is over, whatever happened to the service.

The provider's ledger and the log of acknowledged callbacks are the other two witnesses; a clock is none.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from receiver.store.engine import sqlite_module
from tests.behaviour.families import FAMILIES

FINAL = frozenset({"succeeded", "failed", "cancelled"})
SETTLED = FINAL | {"expired"}
MARK = re.compile(rb'"mark": "([^"]+)"')
TASKS = (
    "SELECT id, prompt, provider, state, remote_id, deliveries, unstored, attempts, idempotency_key, leased_until"
    " FROM task"
)


@dataclass
class Found:
    """One task as the database has it, with its deliveries by mark (None: not the driver's) and its moves."""

    id: str
    prompt: str
    provider: str
    state: str
    remote_id: str | None
    deliveries: int
    unstored: int
    attempts: int
    key: str | None
    lease: int | None
    stored: Counter[str | None] = field(default_factory=Counter)
    moves: list[tuple[str, str]] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    checks: int = 0

    @property
    def cut_off(self) -> bool:
        """Tell whether it was ever unclear if its submission was received."""
        return any(to == "unconfirmed" for _, to in self.moves)


Rows = Callable[[str], list[tuple[Any, ...]]]
"""Asks a database."""


def look(file: Path) -> dict[str, Found]:
    """Check that a database file is whole, and read its tasks, by id."""
    with closing(sqlite_module().connect(str(file))) as connection:

        def rows(query: str) -> list[tuple[Any, ...]]:
            found: list[tuple[Any, ...]] = connection.execute(query).fetchall()
            return found

        assert rows("PRAGMA integrity_check") == [("ok",)]
        assert rows("PRAGMA foreign_key_check") == []
        return read(rows)


def look_at_server(url: str) -> dict[str, Found]:
    """Read the tasks of a PostgreSQL database, by id."""
    with closing(psycopg.connect(url)) as connection:
        return read(lambda query: connection.execute(query.encode()).fetchall())


def read(rows: Rows) -> dict[str, Found]:
    """Read all tasks with what belongs to them."""
    tasks = {row[0]: Found(*row) for row in rows(TASKS)}
    for task_id, body in rows("SELECT task_id, body FROM delivery WHERE task_id IS NOT NULL"):
        mark = MARK.search(bytes(body))
        tasks[task_id].stored[mark[1].decode() if mark else None] += 1
    for task_id, data in rows("SELECT task_id, data FROM history WHERE kind = 'move' ORDER BY id"):
        move = json.loads(data)
        tasks[task_id].moves.append((move["from"], move["to"]))
    for task_id, url in rows("SELECT task_id, url FROM output ORDER BY task_id, position"):
        tasks[task_id].outputs.append(url)
    for task_id, number in rows("SELECT task_id, count(*) FROM status_check GROUP BY task_id"):
        tasks[task_id].checks = number
    return tasks


def assert_each_ended_once(tasks: Mapping[str, Found]) -> None:
    """Every task is settled, came to one final state at most, and never left it."""
    for task in tasks.values():
        assert task.state in SETTLED, task
        assert sum(to in FINAL for _, to in task.moves) == (task.state in FINAL), task
        assert not any(before in FINAL for before, _ in task.moves), task


def lost(tasks: Mapping[str, Found], acked: Mapping[tuple[str, str], int]) -> list[str]:
    """Name every acknowledged callback that is neither stored nor, of a task that got more than are kept, counted."""
    by_task: Counter[str] = Counter()
    missing = []
    for (task_id, mark), number in acked.items():
        task = tasks[task_id]
        by_task[task_id] += number
        if not task.unstored and task.stored[mark] < number:
            missing.append(f"{mark}: acknowledged {number} times, stored {task.stored[mark]} times")
    short = [task for task in tasks.values() if task.deliveries + task.unstored < by_task[task.id]]
    return missing + [f"{task.id}: {by_task[task.id]} acknowledged, {task.deliveries} counted" for task in short]


def assert_all_is_counted(tasks: Mapping[str, Found], acked: Mapping[tuple[str, str], int]) -> None:
    """No acknowledged callback is lost, and the counts are those of the rows."""
    missing = lost(tasks, acked)
    assert not missing, "\n".join(missing)
    for task in tasks.values():
        assert task.deliveries == task.stored.total(), task


@dataclass(frozen=True)
class Purchase:
    """One purchase in the simulated provider's ledger file; `taken` are its callbacks that were answered 200."""

    id: str
    family: str
    prompt: str
    video_url: str
    taken: Counter[str] = field(default_factory=Counter)


@dataclass
class Ledger:
    """The simulated provider's ledger file, read as it grows."""

    file: Path
    purchases: list[Purchase] = field(default_factory=list)
    _read: int = 0
    _by_id: dict[tuple[str, str], Purchase] = field(default_factory=dict)

    def new(self) -> list[Purchase]:
        """Read on; returns the purchases that were made since the last time."""
        if not self.file.exists():
            return []
        with self.file.open("rb") as file:
            file.seek(self._read)
            whole = file.read().rpartition(b"\n")[0]
        self._read += len(whole) + 1 if whole else 0
        known = len(self.purchases)
        for line in whole.splitlines():
            self._enter(json.loads(line))
        return self.purchases[known:]

    def _enter(self, record: dict[str, Any]) -> None:
        key = record.get("family", ""), record.get("id", "")
        if record["record"] == "purchase":
            one = Purchase(record["id"], record["family"], record["prompt"], record["video_url"])
            self.purchases.append(one)
            self._by_id[key] = one
        elif record["record"] == "try" and record["answer"] == 200:
            self._by_id[key].taken[record["delivery"]] += 1


def assert_bought_once(tasks: Mapping[str, Found], purchases: list[Purchase]) -> None:
    """No prompt was bought twice, every purchase belongs to a task, and what succeeded has the provider's own file."""
    bought = Counter(purchase.prompt for purchase in purchases)
    assert max(bought.values(), default=0) <= 1, [prompt for prompt, number in bought.items() if number > 1]
    by_prompt = {task.prompt: task for task in tasks.values()}
    assert len(by_prompt) == len(tasks), "a task for each order"
    for purchase in purchases:
        task = by_prompt[purchase.prompt]
        assert task.provider in FAMILIES
        assert task.remote_id in (purchase.id, None), task
        if task.state == "succeeded":
            assert task.outputs == [purchase.video_url], task
    for task in tasks.values():
        assert bought[task.prompt] or task.state != "succeeded", task
