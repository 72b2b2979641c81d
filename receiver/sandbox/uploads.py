"""Uploads of reference files: Rivya's Files API, and kie's file service, which has its own host.

Written from both APIs' pages on files. `files` stores them.
"""

import mimetypes
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.sandbox.answers import app_url, json_answer
from receiver.sandbox.family import JSON, Refusal, bearer
from receiver.sandbox.files import MEGABYTE, FileStore, IncomingFile, Stored, mime_type
from receiver.sandbox.multipart import Form, read_form
from receiver.sandbox.orders import OrderError
from receiver.sandbox.rivya import MODEL_PARAMS, iso, refusal

KIE_MAX_BYTES = 100 * MEGABYTE
MAX_REQUEST_BYTES = 128 * MEGABYTE
RIVYA_MAX_BYTES = {"image": 10 * MEGABYTE, "video": 50 * MEGABYTE, "audio": 10 * MEGABYTE}
RIVYA_MIME_TYPES = {
    "image": ("image/jpeg", "image/png", "image/webp"),
    "video": ("video/mp4", "video/quicktime", "video/webm"),
    "audio": ("audio/mpeg", "audio/mp4", "audio/wav", "audio/aac", "audio/ogg"),
}
MAX_REQUEST_ID_LENGTH = 128


@dataclass(frozen=True, slots=True)
class Uploads:
    """The endpoints for files."""

    files: FileStore
    clock: Callable[[], float]

    def routes(self) -> list[Route]:
        """Return both APIs' endpoints, and where the files are fetched."""
        return [
            Route("/rivya/api/v1/files", self.upload_to_rivya, methods=["POST"], max_body_size=MAX_REQUEST_BYTES),
            Route("/rivya/api/v1/files/{id}", self.show_rivya_file),
            Route(
                "/kie-files/api/file-stream-upload",
                self.upload_to_kie,
                methods=["POST"],
                max_body_size=MAX_REQUEST_BYTES,
            ),
            Route("/media/files/{id}/{name}", self.files.show),
        ]

    async def upload_to_rivya(self, request: Request) -> Response:
        """Receive a file for Rivya."""
        if not bearer(request.headers):
            return json_answer(*refusal(Refusal.UNAUTHORISED, "The API key is missing"))
        try:
            with self.files.receiving(max(RIVYA_MAX_BYTES.values())) as incoming:
                form = await read_form(request, incoming.write)
                _check_for_rivya(form, incoming)
                stored = self.files.keep(incoming, "rivya", form.file_name or "")
        except OrderError as wrong:
            return json_answer(*refusal(Refusal.INVALID, str(wrong)))
        except ClientDisconnect:
            return Response(status_code=400)
        return json_answer(200, _rivya_file(request, stored))

    async def show_rivya_file(self, request: Request) -> Response:
        """Describe a file that was received for Rivya."""
        if not bearer(request.headers):
            return json_answer(*refusal(Refusal.UNAUTHORISED, "The API key is missing"))
        stored = self.files.by_id.get(request.path_params["id"])
        if stored is None or stored.provider != "rivya":
            return json_answer(*refusal(Refusal.UNKNOWN, "No such file"))
        return json_answer(200, _rivya_file(request, stored))

    async def upload_to_kie(self, request: Request) -> Response:
        """Receive a file for kie; errors are HTTP errors, too."""
        if not bearer(request.headers):
            return _kie_refusal(401, "You do not have access permissions")
        try:
            with self.files.receiving(KIE_MAX_BYTES) as incoming:
                form = await read_form(request, incoming.write)
                _check_for_kie(form, incoming)
                stored = self.files.keep(incoming, "kie", form.fields.get("fileName") or _any_name(form))
        except OrderError as wrong:
            return _kie_refusal(400, str(wrong))
        except ClientDisconnect:
            return Response(status_code=400)
        data = {
            "fileName": stored.name,
            "filePath": f"{form.fields['uploadPath'].strip('/')}/{stored.name}",
            "downloadUrl": _url(request, stored),
            "fileSize": stored.size,
            "mimeType": stored.mime_type or mimetypes.guess_type(stored.name)[0] or "application/octet-stream",
            "uploadedAt": iso(self.clock()),
        }
        return json_answer(200, {"success": True, "code": 200, "msg": "File uploaded successfully", "data": data})


def _check_for_rivya(form: Form, incoming: IncomingFile) -> None:
    """Raise OrderError for a file that Rivya refuses: its content counts, not its declared name or type."""
    if form.file_name is None:
        raise OrderError("Missing required field: file")
    kind = form.fields.get("kind")
    if kind not in RIVYA_MIME_TYPES:
        raise OrderError("kind must be one of image, video, audio")
    if len(form.fields.get("client_request_id", "")) > MAX_REQUEST_ID_LENGTH:
        raise OrderError("client_request_id must not exceed 128 characters")
    model = form.fields.get("model")
    if model in MODEL_PARAMS and kind != "image":
        raise OrderError(f"{model} takes image files only")
    if incoming.size > RIVYA_MAX_BYTES[kind]:
        raise OrderError(f"A file of the kind {kind} must not exceed {RIVYA_MAX_BYTES[kind] // MEGABYTE} MB")
    if mime_type(incoming.head) not in RIVYA_MIME_TYPES[kind]:
        raise OrderError(f"A file of the kind {kind} must be one of {', '.join(RIVYA_MIME_TYPES[kind])}")


def _check_for_kie(form: Form, incoming: IncomingFile) -> None:
    if form.file_name is None or incoming.size == 0:
        raise OrderError("Missing required field: file")
    if not form.fields.get("uploadPath", "").strip("/"):
        raise OrderError("Missing required field: uploadPath")
    if incoming.size > KIE_MAX_BYTES:
        raise OrderError(f"The file must not exceed {KIE_MAX_BYTES // MEGABYTE} MB")


def _any_name(form: Form) -> str:
    """Return the page: without a fileName one is made up."""
    _, dot, ending = (form.file_name or "").rpartition(".")
    return f"{secrets.token_hex(8)}{dot}{ending if dot else ''}"


def _rivya_file(request: Request, stored: Stored) -> JSON:
    """Return the file object; files with a duration have a token, which is durationToken in an order."""
    kind = next(kind for kind, types in RIVYA_MIME_TYPES.items() if stored.mime_type in types)
    told = {
        "id": stored.id,
        "url": _url(request, stored),
        "kind": kind,
        "name": stored.name,
        "mime_type": stored.mime_type,
        "size": stored.size,
    }
    return told if kind == "image" else {**told, "duration_token": stored.duration_token}


def _kie_refusal(code: int, detail: str) -> Response:
    return json_answer(code, {"success": False, "code": code, "msg": detail})


def _url(request: Request, stored: Stored) -> str:
    name = quote(stored.name.rpartition("/")[2], safe="") or "file"
    return f"{app_url(request)}/media/files/{stored.id}/{name}"
