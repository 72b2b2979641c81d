"""Makes one poster: reads a file from standard input, writes a small WebP to standard output. A process of its own.

`posters` starts it, for files that strangers made: decoders have bugs, and a small file may hold a huge picture. So it
has little memory, little time and a low priority, and whatever it does, it does to nobody else. It exits with 1 if no
poster can be made.
"""

import io
import os
import resource
import sys
from typing import IO

from PIL import Image, ImageOps

EDGE = 640
"""Pixels of a poster's longer side."""
MAX_PIXELS = 80_000_000
"""Pixels of a picture that is decoded at all, as its header says."""
MAX_MEMORY = 1536 * 1024 * 1024
CPU_SECONDS = 10
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF")
QUALITY = 80


class NoPoster(Exception):
    """No poster can be made of this file."""


def limit_resources() -> None:
    """Bound what this process may use, from now on."""
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def make_poster(file: IO[bytes], kind: str) -> bytes:
    """Return a small WebP of an image, or of a video's first frame. Raises `NoPoster`, and whatever decoders raise."""
    picture = _first_frame(file) if kind == "video" else _first_picture(file)
    picture.thumbnail((EDGE, EDGE))
    written = io.BytesIO()
    picture.convert("RGBA" if "A" in picture.getbands() else "RGB").save(written, "WEBP", quality=QUALITY)
    return written.getvalue()


def _first_picture(file: IO[bytes]) -> Image.Image:
    picture: Image.Image = Image.open(file, formats=FORMATS)
    _require_size(picture.width, picture.height)
    picture.draft("RGB", (EDGE, EDGE))  # JPEG is decoded small at once
    return ImageOps.exif_transpose(picture)


def _first_frame(file: IO[bytes]) -> Image.Image:
    try:
        import av  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise NoPoster("posters of videos need the extra: pip install 'receiver[video]'") from error
    with av.open(file, mode="r") as container:
        stream = next(iter(container.streams.video), None)
        if stream is None:
            raise NoPoster("it has no picture")
        _require_size(stream.codec_context.width, stream.codec_context.height)
        frame = next(container.decode(stream))
        _require_size(frame.width, frame.height)
        picture: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]  # not in its stubs
        return picture


def _require_size(width: int, height: int) -> None:
    if not 0 < width * height <= MAX_PIXELS:
        raise NoPoster(f"its picture has {width} x {height} pixels")


def main() -> str | None:
    """Make the poster of standard input, an image or a video as the first argument says; returns the problem."""
    limit_resources()
    try:
        poster = make_poster(sys.stdin.buffer, sys.argv[1])
    except Exception as error:  # noqa: BLE001 - decoders raise whatever they like, and any of it means the same
        return " ".join(f"{type(error).__name__}: {error}".split())[:300]
    with os.fdopen(1, "wb") as output:
        output.write(poster)
    return None


if __name__ == "__main__":
    sys.exit(main())
