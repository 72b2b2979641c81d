"""Logging in and out: the login form, login links, and logout.

`receiver serve --login-link` prints a login link: a URL with a signed token that opens one session. It is signed for
one API token, and for the sandbox or the real service, so it is invalid after the API token was changed or once real
keys are set. A login only ever redirects within this site. Wrong API tokens are throttled; a login link is too long to
be guessed.
"""

import hashlib
import math
import secrets
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from receiver.config.settings import Settings
from receiver.core.links import Links
from receiver.services import Services
from receiver.store import ended_sessions
from receiver.web import access, sessions
from receiver.web.pages import forms
from receiver.web.pages.layout import redirect, render, services_of
from receiver.web.pages.login_throttle import LoginThrottle

LINK_SECONDS = 24 * 3600
MAX_FIELDS = 10
"""Fields that are read of a query without a session."""
INVALID_LINK = "This login link is wrong or too old, or was already used. Log in with an API token."


def login_link(services: Services) -> str:
    """Return a new URL that logs a browser in, once."""
    text = link_token(services.links, services.settings)
    return f"{services.settings.local_url}{services.settings.path_prefix}/login?token={text}"


def link_token(links: Links, settings: Settings) -> str:
    """Return the token in a new login link."""
    return links.sign_timed(_purpose(settings, settings.api_tokens[0].get_secret_value()), secrets.token_urlsafe(18))


async def show_login(request: Request) -> Response:
    """GET /login: the form, or a redirect for a valid login link or an existing session."""
    query = _query(request)
    next_path = forms.local_path(query.get("next", "/"))
    if access.current_session(request) is not None:
        return redirect(request, next_path)
    # Browsers and mail programs prefetch links: that must not use one up.
    if "token" in query and request.method == "GET" and "sec-purpose" not in request.headers:
        token = await _use_link(services_of(request), query["token"])
        if token is None:
            return render(request, "login.html", next_path=next_path, message=INVALID_LINK)
        response = redirect(request, next_path)
        sessions.start(request, response, token)
        return response
    return render(request, "login.html", next_path=next_path, message="")


async def log_in(request: Request) -> Response:
    """POST /login: the password is an API token."""
    form, services = await forms.read_login_form(request), services_of(request)
    next_path = forms.local_path(form.get("next", "/"))
    throttle: LoginThrottle = request.app.state.login_throttle
    client, now = request.client.host if request.client else "", services.clock()
    if seconds := math.ceil(throttle.seconds_to_wait(client, now)):
        return _refuse_guess(request, next_path, seconds)
    token = access.match_token(services, form.get("password", "").strip())
    if token is None:
        throttle.record_failure(client, now)
        message = "That API token is not valid."
        return render(request, "login.html", 403, next_path=next_path, message=message)
    if (previous := access.current_session(request)) is not None:
        await sessions.end(request, previous)
    response = redirect(request, next_path)
    sessions.start(request, response, token)
    return response


async def log_out(request: Request) -> Response:
    """POST /logout: end the session, for every copy of its cookie."""
    await forms.read_own_form(request)
    if (session := access.current_session(request)) is not None:
        await sessions.end(request, session)
    response = redirect(request, "/login")
    sessions.delete_cookie(request, response)
    return response


async def _use_link(services: Services, text: str) -> str | None:
    """Return the API token that a login link is for, and mark the link as used; None where it is invalid.

    Raises `StoreUnavailable`.
    """
    tokens = [each.get_secret_value() for each in services.settings.api_tokens]
    read = [
        (services.links.unsign_timed(_purpose(services.settings, token), text, LINK_SECONDS), token) for token in tokens
    ]
    nonce, token = next((found for found in read if found[0] is not None), (None, ""))
    if nonce is None:
        return None
    now, digest = services.clock(), hashlib.sha256(f"login link {nonce}".encode()).hexdigest()
    until = now + (LINK_SECONDS + 1) * 1000
    is_new = await services.store.write(lambda tx: ended_sessions.use_once(tx, digest, until, now))
    return token if is_new else None


def _purpose(settings: Settings, token: str) -> str:
    return f"login link to the {'sandbox' if settings.sandbox else 'service'} of {token}"


def _query(request: Request) -> dict[str, str]:
    """Return the query of a client without a session; one that no page of ours would send counts as empty."""
    try:
        return dict(parse_qsl(request.scope["query_string"].decode("latin-1"), max_num_fields=MAX_FIELDS))
    except ValueError:
        return {}


def _refuse_guess(request: Request, next_path: str, seconds: int) -> Response:
    """Return a refusal of any token, right or wrong: an answer that told them apart would help an attacker."""
    message = f"Too many wrong API tokens from your address. Wait {seconds} s, then try again."
    response = render(request, "login.html", 429, next_path=next_path, message=message)
    response.headers["Retry-After"] = str(seconds)
    return response
