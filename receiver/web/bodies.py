"""Reads request bodies: bounded in size and time, and as strict JSON where JSON is asked for."""

import asyncio
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from receiver import wire

SECONDS = 9.0
"""A body that takes longer to arrive is not waited for; after the slowest head that makes under 15 s."""
CLOSE = {"Connection": "close"}
"""For answers to requests that are not read to their end: the connection cannot be used again."""
MAX_JSON = 1024 * 1024


async def read_body(request: Request, limit: int) -> bytes:
    """Read a whole body of at most `limit` bytes.

    Raises `HTTPException`: 415 for a content encoding (it is never inflated), 413 when too large (declared or not),
    408 when too slow, 400 when the sender is gone.
    """
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise HTTPException(415, "Send the body without a Content-Encoding.")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and (len(declared) > 15 or int(declared) > limit):
        raise _too_large(limit)
    try:
        async with asyncio.timeout(SECONDS):
            return await _read(request, limit)
    except TimeoutError as error:
        raise HTTPException(408, f"The body did not arrive within {SECONDS:g} s.", headers=CLOSE) from error
    except ClientDisconnect as error:
        raise HTTPException(400, "The body broke off.") from error


async def read_json(request: Request, limit: int = MAX_JSON) -> dict[str, Any]:
    """Read a JSON object; raises `Unreadable` for anything else, and what `read_body` raises."""
    return wire.read_object(await read_body(request, limit))


async def _read(request: Request, limit: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"At most {limit} bytes are taken.", headers=CLOSE)
