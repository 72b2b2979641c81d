"""What counts as the URL of a produced file, and of what kind that is. Pure; only the provider files call this."""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from receiver.core import wire
from receiver.core.messages import Output
from receiver.providers.base import endpoint

MAX_OUTPUTS = 100
"""Files taken of one result; real ones have under twenty."""

_ABSOLUTE = re.compile(r"https?://[^\s/?#\\<>\"']+(?:[/?#][^\s<>\"]*)?", re.IGNORECASE)
_WITH_BLANKS = re.compile(r"https?://[^\s/?#\\<>\"']+/[^\t\r\n<>\"]+", re.IGNORECASE)
_ROOTED = re.compile(r"/[^\s/\\<>\"][^\s\\<>\"]*")
_RELATIVE = re.compile(r"[^\s/:?#\\<>\"]+/[^\s:\\<>\"]+")
_IMAGE_TEXT = "/9j/"
"""How a JPEG that is written as text begins."""
_CLIMBS = re.compile(r"(^|/)\.\.(/|$)")
_OURS = re.compile(r"/callbacks/([^/]+)/(tsk_|\1\.)")
"""A callback URL, under whatever name it is handed back."""
_KINDS = {
    **dict.fromkeys(("mp4", "mov", "webm", "m4v", "mkv", "avi", "m3u8"), "video"),
    **dict.fromkeys(("jpg", "jpeg", "png", "webp", "gif", "avif", "bmp", "tiff", "heic", "svg"), "image"),
    **dict.fromkeys(("mp3", "wav", "m4a", "ogg", "opus", "aac", "flac"), "audio"),
    **dict.fromkeys(("zip", "glb", "gltf", "obj", "fbx", "usdz", "stl", "pdf", "srt", "vtt", "txt", "json"), "file"),
}


def files_at(urls: Iterable[Any], base: str, kind: str = "video") -> tuple[Output, ...]:
    """Take every distinct URL as that of a produced file, in order, up to `MAX_OUTPUTS`."""
    made: dict[str, Output] = {}
    for value in urls:
        url = address(value, base) if value else None
        if url is not None and url not in made and len(made) < MAX_OUTPUTS:
            made[url] = Output(wire.clean_text(url), kind_of(url) or kind)
    return tuple(made.values())


def address(value: Any, base: str) -> str | None:
    """Read a URL, or the path of one below `base`; anything else is None."""
    if not isinstance(value, str) or len(value) > wire.MAX_URL_LENGTH:
        return None
    text = value.strip()
    if _ABSOLUTE.fullmatch(text) or (_WITH_BLANKS.fullmatch(text) and kind_of(text) is not None):
        return None if "/callbacks/" in text and _OURS.search(text) else text
    if text.startswith("//") and _ABSOLUTE.fullmatch(f"https:{text}"):
        return f"{urlsplit(base).scheme}:{text}"
    path, mark, query = text.partition("?")
    if text.startswith(_IMAGE_TEXT):
        return None
    if _ROOTED.fullmatch(text) or (_RELATIVE.fullmatch(text) and kind_of(text) is not None):
        return None if _CLIMBS.search(path) or _OURS.search(text) else endpoint(base, path) + mark + query
    return None


def kind_of(url: str) -> str | None:
    """Tell by the end of a URL's path what kind of file it is of; None where it does not say."""
    path = url.partition("?")[0].partition("#")[0]
    return _KINDS.get(path.rpartition(".")[2].lower())


def is_path(text: str) -> bool:
    """Tell whether a text could only be the path of a URL."""
    return not text.lower().startswith(("http://", "https://", "//"))
