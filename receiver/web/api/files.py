"""`POST /api/files`: stores a reference file on disk, within limits, and streams it to its provider."""

import asyncio
import mimetypes
import os
import re
from typing import Annotated, Any, BinaryIO

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, WithJsonSchema
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message

from receiver import accounts
from receiver.accounts import NewFile
from receiver.documents import to_json
from receiver.providers.base import Uploaded
from receiver.services import Services
from receiver.web import access
from receiver.web.api import requests
from receiver.web.bodies import CLOSE, refuse_compressed, refuse_larger

SECONDS = 300.0
"""Time for a file to arrive."""
FORM_OVERHEAD = 64 * 1024
"""Bytes of a form besides the file."""
MAX_FIELD = 4096
UNTYPED = ("", "application/octet-stream")


class FileForm(BaseModel):
    """The form of `POST /api/files`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    provider: str
    model: Annotated[str, Field(min_length=1, max_length=200)]
    kind: Annotated[str, Field(json_schema_extra={"enum": ["image", "video", "audio"]})]
    file: Annotated[InstanceOf[UploadFile], WithJsonSchema({"type": "string", "format": "binary", "minLength": 1})]


async def upload_file(request: Request) -> Response:
    """POST /api/files."""
    await access.require_api(request)
    requests.refuse_query(request)
    services: Services = request.app.state.services
    _require_form(request)
    limited = _LimitedRequest(request, accounts.max_upload_bytes(services) + FORM_OVERHEAD)
    try:
        async with asyncio.timeout(SECONDS) as waiting:
            async with limited.form(max_files=1, max_fields=4, max_part_size=MAX_FIELD) as form:
                waiting.reschedule(None)  # the whole file has arrived
                given = requests.validate(FileForm, dict(form))
                uploaded = await _upload(services, given)
    except TimeoutError as error:
        raise HTTPException(408, f"The file did not arrive within {SECONDS:g} s.", headers=CLOSE) from error
    except ClientDisconnect as error:
        raise HTTPException(400, "The body is incomplete: the client disconnected.") from error
    document = {"provider": given.provider, "id": uploaded.id, "url": uploaded.url, "input": dict(uploaded.input)}
    return Response(to_json(document).encode("ascii"), media_type="application/json")


async def _upload(services: Services, given: FileForm) -> Uploaded:
    provider = services.provider(given.provider)
    limit = accounts.file_limit(provider, given.kind)
    size = await asyncio.to_thread(_flush, given.file.file)
    if size > limit.max_bytes:
        raise HTTPException(413, f"file: at most {limit.max_bytes:,} bytes are accepted as {given.kind}.")
    name = _name(given.file)
    mime_type = _mime_type(given.file, name)
    new = NewFile(given.provider, given.model, given.kind, name, mime_type, size, given.file.file)
    return await accounts.upload_file(services, new)


def _flush(file: BinaryIO) -> int:
    """Return the size of a file after flushing it to disk: httpx reads the size there, and it excludes buffers."""
    number = file.fileno()
    file.flush()
    return os.fstat(number).st_size


def _name(file: UploadFile) -> str:
    """Return the last part of the file's name: some clients send a whole path."""
    return re.split(r"[/\\]", file.filename or "")[-1].strip()[:200] or "file"


def _mime_type(file: UploadFile, name: str) -> str:
    """Return the media type that was sent, without parameters, or else the one that the file's name implies."""
    sent = (file.content_type or "").partition(";")[0].strip().lower()
    found = (mimetypes.guess_type(name)[0] or "") if sent in UNTYPED else sent
    return found if re.fullmatch(r"[a-z]+/[a-z0-9.+-]+", found) else ""


def _require_form(request: Request) -> None:
    refuse_compressed(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise HTTPException(415, "Send the file as multipart/form-data.")


class _LimitedRequest(Request):
    """A request whose body has a maximum size, declared or not; raises `HTTPException` 413 beyond it."""

    def __init__(self, request: Request, limit: int) -> None:
        refuse_larger(request, limit, _too_large)
        size = 0

        async def receive() -> Message:
            nonlocal size
            message: Any = await request.receive()
            size += len(message.get("body", b""))
            if size > limit:
                raise HTTPException(413, _too_large(limit), headers=CLOSE)
            return dict(message)

        super().__init__(request.scope, receive)


def _too_large(limit: int) -> str:
    return f"file: at most {limit:,} bytes are accepted for the whole form."
