"""Errors as RFC 9457 problem documents, and the HTTP status of each of our exceptions."""

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from receiver.core.errors import Conflict, Forged, Invalid, NotFound, ReceiverError, StoreUnavailable, Unreadable
from receiver.web.headers import HEADERS

log = structlog.get_logger()

RETRY_SECONDS = 2

_STATUS: dict[type[ReceiverError], int] = {
    NotFound: 404,
    Conflict: 409,
    Forged: 401,
    Unreadable: 400,
    Invalid: 422,
    StoreUnavailable: 503,
}


def status_of(error: ReceiverError) -> int:
    """Return the HTTP status of one of our exceptions."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)


def problem(status: int, detail: str, headers: dict[str, str] | None = None, **more: Any) -> Response:
    """Return a response with a problem document; its title is the name of the status."""
    return _response(_document(status, detail, **more), headers)


def problem_of(error: ReceiverError) -> Response:
    """Return a response with the problem document of one of our exceptions."""
    document = problem_document(error)
    headers = {"Retry-After": str(RETRY_SECONDS)} if document["status"] == 503 else None
    return _response(document, headers)


def problem_document(error: ReceiverError) -> dict[str, Any]:
    """Return the problem document of one of our exceptions."""
    if isinstance(error, Invalid):
        faults = [{"loc": list(fault.loc), "msg": fault.msg} for fault in error.faults]
        return _document(status_of(error), str(error), errors=faults)
    return _document(status_of(error), str(error))


def _response(document: dict[str, Any], headers: dict[str, str] | None) -> Response:
    content = json.dumps(document).encode("ascii")
    return Response(content, document["status"], headers=headers, media_type="application/problem+json")


def _document(status: int, detail: str, **more: Any) -> dict[str, Any]:
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}


async def on_our_error(_request: Request, error: Exception) -> Response:
    """Answer one of our exceptions."""
    if not isinstance(error, ReceiverError):
        raise error
    return problem_of(error)


async def on_http_error(_request: Request, error: Exception) -> Response:
    """Answer what routing, middleware and handlers refuse."""
    if not isinstance(error, HTTPException):
        raise error
    return problem(error.status_code, error.detail, dict(error.headers or {}))


async def on_unexpected_error(request: Request, error: Exception) -> Response:
    """Answer an unexpected error: the log has the details, the caller gets none of them."""
    log.error("unexpected_error", path=request.scope["path"].split("/callbacks/")[0], error=type(error).__name__)
    # Starlette sends this response outside of all middleware.
    return problem(500, "An unexpected error occurred in this service. Its log has the details.", dict(HEADERS))


HANDLERS: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
    ReceiverError: on_our_error,
    HTTPException: on_http_error,
    Exception: on_unexpected_error,
}
