"""Who may use the API and the pages: bearer tokens, and the sessions of the pages.

A wrong bearer token is not throttled, unlike a wrong login: to refuse the right one with it would lock out whoever
calls from the same address, which often is a proxy's, and to refuse the wrong ones only would hinder nobody.
"""

import hmac

from starlette.exceptions import HTTPException
from starlette.requests import Request

from receiver.services import Services
from receiver.web import sessions
from receiver.web.sessions import Session

SAFE = frozenset({"GET", "HEAD"})


def token_of(services: Services, given: str) -> str | None:
    """Return the API token that a text is, or None; it takes the same time whatever the text is."""
    candidate = given.encode("utf-8", "surrogateescape")
    known = [token.get_secret_value() for token in services.settings.api_tokens]
    fits = [hmac.compare_digest(candidate, token.encode()) for token in known]  # all of them, whichever fits
    return known[fits.index(True)] if True in fits else None


async def require_api(request: Request) -> None:
    """Let in a bearer token, or for reading a session of the pages; raises `HTTPException` 401, `StoreUnavailable`."""
    services: Services = request.app.state.services
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token_of(services, token.strip()) is not None:
        return
    if request.method in SAFE and await identify(request) is not None:
        return
    raise HTTPException(
        401,
        "Send `Authorization: Bearer <api token>`; `receiver token` prints it.",
        headers={"WWW-Authenticate": 'Bearer realm="receiver"'},
    )


async def identify(request: Request) -> Session | None:
    """Find out whose session a request belongs to, for the rest of it; raises `StoreUnavailable`.

    While the database is away, `session_of` gives what the cookie says, which may show what was typed once more.
    """
    request.state.session = session = sessions.read(request)
    if session is not None and await sessions.is_ended(request, session):
        request.state.session = None
    return session_of(request)


def session_of(request: Request) -> Session | None:
    """Return what `identify` found."""
    session: Session | None = request.state.session
    return session


def form_token(request: Request) -> str:
    """Make the hidden text that proves that a form came from a page of this session."""
    services: Services = request.app.state.services
    session = session_of(request)
    return services.links.sign_timed("form", session.id if session else "")


def form_is_ours(request: Request, token: str) -> bool:
    """Tell whether a form came from a page of this session."""
    services: Services = request.app.state.services
    session = session_of(request)
    return session is not None and services.links.unsign_timed("form", token, sessions.SECONDS) == session.id
