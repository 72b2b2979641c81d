"""What a field's name says about a URL in it: whether it is a result, and of which kind.

`results` searches a success with it. It knows names only, never a provider.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

MAX_NAME = 64
"""Characters; a longer field name is ignored."""

_KINDS = (
    ("video", ("video", "movie", "mp4", "clip")),
    ("audio", ("audio", "music", "song", "sound", "voice", "speech", "mp3", "track")),
    ("image", ("image", "img", "picture", "photo")),
)
_ADDRESS = re.compile(r"(url|uri|link|href|src)s?$")
_FILE_WORDS = """
    media file files work works creation creations artifact artifacts asset assets resource resources generation
    generations sample samples gif webm wav url urls uri uris link links
"""
"""Names of files, besides the kinds; they do not count as a level of nesting."""
_RESULT_WORDS = """
    output outputs result results data response content contents payload primary download downloads raw
"""
"""Names of results, and of the records in which relays wrap them."""
_PROSE_NAMES = "message msg description title name text comment caption model id type instructions tags"
"""Names of prose, in which a URL is only mentioned."""
_UNRELATED_WORDS = """
    user users owner author creator profile icon doc docs documentation help support error errors usage log logs mask
    ref refs source sources get cancel web self status query poll share page api edit upload uploads permalink license
    billing pricing legal policy args arguments options config configuration settings req headers init tail
"""
"""Names of fields that hold no result, however deep."""

_WITHOUT_WATERMARK = re.compile(r"(no|non|without|un|free|removed?)watermark|watermark(free|less|removed)")
_UNRELATED = re.compile(
    r"watermark|cover|poster|thumb|preview|snapshot|sprite|(?<!up)stream"
    r"|callback|notify|hook|param|input|request|prompt|reference|avatar|polling|logo|favicon|placeholder"
    r"|^(fetch|response|detail|task|job)(result)?(url|uri|link)$"
)
_FRAME = re.compile(r"(?:^|_)(first|last|start|end|tail|head)_?(frame|image)")
"""What comes with a result but is none: other versions, previews, the order's inputs, status URLs."""
_EARLIER = re.compile(r"origin")

_FILES, _RESULTS = frozenset(_FILE_WORDS.split()), frozenset(_RESULT_WORDS.split())
_PROSE, _OTHERS = frozenset(_PROSE_NAMES.split()), frozenset(_UNRELATED_WORDS.split())


@dataclass(frozen=True, slots=True)
class FieldMeaning:
    """What a field's name says. `kind` is the kind of the files in it, if it says so.

    An `is_unrelated` field holds no result, however deep. `is_url` says that the name is that of a URL,
    `is_result` that a URL in it is a result, `is_prose` that it is not; `wraps` that the field adds a level of nesting.
    """

    kind: str | None
    is_unrelated: bool
    is_url: bool
    is_result: bool
    is_prose: bool
    wraps: bool


_LONG = FieldMeaning(None, is_unrelated=True, is_url=False, is_result=False, is_prose=True, wraps=True)


def interpret_field_name(name: str) -> FieldMeaning:
    """Return what a field's name says, in any style: `resultVideoUrl`, `result_video_url`, `resultvideourl`."""
    return _interpret(name) if len(name) <= MAX_NAME else _LONG  # names are untrusted: cache no long ones


@lru_cache(maxsize=4096)
def _interpret(name: str) -> FieldMeaning:
    words = _words(name)
    squashed = "".join(words)
    kind = _kind(squashed)
    address = _ADDRESS.search(squashed) is not None
    files = kind is not None or not _FILES.isdisjoint(words)
    return FieldMeaning(
        kind,
        is_unrelated=_is_unrelated(words, squashed, says_file=address or files or len(words) == 1),
        is_url=address,
        is_result=address or files or not _RESULTS.isdisjoint(words),
        is_prose=squashed in _PROSE,
        wraps=not files,
    )


def _words(name: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.findall(r"[a-z0-9]+", spaced.lower())


def _kind(squashed: str) -> str | None:
    """Return the last kind in a name: `image_to_video_url` is a video."""
    found = [(squashed.rfind(word), kind) for kind, words in _KINDS for word in words]
    where, kind = max(found)
    return kind if where >= 0 else None


def _is_unrelated(words: list[str], squashed: str, *, says_file: bool) -> bool:
    squashed = _WITHOUT_WATERMARK.sub("", squashed)
    if _UNRELATED.search(squashed) or _FRAME.search("_".join(words)) or not _OTHERS.isdisjoint(words):
        return True
    return says_file and _EARLIER.search(squashed) is not None
