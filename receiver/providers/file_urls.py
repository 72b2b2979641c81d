"""What counts as the URL of a produced file, and of which kind it is. Pure; only the provider files call it."""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from receiver.core import wire
from receiver.core.messages import Output
from receiver.providers.base import join_url

MAX_OUTPUTS = 100
"""Files of one result; real ones have under twenty."""

_ABSOLUTE = re.compile(r"https?://[^\s/?#\\<>\"']+(?:[/?#][^\s<>\"]*)?", re.IGNORECASE)
_WITH_SPACES = re.compile(r"https?://[^\s/?#\\<>\"']+/[^\t\r\n<>\"]+", re.IGNORECASE)
_ROOTED = re.compile(r"/[^\s/\\<>\"][^\s\\<>\"]*")
_RELATIVE = re.compile(r"[^\s/:?#\\<>\"]+/[^\s:\\<>\"]+")
_IMAGE_TEXT = "/9j/"
"""The beginning of a JPEG in base64."""
_PARENT_SEGMENT = re.compile(r"(^|/)\.\.(/|$)")
_OWN_CALLBACK_URL = re.compile(r"/callbacks/([^/]+)/(tsk_|\1\.)")
"""A callback URL of ours that a provider echoes."""
_KINDS = {
    **dict.fromkeys(("mp4", "mov", "webm", "m4v", "mkv", "avi", "m3u8"), "video"),
    **dict.fromkeys(("jpg", "jpeg", "png", "webp", "gif", "avif", "bmp", "tiff", "heic", "svg"), "image"),
    **dict.fromkeys(("mp3", "wav", "m4a", "ogg", "opus", "aac", "flac"), "audio"),
    **dict.fromkeys(("zip", "glb", "gltf", "obj", "fbx", "usdz", "stl", "pdf", "srt", "vtt", "txt", "json"), "file"),
}


def make_outputs(urls: Iterable[Any], base: str, kind: str = "video") -> tuple[Output, ...]:
    """Return an output for every distinct URL, in order, up to `MAX_OUTPUTS`."""
    made: dict[str, Output] = {}
    for value in urls:
        url = resolve_url(value, base) if value else None
        if url is not None and url not in made and len(made) < MAX_OUTPUTS:
            made[url] = Output(wire.clean_text(url), kind_by_extension(url) or kind)
    return tuple(made.values())


def resolve_url(value: Any, base: str) -> str | None:
    """Return a URL, or a path as a URL below `base`; None for anything else."""
    if not isinstance(value, str) or len(value) > wire.MAX_URL_LENGTH:
        return None
    text = value.strip()
    if _ABSOLUTE.fullmatch(text) or (_WITH_SPACES.fullmatch(text) and kind_by_extension(text) is not None):
        return None if "/callbacks/" in text and _OWN_CALLBACK_URL.search(text) else text
    if text.startswith("//") and _ABSOLUTE.fullmatch(f"https:{text}"):
        return f"{urlsplit(base).scheme}:{text}"
    path, mark, query = text.partition("?")
    if text.startswith(_IMAGE_TEXT):
        return None
    if _ROOTED.fullmatch(text) or (_RELATIVE.fullmatch(text) and kind_by_extension(text) is not None):
        return (
            None
            if _PARENT_SEGMENT.search(path) or _OWN_CALLBACK_URL.search(text)
            else join_url(base, path) + mark + query
        )
    return None


def kind_by_extension(url: str) -> str | None:
    """Return the kind of file by the extension in a URL's path; None if it is unknown."""
    path = url.partition("?")[0].partition("#")[0]
    return _KINDS.get(path.rpartition(".")[2].lower())


def is_path(text: str) -> bool:
    """Return whether a text could only be the path of a URL."""
    return not text.lower().startswith(("http://", "https://", "//"))
