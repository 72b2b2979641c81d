"""The way in and out: the login form, login links, and logging out.

`pages` routes here. A login link is what `receiver serve` prints for the sandbox: a signed text in the address, worth
one session. It is signed for one API token and for the sandbox or the real service, so it is worth nothing after the
token was changed, or once real keys are set. Where a browser goes on to is always a path of ours. Whoever guesses
tokens is made to wait; a login link cannot be guessed.
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
"""Fields of a query that are read of somebody who is not logged in."""
USED = "This login link is wrong or too old, or was used before. Log in with an API token."


def login_link(services: Services) -> str:
    """Make the address that opens the pages once."""
    text = link_token(services.links, services.settings)
    return f"{services.settings.local_url}{services.settings.path_prefix}/login?token={text}"


def link_token(links: Links, settings: Settings) -> str:
    """Make the text in a login link."""
    return links.sign_timed(_purpose(settings, settings.api_tokens[0].get_secret_value()), secrets.token_urlsafe(18))


async def show_login(request: Request) -> Response:
    """GET /login: the form, or the way in for whoever brings a login link or is in already."""
    query = _query(request)
    wanted = forms.local_path(query.get("next", "/"))
    if access.current_session(request) is not None:
        return redirect(request, wanted)
    # Browsers and mail programs look at links ahead of people: that uses none up.
    if "token" in query and request.method == "GET" and "sec-purpose" not in request.headers:
        token = await _use_link(services_of(request), query["token"])
        if token is None:
            return render(request, "login.html", wanted=wanted, message=USED)
        response = redirect(request, wanted)
        sessions.start(request, response, token)
        return response
    return render(request, "login.html", wanted=wanted, message="")


async def log_in(request: Request) -> Response:
    """POST /login: an API token is the password."""
    form, services = await forms.read_login_form(request), services_of(request)
    wanted = forms.local_path(form.get("next", "/"))
    throttle: LoginThrottle = request.app.state.login_throttle
    client, now = request.client.host if request.client else "", services.clock()
    if pause := math.ceil(throttle.pause(client, now)):
        return _too_many(request, wanted, pause)
    token = access.match_token(services, form.get("password", "").strip())
    if token is None:
        throttle.record_failure(client, now)
        message = "That is none of this service's API tokens."
        return render(request, "login.html", 403, wanted=wanted, message=message)
    if (before := access.current_session(request)) is not None:
        await sessions.end(request, before)
    response = redirect(request, wanted)
    sessions.start(request, response, token)
    return response


async def log_out(request: Request) -> Response:
    """POST /logout: the session is over, also for whoever has a copy of its cookie."""
    await forms.read_own_form(request)
    if (session := access.current_session(request)) is not None:
        await sessions.end(request, session)
    response = redirect(request, "/login")
    sessions.delete_cookie(request, response)
    return response


async def _use_link(services: Services, text: str) -> str | None:
    """Return the API token that a login link is for, and use the link up; None where it is none that counts.

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
    is_new = await services.store.write(lambda tx: ended_sessions.end_once(tx, digest, until, now))
    return token if is_new else None


def _purpose(settings: Settings, token: str) -> str:
    return f"login link to the {'sandbox' if settings.sandbox else 'service'} of {token}"


def _query(request: Request) -> dict[str, str]:
    """Read the query of somebody whom we do not know; one that no page of ours sends is as good as none."""
    try:
        return dict(parse_qsl(request.scope["query_string"].decode("latin-1"), max_num_fields=MAX_FIELDS))
    except ValueError:
        return {}


def _too_many(request: Request, wanted: str, pause: int) -> Response:
    """Refuse to look at a token, right or wrong: an answer that told them apart would help whoever guesses."""
    message = f"Too many wrong tokens came from your address. None is looked at for {pause} s; then try again."
    response = render(request, "login.html", 429, wanted=wanted, message=message)
    response.headers["Retry-After"] = str(pause)
    return response
