"""The filter of the task list page, and the links that change it.

`routes` calls `read`; the templates take the links from its result. Nothing is queried here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.requests import Request

from receiver.core import wire
from receiver.core.states import State
from receiver.store.reading import Filter
from receiver.web.api.requests import METADATA, ListQuery, refuse_many_filters, validate

PER_PAGE = 50

_FIELDS = ("q", "provider", "model", "since", "until", "cursor")
_MORE = frozenset({"provider", "model", "since", "until"})
_TIMES = frozenset({"since", "until"})
_WITHOUT_ZONE = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?)?")

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class TaskSelection:
    """The tasks that the page was asked for: the query's non-empty pairs, and the filter that they make."""

    pairs: Pairs
    filter: Filter

    def value(self, name: str) -> str:
        """Return the value of a field."""
        return next((value for known, value in self.pairs if known == name), "")

    @property
    def is_filtered(self) -> bool:
        """Return whether anything but the first page of all tasks was asked for."""
        return bool(self.pairs)

    @property
    def uses_more_filters(self) -> bool:
        """Return whether one of the fields under "More filters" is used."""
        return any(name in _MORE for name, _ in self.pairs)

    @property
    def hidden_pairs(self) -> Pairs:
        """The pairs that have no visible field in the form."""
        return tuple(pair for pair in self.pairs if pair[0] not in _FIELDS)

    def has(self, state: State) -> bool:
        """Return whether a state is selected."""
        return ("state", state.value) in self.pairs

    def toggled(self, state: State) -> str:
        """Return the query that selects a state, or deselects it."""
        pair = ("state", state.value)
        rest = tuple(known for known in self._first_page() if known != pair)
        return _query(rest if pair in self.pairs else (*rest, pair))

    def any_state(self) -> str:
        """Return the query without a state."""
        return _query(tuple(pair for pair in self._first_page() if pair[0] != "state"))

    def first(self) -> str:
        """Return the query of the first page."""
        return _query(self._first_page())

    def after(self, task_id: str) -> str:
        """Return the query of the page that follows a task."""
        return _query((*self._first_page(), ("cursor", task_id)))

    def _first_page(self) -> Pairs:
        return tuple(pair for pair in self.pairs if pair[0] != "cursor")


def read(request: Request) -> TaskSelection:
    """Return the selection; unknown names are ignored. Raises `Invalid` for invalid values."""
    known = [
        (name, wire.clean_text(value.strip()))
        for name, value in dict.fromkeys(request.query_params.multi_items())
        if name in (*_FIELDS, "state") or name.startswith(METADATA)
    ]
    pairs = tuple((name, value) for name, value in known if value)
    fields = {name: _in_utc(value) if name in _TIMES else value for name, value in pairs if name in _FIELDS}
    metadata = {name.removeprefix(METADATA): value for name, value in pairs if name.startswith(METADATA)}
    refuse_many_filters(metadata)
    query = validate(ListQuery, {**fields, "state": [value for name, value in pairs if name == "state"]}, "query")
    selected = Filter(
        states=query.state,
        provider=query.provider,
        model=query.model,
        q=query.q,
        metadata=metadata,
        since=None if query.since is None else round(query.since.timestamp() * 1000),
        until=None if query.until is None else round(query.until.timestamp() * 1000),
        before=query.cursor,
        limit=PER_PAGE,
    )
    return TaskSelection(pairs, selected)


def sum_by_state(counted: Mapping[tuple[str, State], int], provider: str | None) -> dict[State, int]:
    """Return the number of tasks in each state, of one account or of all."""
    return {
        state: sum(number for (account, of), number in counted.items() if of is state and provider in (None, account))
        for state in State
    }


def _query(pairs: Pairs) -> str:
    return f"?{urlencode(pairs)}" if pairs else ""


def _in_utc(value: str) -> str:
    """Return the value of a browser's date and time field with a zone: its label says that it is in UTC."""
    if not _WITHOUT_ZONE.fullmatch(value):
        return value
    return f"{value}Z" if "T" in value else f"{value}T00:00Z"
