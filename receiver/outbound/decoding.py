"""Reads an answer's body, decompressed and bounded, whatever its headers declare.

`client` reads every answer with it. An unreadable body raises `httpx.DecodingError`.
"""

import zlib

import httpx

MAX_ANSWER_BYTES = 4 * 1024 * 1024


async def read_bounded(response: httpx.Response) -> bytes:
    """Return a whole body, decompressed."""
    parts, size = [], 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise httpx.DecodingError(f"an answer of more than {MAX_ANSWER_BYTES} bytes", request=response.request)
        parts.append(part)
    return _decompress(b"".join(parts), response)


def _decompress(body: bytes, response: httpx.Response) -> bytes:
    """Return a body without gzip or deflate, bounded. We ask for no compression, but some servers compress anyway."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity" or not body:
        return body
    if encoding not in ("gzip", "deflate"):
        raise httpx.DecodingError(f"an answer encoded as {encoding[:20]!r}", request=response.request)
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        plain = inflater.decompress(body, MAX_ANSWER_BYTES)
    except zlib.error as error:
        raise httpx.DecodingError(f"an unreadable {encoding} answer", request=response.request) from error
    if not inflater.eof:
        fault = (
            f"of more than {MAX_ANSWER_BYTES} bytes" if len(plain) >= MAX_ANSWER_BYTES else f"of a cut {encoding} body"
        )
        raise httpx.DecodingError(f"an answer {fault}", request=response.request)
    return plain
