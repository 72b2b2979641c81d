"""Reads request bodies: bounded in size, time and memory, and as strict JSON where JSON is asked for."""

import asyncio
import re
from functools import partial
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from receiver.core import wire
from receiver.core.errors import Unreadable
from receiver.web.body_budget import BodyBudget, Share

SECONDS = 9.0
"""A body that takes longer to arrive is not waited for; after the slowest head that makes under 15 s."""
CLOSE = {"Connection": "close"}
"""For answers to requests that are not read to their end: the connection cannot be used again."""
RETRY = CLOSE | {"Retry-After": "2"}
MAX_JSON = 1024 * 1024
PAUSE = 0.002
"""Seconds between two looks at a body that comes in pieces: what arrives meanwhile is taken in one go."""
_COMPRESSION = re.compile(
    r"\b(?:x-)?(?:gzip|pack200-gzip|deflate|compress|br|brotli|zstd|dcb|dcz|exi|bzip2?|lzma2?|xz|lz4|snappy|zip|zlib)\b"
)


async def read_body(request: Request, limit: int, share: Share | None = None) -> bytes:
    """Read a whole body of at most `limit` bytes. Without an API token, its memory is the `share` of a budget.

    Raises `HTTPException`: 415 where it is compressed (it is never inflated), 413 when too large (declared or not),
    408 when too slow, 400 when the sender is gone, 503 where it is evicted from the budget.
    """
    refuse_compressed(request)
    refuse_larger(request, limit, _too_large(limit))
    waiting = asyncio.timeout(SECONDS)
    if share is not None:
        share.on_eviction = partial(_end_now, waiting)
    try:
        async with waiting:
            return await _read(request, limit, share)
    except TimeoutError as error:
        if share is not None and share.is_evicted:
            raise HTTPException(503, "Too many bodies arrive at once. Try again.", headers=RETRY) from error
        raise HTTPException(408, f"The body did not arrive within {SECONDS:g} s.", headers=CLOSE) from error
    except ClientDisconnect as error:
        raise HTTPException(400, "The body broke off.") from error


def body_share(request: Request) -> Share:
    """Return a share of the memory for the bodies of requests without an API token, for one such body."""
    budget: BodyBudget = request.app.state.body_budget
    return budget.share()


def _end_now(waiting: asyncio.Timeout) -> None:
    waiting.reschedule(asyncio.get_running_loop().time())


async def read_json(request: Request, limit: int = MAX_JSON) -> dict[str, Any]:
    """Read a JSON object; raises `Unreadable` for anything else, and what `read_body` raises."""
    return read_object(await read_body(request, limit))


def read_object(body: bytes) -> dict[str, Any]:
    """Read the JSON object that a body is; raises `Unreadable` also for an object inside a JSON text."""
    value = wire.read_json(body)
    if not isinstance(value, dict):
        raise Unreadable("JSON, but not an object")
    return value


def refuse_compressed(request: Request) -> None:
    """Refuse a body that is compressed; raises `HTTPException` 415.

    Some senders name their charset, or nothing that is a coding at all: that changes no byte of a body.
    """
    if _COMPRESSION.search(",".join(request.headers.getlist("content-encoding")).lower()):
        raise HTTPException(415, "Send the body uncompressed, without a Content-Encoding.")


def refuse_larger(request: Request, limit: int, words: str) -> None:
    """Refuse a body whose declared length is over the limit; raises `HTTPException` 413 with these words."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and (len(declared) > 15 or int(declared) > limit):
        raise HTTPException(413, words, headers=CLOSE)


async def _read(request: Request, limit: int, share: Share | None) -> bytes:
    parts, size, is_coming = [], 0, True
    while is_coming:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part, is_coming = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        if size > limit:
            raise HTTPException(413, _too_large(limit), headers=CLOSE)
        parts.append(part)
        if share is not None:
            share.take(len(part))
        if is_coming or (share is not None and share.is_evicted):
            await asyncio.sleep(PAUSE)
    if share is not None:
        share.has_arrived()
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(limit: int) -> str:
    return f"At most {limit} bytes are taken."
