"""Reads request bodies: bounded in size, time and memory, and as strict JSON where JSON is asked for."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from receiver import wire
from receiver.errors import Unreadable
from receiver.request_limits import BodyBudget, Share
from receiver.services import Services

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


async def read_body(request: Request, limit: int) -> bytes:
    """Read a whole body of at most `limit` bytes.

    Raises `HTTPException`: 415 where it is compressed (it is never inflated), 413 when too large (declared or not),
    408 when too slow, 400 when the sender is gone.
    """
    async with _reading(request, limit, None) as body:
        return body


@asynccontextmanager
async def strangers_body(request: Request, limit: int) -> AsyncIterator[bytes]:
    """Read a body that comes without an API token, and hold the memory that it needs as long as this lasts.

    Raises what `read_body` raises, and 503 where it has to give way to others.
    """
    services: Services = request.app.state.services
    async with _reading(request, limit, services.bodies) as body:
        yield body


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


@asynccontextmanager
async def _reading(request: Request, limit: int, budget: BodyBudget | None) -> AsyncIterator[bytes]:
    refuse_compressed(request)
    refuse_larger(request, limit, _too_large(limit))
    budget = budget or BodyBudget(limit)
    waiting = asyncio.timeout(SECONDS)
    with budget.share(lambda: waiting.reschedule(asyncio.get_running_loop().time())) as share:
        try:
            async with waiting:
                body = await _read(request, limit, budget, share)
        except TimeoutError as error:
            if share.gave_way:
                raise HTTPException(503, "Too many bodies arrive at once. Try again.", headers=RETRY) from error
            raise HTTPException(408, f"The body did not arrive within {SECONDS:g} s.", headers=CLOSE) from error
        except ClientDisconnect as error:
            raise HTTPException(400, "The body broke off.") from error
        yield body


async def _read(request: Request, limit: int, budget: BodyBudget, share: Share) -> bytes:
    parts, size, coming = [], 0, True
    while coming:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part, coming = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        if size > limit:
            raise HTTPException(413, _too_large(limit), headers=CLOSE)
        parts.append(part)
        budget.take(share, len(part))
        if coming or share.gave_way:
            await asyncio.sleep(PAUSE)
    budget.has_arrived(share)
    return b"".join(parts)


def _too_large(limit: int) -> str:
    return f"At most {limit} bytes are taken."
