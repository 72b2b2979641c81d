"""What the page of all tasks shows: the filter it was asked for, and the links that change it.

`pages` calls `read`; the templates ask the result for links. It queries nothing itself.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.requests import Request

from receiver.core import wire
from receiver.core.states import State
from receiver.core.times import DAY
from receiver.store.reading import Filter
from receiver.web.api.requests import METADATA, ListQuery, refuse_many_filters, validate

PER_PAGE = 50
LOOK_STATES = (State.UNCONFIRMED, State.EXPIRED)
"""States in which a person may have to look at a task."""
LOOK_DAYS = 7
LOOK_SHOWN = 5

_FIELDS = ("q", "provider", "model", "since", "until", "cursor")
_MORE = frozenset({"provider", "model", "since", "until"})
_TIMES = frozenset({"since", "until"})
_WITHOUT_ZONE = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?)?")

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the reader asked to see: the pairs of the query that say something, and the filter they make."""

    pairs: Pairs
    filter: Filter

    def value(self, name: str) -> str:
        """Return what was typed into a field."""
        return next((value for known, value in self.pairs if known == name), "")

    @property
    def chosen(self) -> bool:
        """Tell whether anything but the first page of everything was asked for."""
        return bool(self.pairs)

    @property
    def narrowed(self) -> bool:
        """Tell whether one of the fields beside the search was used."""
        return any(name in _MORE for name, _ in self.pairs)

    @property
    def beside_fields(self) -> Pairs:
        """The pairs that have no field in the form and travel hidden in it."""
        return tuple(pair for pair in self.pairs if pair[0] not in _FIELDS)

    def has(self, state: State) -> bool:
        """Tell whether a state was chosen."""
        return ("state", state.value) in self.pairs

    def toggled(self, state: State) -> str:
        """Return the query that chooses a state, or leaves it out where it was chosen."""
        pair = ("state", state.value)
        rest = tuple(known for known in self._first_page() if known != pair)
        return _query(rest if pair in self.pairs else (*rest, pair))

    def any_state(self) -> str:
        """Return the query without any state."""
        return _query(tuple(pair for pair in self._first_page() if pair[0] != "state"))

    def first(self) -> str:
        """Return the query of the first page."""
        return _query(self._first_page())

    def after(self, task_id: str) -> str:
        """Return the query of the page that follows a task."""
        return _query((*self._first_page(), ("cursor", task_id)))

    def _first_page(self) -> Pairs:
        return tuple(pair for pair in self.pairs if pair[0] != "cursor")


def read(request: Request) -> Wanted:
    """Read the filter; names it does not know are left out. Raises `Invalid` for values that say something wrong."""
    known = [
        (name, wire.clean_text(value.strip()))
        for name, value in dict.fromkeys(request.query_params.multi_items())
        if name in (*_FIELDS, "state") or name.startswith(METADATA)
    ]
    pairs = tuple((name, value) for name, value in known if value)
    fields = {name: _zoned(value) if name in _TIMES else value for name, value in pairs if name in _FIELDS}
    metadata = {name.removeprefix(METADATA): value for name, value in pairs if name.startswith(METADATA)}
    refuse_many_filters(metadata)
    query = validate(ListQuery, {**fields, "state": [value for name, value in pairs if name == "state"]}, "query")
    wanted = Filter(
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
    return Wanted(pairs, wanted)


def attention(now: int) -> Filter:
    """Return the filter of the tasks that a person may have to look at, the youngest."""
    return Filter(states=LOOK_STATES, since=now - LOOK_DAYS * DAY, limit=LOOK_SHOWN)


def by_state(counted: Mapping[tuple[str, State], int], provider: str | None) -> dict[State, int]:
    """Add up the tasks of one account, or of all, by state."""
    return {
        state: sum(number for (account, of), number in counted.items() if of is state and provider in (None, account))
        for state in State
    }


def _query(pairs: Pairs) -> str:
    return f"?{urlencode(pairs)}" if pairs else ""


def _zoned(value: str) -> str:
    """Complete what a browser's field for date and time gives; its label says that it means UTC."""
    if not _WITHOUT_ZONE.fullmatch(value):
        return value
    return f"{value}Z" if "T" in value else f"{value}T00:00Z"
