"""What a file is, by its first bytes: names and headers lie. Pure."""

import re
from dataclasses import dataclass

BEGINNING = 512
"""Bytes that are enough to tell."""


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type and the ending of its files' names."""

    name: str
    ending: str

    @property
    def kind(self) -> str:
        """Return `image`, `video`, `audio` or `application`."""
        return self.name.partition("/")[0]


UNKNOWN = MediaType("application/octet-stream", ".bin")
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", MediaType("image/png", ".png")),
    (b"\xff\xd8\xff", MediaType("image/jpeg", ".jpg")),
    (b"GIF87a", MediaType("image/gif", ".gif")),
    (b"GIF89a", MediaType("image/gif", ".gif")),
    (b"II*\0", MediaType("image/tiff", ".tif")),
    (b"MM\0*", MediaType("image/tiff", ".tif")),
    (b"ID3", MediaType("audio/mpeg", ".mp3")),
    (b"fLaC", MediaType("audio/flac", ".flac")),
    (b"FLV\x01", MediaType("video/x-flv", ".flv")),
    *((bytes((0xFF, second)), MediaType("audio/aac", ".aac")) for second in (0xF1, 0xF9)),
    *((bytes((0xFF, second)), MediaType("audio/mpeg", ".mp3")) for second in (0xFB, 0xFA, 0xF3, 0xF2)),
)
_RIFF = {
    b"WEBP": MediaType("image/webp", ".webp"),
    b"WAVE": MediaType("audio/wav", ".wav"),
    b"AVI ": MediaType("video/x-msvideo", ".avi"),
}
_BRANDS = {
    b"qt  ": MediaType("video/quicktime", ".mov"),
    b"M4A ": MediaType("audio/mp4", ".m4a"),
    b"M4B ": MediaType("audio/mp4", ".m4a"),
    b"avif": MediaType("image/avif", ".avif"),
    b"avis": MediaType("image/avif", ".avif"),
    b"heic": MediaType("image/heic", ".heic"),
    b"heix": MediaType("image/heic", ".heic"),
    b"mif1": MediaType("image/heif", ".heif"),
}
_MP4 = MediaType("video/mp4", ".mp4")
_WEBM = MediaType("video/webm", ".webm")
_MATROSKA = MediaType("video/x-matroska", ".mkv")
_OGG_VIDEO = MediaType("video/ogg", ".ogv")
_OGG_AUDIO = MediaType("audio/ogg", ".ogg")
_MARKUP = re.compile(rb"\s*(?:<!doctype html|<html|<head|<body|<\?xml|<error|<!--)", re.IGNORECASE)
_JSON = re.compile(rb'\s*(?:\{\s*(?:"|\})|\[\s*(?:[\[{"\d\]-]|true|false|null))')


def sniff(beginning: bytes) -> MediaType:
    """Return what a file is that begins like this: an image, video or audio that browsers know, else `UNKNOWN`."""
    fixed = (found for signature, found in _SIGNATURES if beginning.startswith(signature))
    return next(fixed, None) or _container(beginning) or UNKNOWN


def _container(beginning: bytes) -> MediaType | None:
    """Return what is in a container, by the place where its kind names that."""
    if beginning[:4] == b"RIFF":
        return _RIFF.get(beginning[8:12])
    if beginning[4:8] == b"ftyp":
        return _BRANDS.get(beginning[8:12], _MP4)
    if beginning[:4] == b"\x1aE\xdf\xa3":
        return _WEBM if b"webm" in beginning[:64] else _MATROSKA
    if beginning[:4] == b"OggS":
        return _OGG_VIDEO if b"theora" in beginning[:128] else _OGG_AUDIO
    return None


def is_error_page(beginning: bytes, kind: str) -> bool:
    """Return whether a file that should be of this kind (`video`, `image`, `audio`, `file`) is a page or a message.

    Of a `file` nobody knows what it should be: it may be JSON.
    """
    text = beginning.removeprefix(b"\xef\xbb\xbf")
    return bool(_MARKUP.match(text)) or (kind != "file" and bool(_JSON.match(text)))
