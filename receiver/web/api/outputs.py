"""Archived files: `GET /api/tasks/{id}/outputs/{n}`, and signed links to them that need no token.

A file is streamed from the storage, whole or the range that is asked for. It is never a page of ours: its media type is
what was found in it, and whatever it contains runs in no origin.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from receiver.archive.posters import Posters
from receiver.core.errors import NotFound
from receiver.documents import format_timestamp, output_path
from receiver.services import Services
from receiver.storage import FileMissing, Storage, StorageError
from receiver.store import files, reading
from receiver.store.tables import Output
from receiver.web import access
from receiver.web.api import requests
from receiver.web.api.responses import json_response
from receiver.web.bodies import read_body, read_object

LINK_PURPOSE = "output"
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_HEADERS = {
    "Accept-Ranges": "bytes",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, max-age=86400",
}


@dataclass(frozen=True, slots=True)
class Part:
    """Which bytes of a file are sent: from `start` to before `end`, as a range that was asked for or as the whole."""

    start: int
    end: int
    is_range: bool = True


async def get_output(request: Request) -> Response:
    """GET /api/tasks/{id}/outputs/{n}."""
    await _require_access(request)
    query = requests.validate(requests.OutputQuery, dict(request.query_params), "query")
    services: Services = request.app.state.services
    output, storage = await _stored_output(request, services)
    size, name, etag = output.bytes or 0, output.stored or "", f'"{output.sha256}"'
    shown_as = "attachment" if query.download or output.media_type == files.UNKNOWN_TYPE else "inline"
    headers = {
        **_HEADERS,
        "ETag": etag,
        "Content-Disposition": f'{shown_as}; filename="{name.rpartition("/")[2]}"',
    }
    if {etag, "*"} & set(re.findall(r'"[^"]*"|\*', request.headers.get("if-none-match", ""))):
        return Response(status_code=304, headers=headers)
    part = _wanted_part(request, size, etag)
    if part is None:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    status = 206 if part.is_range else 200
    if part.is_range:
        headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{size}"
    headers["Content-Length"] = str(part.end - part.start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=output.media_type)
    body = await _opened(storage.read(name, part.start, part.end))
    return StreamingResponse(body, status, headers, media_type=output.media_type)


async def get_poster(request: Request) -> Response:
    """GET /api/tasks/{id}/outputs/{n}/poster."""
    await access.require_api(request)
    requests.refuse_query(request)
    services: Services = request.app.state.services
    output, storage = await _stored_output(request, services)
    posters: Posters = request.app.state.posters or Posters(storage)
    request.app.state.posters = posters
    kind = (output.media_type or "").partition("/")[0]
    if kind not in ("image", "video"):
        raise NotFound(f"Output {output.position} is neither an image nor a video, so it has no poster.")
    poster = await posters.get(output.stored or "", output.bytes or 0, kind)
    if poster is None:
        raise NotFound(f"No poster can be made of output {output.position}; the log says why.")
    return Response(poster, headers=_HEADERS, media_type="image/webp")


async def link_output(request: Request) -> Response:
    """POST /api/tasks/{id}/outputs/{n}/link."""
    await access.require_api(request)
    requests.refuse_query(request)
    body = requests.validate(requests.LinkBody, read_object(await read_body(request, 1024) or b"{}"))
    services: Services = request.app.state.services
    output, _ = await _stored_output(request, services)
    until = services.clock() + round(body.seconds * 1000)
    path = output_path(output)
    token = services.links.sign_text(LINK_PURPOSE, f"{path} {until}")
    url = f"{services.settings.root_url}{path}?{urlencode({'link': token})}"
    return json_response({"url": url, "expires_at": format_timestamp(until)})


async def _require_access(request: Request) -> None:
    """Raise `HTTPException` unless the caller has a token, a session, or a signed link to this very file."""
    token = request.query_params.get("link")
    if token is None:
        await access.require_api(request)
        return
    services: Services = request.app.state.services
    path, _, until = (services.links.unsign_text(LINK_PURPOSE, token) or "").rpartition(" ")
    if path != request.url.path:
        raise HTTPException(401, "This link is not valid. Get a new one with `POST .../link`.")
    if services.clock() >= int(until):
        raise HTTPException(410, f"This link ended at {format_timestamp(int(until))}. Get a new one.")


async def _stored_output(request: Request, services: Services) -> tuple[Output, Storage]:
    """Return the file that a path names, and where it is. Raises `NotFound` with the reason while it is not stored."""
    task_id, number = request.path_params["id"], request.path_params["n"]
    outputs = await services.store.read(lambda session: reading.outputs(session, [task_id])[task_id])
    output = next((each for each in outputs if str(each.position) == number), None)
    if output is None:
        raise NotFound(f"The task {task_id[:60]} has no output {number[:20]}.")
    if output.archive != files.STORED:
        raise NotFound(f"Output {number} is not archived: {_why_not_stored(output)}")
    if services.storage is None:
        raise NotFound("RECEIVER_ARCHIVE is off, so archived files are not served.")
    return output, services.storage


def _why_not_stored(output: Output) -> str:
    """Return why a file is not in the archive, as a sentence."""
    if output.problem:
        return output.problem
    if output.archive == files.WAITING:
        return "it waits to be downloaded."
    return "there was no archive when it was produced; `receiver archive --missing` downloads it."


def _wanted_part(request: Request, size: int, etag: str) -> Part | None:
    """Return which bytes are asked for; None if there are no such. More than one range is answered with the whole."""
    whole = Part(0, size, is_range=False)
    asked = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if asked is None or not (asked[1] or asked[2]) or request.headers.get("if-range", etag) != etag:
        return whole
    if not asked[1]:
        return Part(max(size - int(asked[2]), 0), size) if int(asked[2]) else None
    start, end = int(asked[1]), int(asked[2]) + 1 if asked[2] else size
    if start >= end and asked[2]:
        return whole  # no range at all, by RFC 9110
    return Part(start, min(end, size)) if start < size else None


async def _opened(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Return the pieces of a file once the first is there: until then the answer can still say what is wrong."""
    try:
        first = await anext(pieces, b"")
    except FileMissing as error:
        raise NotFound(f"The archived file is gone: {error}.") from error
    except StorageError as error:
        raise HTTPException(503, f"{error}.", headers={"Retry-After": "30"}) from error

    async def all_pieces() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return all_pieces()
