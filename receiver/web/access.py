"""Who may use the API and the pages: bearer tokens, and the sessions of the pages.

A wrong bearer token is not throttled, unlike a wrong login: blocking an address would block valid callers behind the
same proxy, and blocking only wrong tokens would stop nobody.
"""

import hmac

from starlette.exceptions import HTTPException
from starlette.requests import Request

from receiver.services import Services
from receiver.web import sessions
from receiver.web.sessions import Session

SAFE_METHODS = frozenset({"GET", "HEAD"})


def match_token(services: Services, candidate: str) -> str | None:
    """Return the API token that a text equals, or None, in constant time."""
    encoded = candidate.encode("utf-8", "surrogateescape")
    known = [token.get_secret_value() for token in services.settings.api_tokens]
    matches = [hmac.compare_digest(encoded, token.encode()) for token in known]  # always compares all of them
    return known[matches.index(True)] if True in matches else None


async def require_api(request: Request) -> None:
    """Raise `HTTPException` 401 without a valid bearer token, or, for reading, a session; raises `StoreUnavailable`."""
    services: Services = request.app.state.services
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and match_token(services, token.strip()) is not None:
        return
    if request.method in SAFE_METHODS and await identify(request) is not None:
        return
    raise HTTPException(
        401,
        "Send `Authorization: Bearer <api token>`; `receiver token` prints it.",
        headers={"WWW-Authenticate": 'Bearer realm="receiver"'},
    )


async def identify(request: Request) -> Session | None:
    """Return the session of a request, and remember it for the rest of it; raises `StoreUnavailable`.

    While the database is unavailable, `current_session` returns what the cookie says. That is enough to show a form
    again with what was typed into it.
    """
    request.state.session = session = sessions.read(request)
    if session is not None and await sessions.is_ended(request, session):
        request.state.session = None
    return current_session(request)


def current_session(request: Request) -> Session | None:
    """Return the session that `identify` found."""
    session: Session | None = request.state.session
    return session


def form_token(request: Request) -> str:
    """Return the CSRF token of this session's forms."""
    services: Services = request.app.state.services
    session = current_session(request)
    return services.links.sign_timed("form", session.id if session else "")


def is_own_form(request: Request, token: str) -> bool:
    """Return whether a form came from a page of this session."""
    services: Services = request.app.state.services
    session = current_session(request)
    return session is not None and services.links.unsign_timed("form", token, sessions.MAX_AGE_SECONDS) == session.id
