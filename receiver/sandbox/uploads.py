"""Uploads of reference files: Rivya's Files API, and kie's service for files, which has a host of its own.

Written from both APIs' pages on files. The files themselves are on the shelf.
"""

import mimetypes
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.sandbox.answers import address_of_app, json_answer
from receiver.sandbox.family import JSON, No, bearer
from receiver.sandbox.files import MEGABYTE, Incoming, Shelf, Stored, mime_type
from receiver.sandbox.multipart import Form, read_form
from receiver.sandbox.orders import OrderError
from receiver.sandbox.rivya import MODEL_PARAMS, iso, refusal

LARGEST_FOR_KIE = 100 * MEGABYTE
LARGEST_REQUEST = 128 * MEGABYTE
LARGEST_FOR_RIVYA = {"image": 10 * MEGABYTE, "video": 50 * MEGABYTE, "audio": 10 * MEGABYTE}
TAKEN_BY_RIVYA = {
    "image": ("image/jpeg", "image/png", "image/webp"),
    "video": ("video/mp4", "video/quicktime", "video/webm"),
    "audio": ("audio/mpeg", "audio/mp4", "audio/wav", "audio/aac", "audio/ogg"),
}
LONGEST_REQUEST_ID = 128


@dataclass(frozen=True, slots=True)
class Uploads:
    """Where files arrive."""

    shelf: Shelf
    clock: Callable[[], float]

    def routes(self) -> list[Route]:
        """Both APIs' endpoints, and where the files are fetched."""
        return [
            Route("/rivya/api/v1/files", self.take_for_rivya, methods=["POST"], max_body_size=LARGEST_REQUEST),
            Route("/rivya/api/v1/files/{id}", self.tell_for_rivya),
            Route(
                "/kie-files/api/file-stream-upload", self.take_for_kie, methods=["POST"], max_body_size=LARGEST_REQUEST
            ),
            Route("/media/files/{id}/{name}", self.shelf.show),
        ]

    async def take_for_rivya(self, request: Request) -> Response:
        """Receive a file for Rivya."""
        if not bearer(request.headers):
            return json_answer(*refusal(No.UNAUTHORISED, "The API key is missing"))
        try:
            with self.shelf.receiving(max(LARGEST_FOR_RIVYA.values())) as incoming:
                form = await read_form(request, incoming.write)
                _check_for_rivya(form, incoming)
                stored = self.shelf.keep(incoming, "rivya", form.file_name or "")
        except OrderError as wrong:
            return json_answer(*refusal(No.INVALID, str(wrong)))
        except ClientDisconnect:
            return Response(status_code=400)
        return json_answer(200, _rivya_file(request, stored))

    async def tell_for_rivya(self, request: Request) -> Response:
        """Tell about a file that was received for Rivya."""
        if not bearer(request.headers):
            return json_answer(*refusal(No.UNAUTHORISED, "The API key is missing"))
        stored = self.shelf.files.get(request.path_params["id"])
        if stored is None or stored.provider != "rivya":
            return json_answer(*refusal(No.UNKNOWN, "No such file"))
        return json_answer(200, _rivya_file(request, stored))

    async def take_for_kie(self, request: Request) -> Response:
        """Receive a file for kie; here errors are HTTP errors, too."""
        if not bearer(request.headers):
            return _kie_refusal(401, "You do not have access permissions")
        try:
            with self.shelf.receiving(LARGEST_FOR_KIE) as incoming:
                form = await read_form(request, incoming.write)
                _check_for_kie(form, incoming)
                stored = self.shelf.keep(incoming, "kie", form.fields.get("fileName") or _any_name(form))
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


def _check_for_rivya(form: Form, incoming: Incoming) -> None:
    """The page: what counts is the file's own signature, not the name or type it is sent with."""
    if form.file_name is None:
        raise OrderError("Missing required field: file")
    kind = form.fields.get("kind")
    if kind not in TAKEN_BY_RIVYA:
        raise OrderError("kind must be one of image, video, audio")
    if len(form.fields.get("client_request_id", "")) > LONGEST_REQUEST_ID:
        raise OrderError("client_request_id must not exceed 128 characters")
    model = form.fields.get("model")
    if model in MODEL_PARAMS and kind != "image":
        raise OrderError(f"{model} takes image files only")
    if incoming.size > LARGEST_FOR_RIVYA[kind]:
        raise OrderError(f"A file of the kind {kind} must not exceed {LARGEST_FOR_RIVYA[kind] // MEGABYTE} MB")
    if mime_type(incoming.head) not in TAKEN_BY_RIVYA[kind]:
        raise OrderError(f"A file of the kind {kind} must be one of {', '.join(TAKEN_BY_RIVYA[kind])}")


def _check_for_kie(form: Form, incoming: Incoming) -> None:
    if form.file_name is None or incoming.size == 0:
        raise OrderError("Missing required field: file")
    if not form.fields.get("uploadPath", "").strip("/"):
        raise OrderError("Missing required field: uploadPath")
    if incoming.size > LARGEST_FOR_KIE:
        raise OrderError(f"The file must not exceed {LARGEST_FOR_KIE // MEGABYTE} MB")


def _any_name(form: Form) -> str:
    """The page: without a fileName one is made up."""
    _, dot, ending = (form.file_name or "").rpartition(".")
    return f"{secrets.token_hex(8)}{dot}{ending if dot else ''}"


def _rivya_file(request: Request, stored: Stored) -> JSON:
    """The file object; the token is for kinds that have a duration, and is durationToken in the order that uses it."""
    kind = next(kind for kind, types in TAKEN_BY_RIVYA.items() if stored.mime_type in types)
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
    return f"{address_of_app(request)}/media/files/{stored.id}/{name}"
