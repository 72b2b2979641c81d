"""Reads request bodies, with limits on size, time and memory, and parses them as strict JSON where needed."""

import asyncio
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from receiver.core import wire
from receiver.core.errors import Unreadable
from receiver.web.body_budget import BodyBudget, Share

SECONDS = 9.0
"""Time for a body to arrive; together with the slowest head that makes under 15 s."""
CLOSE = {"Connection": "close"}
"""For responses to requests that are not read to the end: the connection cannot be used again."""
RETRY = CLOSE | {"Retry-After": "2"}
MAX_JSON = 1024 * 1024
PAUSE = 0.002
"""Seconds between two reads of a body that arrives in pieces: whatever came meanwhile is read at once."""
_COMPRESSION = re.compile(
    r"\b(?:x-)?(?:gzip|pack200-gzip|deflate|compress|br|brotli|zstd|dcb|dcz|exi|bzip2?|lzma2?|xz|lz4|snappy|zip|zlib)\b"
)


async def read_body(request: Request, limit: int, share: Share | None = None) -> bytes:
    """Return a whole body of at most `limit` bytes. Without an API token, its memory is the `share` of a budget.

    Raises `HTTPException`: 415 if compressed (it is never decompressed), 413 if too large (declared or not), 408 if too
    slow, 400 if the client disconnected, 503 if it was evicted from the budget.
    """
    refuse_compressed(request)
    refuse_larger(request, limit, _too_large)
    waiting = asyncio.timeout(SECONDS)
    if share is not None:
        share.on_eviction = partial(_end_now, waiting)
    try:
        async with waiting:
            return await _read(request, limit, share)
    except TimeoutError as error:
        if share is not None and share.is_evicted:
            raise HTTPException(503, "Too many request bodies at once. Try again.", headers=RETRY) from error
        raise HTTPException(408, f"The body did not arrive within {SECONDS:g} s.", headers=CLOSE) from error
    except ClientDisconnect as error:
        raise HTTPException(400, "The body is incomplete: the client disconnected.") from error


def body_share(request: Request) -> Share:
    """Return one body's share of the memory for requests without an API token."""
    budget: BodyBudget = request.app.state.body_budget
    return budget.share()


def _end_now(waiting: asyncio.Timeout) -> None:
    waiting.reschedule(asyncio.get_running_loop().time())


async def read_json(request: Request, limit: int = MAX_JSON) -> dict[str, Any]:
    """Return the JSON object in a body; raises `Unreadable` for anything else, and what `read_body` raises."""
    return read_object(await read_body(request, limit))


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body is; raises `Unreadable` also for an object inside a JSON string."""
    value = wire.read_json(body)
    if not isinstance(value, dict):
        raise Unreadable("JSON, but not an object")
    return value


def refuse_compressed(request: Request) -> None:
    """Raise `HTTPException` 415 for a compressed body.

    Some senders put their charset, or some other word, into Content-Encoding: that changes no byte of a body.
    """
    if _COMPRESSION.search(",".join(request.headers.getlist("content-encoding")).lower()):
        raise HTTPException(415, "Send the body uncompressed, without a Content-Encoding.")


def refuse_larger(request: Request, limit: int, message: Callable[[int], str]) -> None:
    """Raise `HTTPException` 413 with this message for a body whose declared length is over the limit."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and (len(declared) > 15 or int(declared) > limit):
        raise HTTPException(413, message(limit), headers=CLOSE)


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
        share.complete()
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(limit: int) -> str:
    return f"The body is too large: at most {limit:,} bytes are accepted."
