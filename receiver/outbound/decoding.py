"""Read an answer's body: at most so much of it, plain, whatever was declared.

`outbound` reads every answer with it. What cannot be read raises `httpx.DecodingError`.
"""

import zlib

import httpx

MAX_ANSWER = 4 * 1024 * 1024


async def read_bounded(response: httpx.Response) -> bytes:
    """Read a whole body, without its compression."""
    parts, size = [], 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > MAX_ANSWER:
            raise httpx.DecodingError(f"an answer of more than {MAX_ANSWER} bytes", request=response.request)
        parts.append(part)
    return _plain(b"".join(parts), response)


def _plain(body: bytes, response: httpx.Response) -> bytes:
    """Undo gzip or deflate, bounded; compressed answers were not asked for, but some servers send them."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity" or not body:
        return body
    if encoding not in ("gzip", "deflate"):
        raise httpx.DecodingError(f"an answer encoded as {encoding[:20]!r}", request=response.request)
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        plain = inflater.decompress(body, MAX_ANSWER)
    except zlib.error as error:
        raise httpx.DecodingError(f"an unreadable {encoding} answer", request=response.request) from error
    if not inflater.eof:
        fault = f"of more than {MAX_ANSWER} bytes" if len(plain) >= MAX_ANSWER else f"of a cut {encoding} body"
        raise httpx.DecodingError(f"an answer {fault}", request=response.request)
    return plain
