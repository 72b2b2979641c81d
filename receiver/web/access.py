"""Who may use the API and the pages: bearer tokens, and the signed session cookie of the pages."""

import hmac
import secrets
from collections.abc import Iterable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from receiver.services import Services

COOKIE = "receiver_session"
SESSION_SECONDS = 14 * 24 * 3600
SAFE = frozenset({"GET", "HEAD"})


def is_token(services: Services, given: str) -> bool:
    """Tell whether a text is one of the API tokens, taking the same time whatever it is."""
    candidate = given.encode("utf-8", "surrogateescape")
    known = [token.get_secret_value().encode() for token in services.settings.api_tokens]
    return _any(hmac.compare_digest(candidate, token) for token in known)


def _any(results: Iterable[bool]) -> bool:
    return sum(list(results)) > 0  # every comparison is made, whichever fits


def require_api(request: Request) -> None:
    """Let in a bearer token, or for reading a session of the pages; raises `HTTPException` 401."""
    services: Services = request.app.state.services
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and is_token(services, token.strip()):
        return
    if request.method in SAFE and session_of(request) is not None:
        return
    raise HTTPException(
        401,
        "Send `Authorization: Bearer <api token>`; `receiver token` prints it.",
        headers={"WWW-Authenticate": 'Bearer realm="receiver"'},
    )


def session_of(request: Request) -> str | None:
    """Return the id of the session whose cookie came with a request, or None."""
    services: Services = request.app.state.services
    return services.links.read("session", request.cookies.get(COOKIE, ""), SESSION_SECONDS)


def start_session(request: Request, response: Response) -> None:
    """Give the browser a new session."""
    services: Services = request.app.state.services
    cookie = services.links.sign("session", secrets.token_urlsafe(18))
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=SESSION_SECONDS,
        path="/",
        secure=request.scope["scheme"] == "https",
        httponly=True,
        samesite="lax",
    )


def end_session(response: Response) -> None:
    """Take the session's cookie away."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax")


def form_token(request: Request) -> str:
    """Make the hidden text that proves that a form came from a page of this session."""
    services: Services = request.app.state.services
    return services.links.sign("form", session_of(request) or "")


def form_is_ours(request: Request, token: str) -> bool:
    """Tell whether a form came from a page of this session."""
    services: Services = request.app.state.services
    session = session_of(request)
    return session is not None and services.links.read("form", token, SESSION_SECONDS) == session
