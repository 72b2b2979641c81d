"""What a success brings: each family's own places first, and one bounded search beneath them.

Relays hand their upstream's own record through, a level or two down and under its own names, so that a longer list of
places would never be long enough. Only the provider files and `lifecycle` call this; it does no I/O and never raises.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from receiver.core import wire
from receiver.core.errors import Unreadable
from receiver.core.messages import Event, Output
from receiver.providers.file_urls import MAX_OUTPUTS, address, files_at, is_path, kind_of
from receiver.providers.places import Place, place_of

MAX_RESULT = 262_144
"""Characters of a result that is not files; every list of tasks shows it."""
TOO_LARGE = f"The provider's result has more than {MAX_RESULT} characters, so it was not taken."
MAX_DEPTH = 16
MAX_VALUES = 5_000
MAX_TEXTS = 20
"""JSON texts within that are read; real messages have under five."""

_REASONS = frozenset({"fail_reason", "failReason", "failMsg", "fail_msg"})
"""Where some relays put a success's URL: there is no other field for it in their table."""
_OBJECTS = frozenset(
    {"resultobject", "lyricsdata", "sunodata", "lyrics", "lyric", "transcript", "transcription", "texts"}
)
"""Results that are no files."""
_SAID = frozenset({"text", "answer"})
"""Likewise, within a record of the upstream; beside the task's state they may be what was ordered."""
_NAMED, _REASON, _UNNAMED = range(3)


@dataclass(frozen=True, slots=True)
class Found:
    """What was found: files, or a result that is not files. `place` tells where, of what the search found."""

    outputs: tuple[Output, ...] = ()
    result: Any = None
    place: str | None = None
    notices: tuple[str, ...] = ()


def find(body: Mapping[str, Any], own: Iterable[Any], base: str, *, result: Any = None, kind: str = "video") -> Found:
    """Take a success's result from the family's own places; where those are empty, search the message for it.

    `own` are the values that stand there, of that kind where their names do not tell another; `result` is what is no
    file. Relative addresses are taken as below `base`.
    """
    outputs = files_at(own, base, kind)
    return Found(outputs, result) if outputs or result is not None else search(body, base)


def search(body: Mapping[str, Any], base: str) -> Found:
    """Search a success's whole message for its result, bounded, in the order of the message."""
    looking = _Search(base)
    looking.visit(body, _Way())
    outputs, place = looking.chosen()
    if outputs:
        return Found(outputs, place=place)
    for _, place, value in sorted(looking.results, key=lambda found: found[0]):
        if len(json.dumps(value)) > MAX_RESULT:
            return Found(notices=(TOO_LARGE,))
        return Found(result=value, place=place)
    return Found()


def without_inputs(event: Event, given: str) -> Event:
    """Leave out what was ordered with, which a record may hand back; `given` is the order's input as JSON."""
    kept = tuple(output for output in event.outputs if json.dumps(output.url) not in given)
    return event if len(kept) == len(event.outputs) else replace(event, outputs=kept)


_TOP = Place(None, beside=False, address=False, named=False, talk=False, wraps=True)


@dataclass(frozen=True, slots=True)
class _Way:
    """How a value was come to: its path, the meaning of its name, and how many records lie around it."""

    path: str = ""
    name: str = ""
    place: Place = _TOP
    kind: str | None = None
    level: int = 0
    depth: int = 0
    listed: Any = None
    """The list of objects that it is in."""

    def into(self, name: str) -> "_Way":
        place = place_of(name)
        path = wire.truncate(f"{self.path}.{name}" if self.path else name, 200)
        named = place.named or (self.place.named and not place.talk and not self.place.wraps)
        place = replace(place, named=named) if named != place.named else place
        level = self.level + (self.place.wraps and self.name != "")
        return _Way(path, name, place, place.kind or self.kind, level, self.depth + 1, self.listed)

    def item(self, of: Any) -> "_Way":
        listed = of if self.listed is None and any(isinstance(value, dict) for value in of) else self.listed
        return replace(self, path=f"{self.path}[]", depth=self.depth + 1, listed=listed)


@dataclass(slots=True)
class _Search:
    """One search: what it may still look at, and what it has come upon."""

    base: str
    values: int = MAX_VALUES
    texts: int = MAX_TEXTS
    files: list[tuple[tuple[int, int], str, str, "_Way"]] = field(default_factory=list)
    """Of each: how good its place is and how far away, its URL, its kind, and the way to it."""
    results: list[tuple[int, str, Any]] = field(default_factory=list)

    def visit(self, value: Any, way: _Way) -> None:
        self.values -= 1
        if self.values < 0 or way.depth > MAX_DEPTH:
            return
        if isinstance(value, dict):
            self._take_result(value, way)
            for name, inner in value.items():
                if self.values < 0:
                    return
                further = way.into(name)
                if not further.place.beside or name in _REASONS:
                    self.visit(inner, further)
        elif isinstance(value, list):
            self._take_result(value, way)
            items = way.item(value)
            for inner in value:
                if self.values < 0:
                    return
                self.visit(inner, items)
        elif isinstance(value, str) and value:
            self._visit_text(value, way)

    def _visit_text(self, value: str, way: _Way) -> None:
        text = value.strip()
        if text[:1] in ("{", "[", '"') and self.texts > 0 and way.name not in _REASONS:
            self.texts -= 1
            try:
                self.visit(wire.read_nested(text), replace(way, depth=way.depth + 1))
            except Unreadable:
                self._take_result(text, way)
        elif not self._take_file(text, way):
            self._take_result(text, way)

    def _take_file(self, text: str, way: _Way) -> bool:
        known = kind_of(text)
        if way.name in _REASONS:
            rank = _REASON
        elif way.place.named and not way.place.talk:
            rank = _NAMED
        else:
            rank = _UNNAMED
        if is_path(text) and not (rank == _NAMED and (way.place.address or way.kind)):
            return False
        if rank == _UNNAMED and (known not in ("video", "image", "audio") or way.place.talk):
            return False
        url = address(text, self.base)
        if url is not None:
            self.files.append(((rank, way.level), url, known or way.kind or "video", way))
        return url is not None

    def _take_result(self, value: Any, way: _Way) -> None:
        """Keep what is no file under a name that says so, unless its files are still to come."""
        squashed = way.name.replace("_", "").lower()
        said = squashed in _SAID and way.level > 0
        if not value or not (said or squashed in _OBJECTS or (squashed in ("output", "result") and _is_prose(value))):
            return
        whole = way.listed if way.listed is not None and not isinstance(value, list) else value
        path = way.path.rpartition("[]")[0] if whole is not value else way.path
        if not _awaits_files(whole) and all(found[1] != path for found in self.results):
            self.results.append((way.level, path, whole))

    def chosen(self) -> tuple[tuple[Output, ...], str | None]:
        """Choose the best and nearest place that has files, or one further away that has all of those and more.

        One with nothing but images comes after those with videos and sounds, of which they may be pictures.
        """
        groups: dict[tuple[int, int], dict[str, tuple[str, _Way]]] = {}
        for rank, url, kind, way in self.files:
            groups.setdefault(rank, {}).setdefault(url, (kind, way))
        taken: dict[str, tuple[str, _Way]] = {}
        for rank in sorted(groups, key=lambda rank: (rank[0], all(map(_is_picture, groups[rank].values())), rank[1])):
            taken = groups[rank] if taken.keys() < groups[rank].keys() else taken
        if any(kind in ("video", "audio") for kind, _ in taken.values()):  # beside those an image shows what they are
            taken = {url: it for url, it in taken.items() if not _is_picture(it)}
        outputs = tuple(Output(wire.clean_text(url), kind) for url, (kind, _) in taken.items())[:MAX_OUTPUTS]
        return outputs, next((way.path for _, way in taken.values()), None)


def _is_picture(found: tuple[str, _Way]) -> bool:
    """Tell an image that is called one: beside a video or a sound it shows what that is."""
    kind, way = found
    return kind == way.kind == "image"


def _is_prose(value: Any) -> bool:
    """Tell what a model wrote from a word such as `success`, an id or a URL."""
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value) and _is_prose("".join(value))
    return isinstance(value, str) and "://" not in value and (" " in value or "\n" in value or not value.isascii())


def _awaits_files(value: Any) -> bool:
    """Tell whether a result names files that are not there yet."""
    return any(
        place_of(name).address and not place_of(name).beside and inner in (None, "", [])
        for record in _records(value)
        for name, inner in record.items()
    )


def _records(value: Any) -> Iterator[Mapping[str, Any]]:
    for item in value[:100] if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            yield item
