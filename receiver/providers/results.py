"""Finds a success's result: in each family's own fields first, else by one bounded search of the whole message.

Relays pass on their upstream's record, nested and under its own names, so no list of fields is ever complete. Only the
provider files and `lifecycle` call it; it does no I/O and never raises.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from receiver.core import wire
from receiver.core.errors import Unreadable
from receiver.core.messages import Event, Output
from receiver.providers.field_names import FieldMeaning, interpret_field_name
from receiver.providers.file_urls import MAX_OUTPUTS, is_path, kind_by_extension, make_outputs, resolve_url

MAX_RESULT = 262_144
"""Characters of a result that is not files; every list of tasks includes it."""
TOO_LARGE = f"The provider's result has more than {MAX_RESULT} characters, so it was not stored."
MAX_DEPTH = 16
MAX_VALUES = 5_000
MAX_TEXTS = 20
"""JSON strings that are parsed; real messages have under five."""

_REASONS = frozenset({"fail_reason", "failReason", "failMsg", "fail_msg"})
"""Some relays put a success's URL here, because their table has no other field for it."""
_OBJECTS = frozenset(
    {"resultobject", "lyricsdata", "sunodata", "lyrics", "lyric", "transcript", "transcription", "texts"}
)
"""Results that are not files."""
_SAID = frozenset({"text", "answer"})
"""Likewise, within a nested record; at the top they may be the order's input."""
_NAMED, _REASON, _UNNAMED = range(3)


@dataclass(frozen=True, slots=True)
class Found:
    """A result: files, or something that is not files. `location` is where the search found it."""

    outputs: tuple[Output, ...] = ()
    result: Any = None
    location: str | None = None
    notices: tuple[str, ...] = ()


def find_result(
    body: Mapping[str, Any], own: Iterable[Any], base: str, *, result: Any = None, kind: str = "video"
) -> Found:
    """Return a success's result from the family's own fields; if those are empty, search the message for it.

    `own` are the URLs in those fields, of that kind unless their extension says otherwise; `result` is a result that is
    not files. Relative URLs are resolved against `base`.
    """
    outputs = make_outputs(own, base, kind)
    return Found(outputs, result) if outputs or result is not None else search_message(body, base)


def search_message(body: Mapping[str, Any], base: str) -> Found:
    """Return the result that a bounded search of a success's message finds."""
    search = _Search(base)
    search.visit(body, _Location())
    outputs, location = search.choose_files()
    if outputs:
        return Found(outputs, location=location)
    for _, location, value in sorted(search.results, key=lambda found: found[0]):
        if len(json.dumps(value)) > MAX_RESULT:
            return Found(notices=(TOO_LARGE,))
        return Found(result=value, location=location)
    return Found()


def drop_inputs(event: Event, given: str) -> Event:
    """Return an event without the order's input files, which a record may echo; `given` is the input as JSON."""
    kept = tuple(output for output in event.outputs if json.dumps(output.url) not in given)
    return event if len(kept) == len(event.outputs) else replace(event, outputs=kept)


_TOP = FieldMeaning(None, is_unrelated=False, is_url=False, is_result=False, is_prose=False, wraps=True)


@dataclass(frozen=True, slots=True)
class _Location:
    """Where a value is: its path, what its field's name means, and how deeply it is nested."""

    path: str = ""
    name: str = ""
    meaning: FieldMeaning = _TOP
    kind: str | None = None
    level: int = 0
    depth: int = 0
    listed: Any = None
    """The list of objects that it is in."""

    def into(self, name: str) -> "_Location":
        meaning = interpret_field_name(name)
        path = wire.truncate(f"{self.path}.{name}" if self.path else name, 200)
        is_result = meaning.is_result or (self.meaning.is_result and not meaning.is_prose and not self.meaning.wraps)
        meaning = replace(meaning, is_result=is_result) if is_result != meaning.is_result else meaning
        level = self.level + (self.meaning.wraps and self.name != "")
        return _Location(path, name, meaning, meaning.kind or self.kind, level, self.depth + 1, self.listed)

    def item(self, of: Any) -> "_Location":
        listed = of if self.listed is None and any(isinstance(value, dict) for value in of) else self.listed
        return replace(self, path=f"{self.path}[]", depth=self.depth + 1, listed=listed)


@dataclass(slots=True)
class _Search:
    """One search: how much more it may visit, and what it has found."""

    base: str
    values: int = MAX_VALUES
    texts: int = MAX_TEXTS
    files: list[tuple[tuple[int, int], str, str, "_Location"]] = field(default_factory=list)
    """Of each: its rank and its level of nesting, its URL, its kind, and its location."""
    results: list[tuple[int, str, Any]] = field(default_factory=list)

    def visit(self, value: Any, at: _Location) -> None:
        self.values -= 1
        if self.values < 0 or at.depth > MAX_DEPTH:
            return
        if isinstance(value, dict):
            self._take_result(value, at)
            for name, inner in value.items():
                if self.values < 0:
                    return
                further = at.into(name)
                if not further.meaning.is_unrelated or name in _REASONS:
                    self.visit(inner, further)
        elif isinstance(value, list):
            self._take_result(value, at)
            items = at.item(value)
            for inner in value:
                if self.values < 0:
                    return
                self.visit(inner, items)
        elif isinstance(value, str) and value:
            self._visit_text(value, at)

    def _visit_text(self, value: str, at: _Location) -> None:
        text = value.strip()
        if text[:1] in ("{", "[", '"') and self.texts > 0 and at.name not in _REASONS:
            self.texts -= 1
            try:
                self.visit(wire.read_nested(text), replace(at, depth=at.depth + 1))
            except Unreadable:
                self._take_result(text, at)
        elif not self._take_file(text, at):
            self._take_result(text, at)

    def _take_file(self, text: str, at: _Location) -> bool:
        known = kind_by_extension(text)
        if at.name in _REASONS:
            rank = _REASON
        elif at.meaning.is_result and not at.meaning.is_prose:
            rank = _NAMED
        else:
            rank = _UNNAMED
        if is_path(text) and not (rank == _NAMED and (at.meaning.is_url or at.kind)):
            return False
        if rank == _UNNAMED and (known not in ("video", "image", "audio") or at.meaning.is_prose):
            return False
        url = resolve_url(text, self.base)
        if url is not None:
            self.files.append(((rank, at.level), url, known or at.kind or "video", at))
        return url is not None

    def _take_result(self, value: Any, at: _Location) -> None:
        """Record a value that is not a file but is named as a result, unless its files are still missing."""
        squashed = at.name.replace("_", "").lower()
        said = squashed in _SAID and at.level > 0
        if not value or not (said or squashed in _OBJECTS or (squashed in ("output", "result") and _is_prose(value))):
            return
        whole = at.listed if at.listed is not None and not isinstance(value, list) else value
        path = at.path.rpartition("[]")[0] if whole is not value else at.path
        if not _awaits_files(whole) and all(found[1] != path for found in self.results):
            self.results.append((at.level, path, whole))

    def choose_files(self) -> tuple[tuple[Output, ...], str | None]:
        """Return the files of the best and least nested group, or of another that contains all of them and more.

        A group of images only comes after those with videos or sounds, of which they may be previews.
        """
        groups: dict[tuple[int, int], dict[str, tuple[str, _Location]]] = {}
        for rank, url, kind, at in self.files:
            groups.setdefault(rank, {}).setdefault(url, (kind, at))
        taken: dict[str, tuple[str, _Location]] = {}
        for rank in sorted(groups, key=lambda rank: (rank[0], all(map(_is_picture, groups[rank].values())), rank[1])):
            taken = groups[rank] if taken.keys() < groups[rank].keys() else taken
        if any(kind in ("video", "audio") for kind, _ in taken.values()):  # images beside them are previews
            taken = {url: it for url, it in taken.items() if not _is_picture(it)}
        outputs = tuple(Output(wire.clean_text(url), kind) for url, (kind, _) in taken.items())[:MAX_OUTPUTS]
        return outputs, next((at.path for _, at in taken.values()), None)


def _is_picture(found: tuple[str, _Location]) -> bool:
    """Return whether an image is also named as one: beside a video or a sound it is a preview."""
    kind, at = found
    return kind == at.kind == "image"


def _is_prose(value: Any) -> bool:
    """Return whether a value is text that a model wrote, not a word such as `success`, an id or a URL."""
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value) and _is_prose("".join(value))
    return isinstance(value, str) and "://" not in value and (" " in value or "\n" in value or not value.isascii())


def _awaits_files(value: Any) -> bool:
    """Return whether a result has fields for files that are still empty."""
    return any(
        interpret_field_name(name).is_url and not interpret_field_name(name).is_unrelated and inner in (None, "", [])
        for record in _records(value)
        for name, inner in record.items()
    )


def _records(value: Any) -> Iterator[Mapping[str, Any]]:
    for item in value[:100] if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            yield item
