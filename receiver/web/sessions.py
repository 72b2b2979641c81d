"""The pages' sessions: a signed cookie, bound to the API token that opened it, and dead on the server after logout.

The cookie says which session it is, when that began and when it was last used. It is signed for one API token, so it
is worth nothing once that token is taken out of the settings. Only an end is written down: reading a page never writes.
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
SECONDS = 14 * 24 * 3600
IDLE_SECONDS = 3 * 24 * 3600
"""A session that opens no page for so long is over; that a page looks for news by itself does not count."""
RENEW_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Session:
    """One browser that logged in; times are Unix milliseconds."""

    id: str
    token: str = field(repr=False)
    """The API token that opened it."""
    begun: int
    seen: int

    @property
    def digest(self) -> str:
        """What is written down of it when it ends."""
        return hashlib.sha256(self.id.encode()).hexdigest()

    @property
    def until(self) -> int:
        """When it is over at the latest."""
        return self.begun + SECONDS * 1000

    def expires(self) -> int:
        """Return when it is over unless it is used again."""
        return min(self.until, self.seen + IDLE_SECONDS * 1000)


def read(request: Request) -> Session | None:
    """Return the session in a request's cookie, which may have been ended; None where there is none that counts."""
    services = _services(request)
    text = _cookie(request)
    for token in services.settings.api_tokens:
        value = services.links.unsign_timed(_purpose(services, token.get_secret_value()), text, SECONDS)
        if value is not None:
            session_id, begun, seen = value.split(".")
            session = Session(session_id, token.get_secret_value(), int(begun), int(seen))
            return session if services.clock() < session.expires() else None
    return None


async def is_ended(request: Request, session: Session) -> bool:
    """Tell whether somebody logged out of a session; raises `StoreUnavailable`."""
    return await _services(request).store.read(lambda reading: ended_sessions.is_ended(reading, session.digest))


async def end(request: Request, session: Session) -> None:
    """End a session, whoever holds its cookie; raises `StoreUnavailable`."""
    services = _services(request)
    now = services.clock()
    await services.store.write(lambda tx: ended_sessions.end(tx, session.digest, session.until, now))


def start(request: Request, response: Response, token: str) -> None:
    """Give the browser a new session of an API token, whatever cookie it came with."""
    now = _services(request).clock()
    _put(request, response, Session(secrets.token_urlsafe(18), token, now, now))


def renew(request: Request, response: Response, session: Session) -> None:
    """Note in the cookie that a session is used, now and then, where a person opened a page."""
    now = _services(request).clock()
    by_hand = request.headers.get("sec-fetch-dest", "document") == "document"
    if request.method == "GET" and by_hand and now - session.seen > RENEW_SECONDS * 1000:
        _put(request, response, replace(session, seen=now))


def take_away(request: Request, response: Response) -> None:
    """Take the cookie away from the browser."""
    # A browser ignores what names a cookie with the prefix and does not say Secure, also when it is to be deleted.
    response.delete_cookie(_name(request), path="/", secure=_is_secure(request), httponly=True, samesite="lax")


def _put(request: Request, response: Response, session: Session) -> None:
    services = _services(request)
    value = f"{session.id}.{session.begun}.{session.seen}"
    response.set_cookie(
        _name(request),
        services.links.sign_timed(_purpose(services, session.token), value),
        max_age=max((session.expires() - services.clock()) // 1000, 0),
        path="/",
        secure=_is_secure(request),
        httponly=True,
        samesite="lax",
    )


def _cookie(request: Request) -> str:
    """Return our cookie's value, and look at no other cookie: a stranger may send thousands."""
    name = re.escape(_name(request))
    values = re.findall(rf"(?:^|;)[ \t]*{name}=([^;]*)", request.headers.get("cookie", ""))
    return values[-1].strip() if values else ""


def _purpose(services: Services, token: str) -> str:
    # The sandbox shares keys, tokens and the browser's cookies with the service on the same data directory.
    return f"{'sandbox ' if services.settings.sandbox else ''}session of {token}"


def _name(request: Request) -> str:
    return SECURE_COOKIE if _is_secure(request) else COOKIE


def _is_secure(request: Request) -> bool:
    """Tell whether the browser came over TLS.

    So it did where the scheme says so: ours, or what a trusted proxy says. Behind another proxy the scheme is its own,
    so it also did where it asked for the host of an https public URL. That can be wrong only of a browser that really
    came over plain http to that host, and it keeps no cookie then, which is right.
    """
    public = urlsplit(_services(request).settings.public_url or "")
    host = request.headers.get("host", "").lower()
    named = public.scheme == "https" and host.removesuffix(":443") == public.netloc.lower().removesuffix(":443")
    return named or request.scope["scheme"] == "https"


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services
