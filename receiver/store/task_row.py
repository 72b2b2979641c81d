"""A task as a transaction sees it: `TaskRow` is what a change may depend on, `TaskChanges` what it writes.

JSON columns are decoded once, when the row is read, and encoded once, when changes are written.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypedDict

from receiver.core.states import State
from receiver.store.tables import as_json


@dataclass(slots=True)
class TaskRow:
    """The columns of a task that decide about its changes, kept up to date for as long as its transaction lasts.

    Times are Unix milliseconds, credits millionths. `pending` is a final event that awaits its confirmation, as
    `lifecycle.pending` writes it. The column `input` and other large texts are left out.
    """

    id: str
    provider: str
    model: str
    state: State
    remote_id: str | None
    remote_state: str | None
    progress: float | None
    error_code: str | None
    error_message: str | None
    estimated: int | None
    reserved: int | None
    charged: int | None
    notices: list[str]
    pending: dict[str, Any] | None
    attempts: int
    checks: int
    deliveries: int
    unstored: int
    empties: int
    gaps: int
    callback_url: bool
    claim: int
    leased_until: int | None
    next_check_at: int | None
    next_check_because: str | None
    created_at: int
    held_by: str | None
    deadline_from: int | None
    submitted_at: int | None
    adopted_at: int | None
    fresh_links_until: int | None
    finished_at: int | None
    updated_at: int
    notify_url: str | None

    @classmethod
    def of(cls, values: tuple[Any, ...]) -> "TaskRow":
        """Decode the values of these columns, in their order."""
        row = cls(*values)
        row.state = State(row.state)
        row.notices = [] if values[_NOTICES] == "[]" else json.loads(values[_NOTICES])
        row.pending = None if values[_PENDING] is None else json.loads(values[_PENDING])
        return row

    def update(self, changes: "TaskChanges") -> None:
        """Take over what was written."""
        for name, value in changes.items():
            if name in _NAMES:
                setattr(self, name, value)


class TaskChanges(TypedDict, total=False):
    """The columns of a task that may change after it was stored."""

    state: State
    remote_id: str | None
    remote_state: str | None
    progress: float | None
    result: Any
    error_code: str | None
    error_message: str | None
    reserved: int | None
    charged: int | None
    settled_by: str | None
    token_seen: bool
    signature: str | None
    confirmed_at: int | None
    notices: list[str]
    pending: dict[str, Any] | None
    attempts: int
    checks: int
    deliveries: int
    unstored: int
    empties: int
    gaps: int
    callback_url: bool
    may_have_cost: bool
    leased_until: int | None
    next_check_at: int | None
    next_check_because: str | None
    held_by: str | None
    deadline_from: int | None
    submitted_at: int | None
    adopted_at: int | None
    fresh_links_until: int | None
    finished_at: int | None
    updated_at: int


COLUMNS = tuple(field.name for field in fields(TaskRow))
"""The columns that a `TaskRow` is read from, in their order."""
_NAMES = frozenset(COLUMNS)
_NOTICES, _PENDING = COLUMNS.index("notices"), COLUMNS.index("pending")
_JSON = ("notices", "pending", "result")


def encoded(changes: TaskChanges) -> Mapping[str, Any]:
    """Return changes as the database stores them."""
    values: dict[str, Any] = dict(changes)
    if "state" in values:
        values["state"] = values["state"].value
    for name in _JSON:
        if values.get(name) is not None:
            values[name] = as_json(values[name])
    return values
