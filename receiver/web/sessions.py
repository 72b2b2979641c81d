"""The pages' sessions: a signed cookie, bound to the API token that opened it, and invalid everywhere after logout.

The cookie holds the session's id, its start and its last use. It is signed for one API token, so it is invalid once
that token is removed from the settings. Only ended sessions are stored: reading a page never writes.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from receiver.services import Services
from receiver.store import ended_sessions

COOKIE = "receiver_session"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""Its name behind TLS: a browser takes a name with this prefix from no other host, path or scheme."""
MAX_AGE_SECONDS = 14 * 24 * 3600
IDLE_SECONDS = 3 * 24 * 3600
"""A session in which no page is opened for so long ends; a page that refreshes itself does not count."""
RENEW_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Session:
    """One logged-in browser; times are Unix milliseconds."""

    id: str
    token: str = field(repr=False)
    """The API token that opened it."""
    started_at: int
    used_at: int

    @property
    def digest(self) -> str:
        """The digest that is stored when the session ends."""
        return hashlib.sha256(self.id.encode()).hexdigest()

    @property
    def latest_end(self) -> int:
        """When it ends at the latest."""
        return self.started_at + MAX_AGE_SECONDS * 1000

    def expires_at(self) -> int:
        """Return when it ends unless it is used again."""
        return min(self.latest_end, self.used_at + IDLE_SECONDS * 1000)


def read(request: Request) -> Session | None:
    """Return the session in a request's cookie, or None if it is invalid; whether it was ended is not checked."""
    services = _services(request)
    text = _cookie(request)
    for token in services.settings.api_tokens:
        value = services.links.unsign_timed(_purpose(services, token.get_secret_value()), text, MAX_AGE_SECONDS)
        if value is not None:
            session_id, started_at, used_at = value.split(".")
            session = Session(session_id, token.get_secret_value(), int(started_at), int(used_at))
            return session if services.clock() < session.expires_at() else None
    return None


async def is_ended(request: Request, session: Session) -> bool:
    """Return whether a session was ended by logging out; raises `StoreUnavailable`."""
    return await _services(request).store.read(lambda reading: ended_sessions.is_ended(reading, session.digest))


async def end(request: Request, session: Session) -> None:
    """End a session for every copy of its cookie; raises `StoreUnavailable`."""
    services = _services(request)
    now = services.clock()
    await services.store.write(lambda tx: ended_sessions.end_session(tx, session.digest, session.latest_end, now))


def start(request: Request, response: Response, token: str) -> None:
    """Set the cookie of a new session of an API token, whatever cookie the browser sent."""
    now = _services(request).clock()
    _set_cookie(request, response, Session(secrets.token_urlsafe(18), token, now, now))


def renew(request: Request, response: Response, session: Session) -> None:
    """Record in the cookie that a session is used, at most once an hour, when a person opens a page."""
    now = _services(request).clock()
    is_navigation = request.headers.get("sec-fetch-dest", "document") == "document"
    if request.method == "GET" and is_navigation and now - session.used_at > RENEW_SECONDS * 1000:
        _set_cookie(request, response, replace(session, used_at=now))


def delete_cookie(request: Request, response: Response) -> None:
    """Delete the cookie from the browser."""
    # A browser ignores a Set-Cookie with the `__Host-` prefix and without Secure, even one that deletes the cookie.
    response.delete_cookie(_name(request), path="/", secure=_is_secure(request), httponly=True, samesite="lax")


def _set_cookie(request: Request, response: Response, session: Session) -> None:
    services = _services(request)
    value = f"{session.id}.{session.started_at}.{session.used_at}"
    response.set_cookie(
        _name(request),
        services.links.sign_timed(_purpose(services, session.token), value),
        max_age=max((session.expires_at() - services.clock()) // 1000, 0),
        path="/",
        secure=_is_secure(request),
        httponly=True,
        samesite="lax",
    )


def _cookie(request: Request) -> str:
    """Return our cookie's value without parsing any other: a client may send thousands."""
    name = re.escape(_name(request))
    values = re.findall(rf"(?:^|;)[ \t]*{name}=([^;]*)", request.headers.get("cookie", ""))
    return values[-1].strip() if values else ""


def _purpose(services: Services, token: str) -> str:
    # The sandbox shares keys, tokens and the browser's cookies with the service in the same data directory.
    return f"{'sandbox ' if services.settings.sandbox else ''}session of {token}"


def _name(request: Request) -> str:
    return SECURE_COOKIE if _is_secure(request) else COOKIE


def _is_secure(request: Request) -> bool:
    """Return whether the browser's connection uses TLS.

    It does if the scheme says so, ours or a trusted proxy's. Behind any other proxy the scheme is unknown, so it also
    does if the request names the host of an https public URL. This is wrong only for a browser that really uses plain
    http for that host; it then stores no cookie, which is right.
    """
    public = urlsplit(_services(request).settings.public_url or "")
    host = request.headers.get("host", "").lower()
    named = public.scheme == "https" and host.removesuffix(":443") == public.netloc.lower().removesuffix(":443")
    return named or request.scope["scheme"] == "https"


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services
