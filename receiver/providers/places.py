"""What the name of a field says about a URL that stands in it: a result, of which kind, or one of the things beside it.

`results` reads every field of a success through here. It knows names only, never a provider.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

MAX_NAME = 64
"""Characters of a field's name; no longer one says anything."""

_KINDS = (
    ("video", ("video", "movie", "mp4", "clip")),
    ("audio", ("audio", "music", "song", "sound", "voice", "speech", "mp3", "track")),
    ("image", ("image", "img", "picture", "photo")),
)
_ADDRESS = re.compile(r"(url|uri|link|href|src)s?$")
_OF_FILES = """
    media file files work works creation creations artifact artifacts asset assets resource resources generation
    generations sample samples gif webm wav url urls uri uris link links
"""
"""Names of files, besides the kinds: what stands in them is no further from the task than the task itself."""
_OF_RESULTS = """
    output outputs result results data response content contents payload primary download downloads raw
"""
"""Names of a result, and of the records that relays wrap it in."""
_OF_TALK = "message msg description title name text comment caption model id type instructions tags"
"""Fields in which a URL is part of what is said."""
_OF_OTHERS = """
    user users owner author creator profile icon doc docs documentation help support error errors usage log logs mask
    ref refs source sources get cancel web self status query poll share page api edit upload uploads permalink license
    billing pricing legal policy args arguments options config configuration settings req headers init tail
"""
"""Names of what is no result, however deep."""

_WITHOUT_WATERMARK = re.compile(r"(no|non|without|un|free|removed?)watermark|watermark(free|less|removed)")
_BESIDE = re.compile(
    r"watermark|cover|poster|thumb|preview|snapshot|sprite|(?<!up)stream"
    r"|callback|notify|hook|param|input|request|prompt|reference|avatar|polling|logo|favicon|placeholder"
    r"|^(fetch|response|detail|task|job)(result)?(url|uri|link)$"
)
_FRAME = re.compile(r"(?:^|_)(first|last|start|end|tail|head)_?(frame|image)")
"""What a result comes with and is not: other versions, pictures of it, what was ordered, where else to ask."""
_EARLIER = re.compile(r"origin")

_FILES, _RESULTS = frozenset(_OF_FILES.split()), frozenset(_OF_RESULTS.split())
_TALK, _OTHERS = frozenset(_OF_TALK.split()), frozenset(_OF_OTHERS.split())


@dataclass(frozen=True, slots=True)
class Place:
    """What a name says. `kind` is of the files in it, None where it says none.

    `beside` are fields in which no result stands, however deep. `address` says that the name is one of a URL, `named`
    that a URL in it is a result, `talk` that it is not, and `wraps` that what is in it is a level further away.
    """

    kind: str | None
    beside: bool
    address: bool
    named: bool
    talk: bool
    wraps: bool


_LONG = Place(None, beside=True, address=False, named=False, talk=True, wraps=True)


def place_of(name: str) -> Place:
    """Read a field's name, however it is written: `resultVideoUrl`, `result_video_url`, `resultvideourl`."""
    return _read(name) if len(name) <= MAX_NAME else _LONG  # strangers name fields: no long name is remembered


@lru_cache(maxsize=4096)
def _read(name: str) -> Place:
    words = _words(name)
    squashed = "".join(words)
    kind = _kind(squashed)
    address = _ADDRESS.search(squashed) is not None
    files = kind is not None or not _FILES.isdisjoint(words)
    return Place(
        kind,
        beside=_is_beside(words, squashed, says_file=address or files or len(words) == 1),
        address=address,
        named=address or files or not _RESULTS.isdisjoint(words),
        talk=squashed in _TALK,
        wraps=not files,
    )


def _words(name: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.findall(r"[a-z0-9]+", spaced.lower())


def _kind(squashed: str) -> str | None:
    """Return the kind that is named last: `image_to_video_url` is a video."""
    found = [(squashed.rfind(word), kind) for kind, words in _KINDS for word in words]
    where, kind = max(found)
    return kind if where >= 0 else None


def _is_beside(words: list[str], squashed: str, *, says_file: bool) -> bool:
    squashed = _WITHOUT_WATERMARK.sub("", squashed)
    if _BESIDE.search(squashed) or _FRAME.search("_".join(words)) or not _OTHERS.isdisjoint(words):
        return True
    return says_file and _EARLIER.search(squashed) is not None
