"""The way in and out: the login form, login links, and logging out.

`pages` routes here. A login link is what `receiver serve` prints for the sandbox: a signed text in the address, worth a
session for a day. Where a browser goes on to is always a path of ours. Whoever guesses tokens is made to wait; a login
link cannot be guessed.
"""

import math

from starlette.requests import Request
from starlette.responses import Response

from receiver.web import access, forms, sessions
from receiver.web.page_frame import redirect, render, services_of

LINK = "login link"
"""The purpose that `Links.sign` signs a login link for."""
LINK_SECONDS = 24 * 3600


async def show_login(request: Request) -> Response:
    """GET /login: the form, or the way in for whoever brings a login link or is in already."""
    query, wanted = request.query_params, forms.local_path(request.query_params.get("next", "/"))
    linked = services_of(request).links.read(LINK, query.get("token", ""), LINK_SECONDS) is not None
    if linked or access.session_of(request) is not None:
        response = redirect(request, wanted)
        if linked:
            first = services_of(request).settings.api_tokens[0].get_secret_value()
            sessions.start(request, response, first)
        return response
    message = "This login link is wrong or too old. Log in with an API token." if "token" in query else ""
    return render(request, "login.html", wanted=wanted, message=message)


async def log_in(request: Request) -> Response:
    """POST /login: an API token is the password."""
    form, services = await forms.login_form(request), services_of(request)
    wanted = forms.local_path(form.get("next", "/"))
    client, now = request.client.host if request.client else "", services.clock()
    if pause := math.ceil(services.logins.pause(client, now)):
        return _too_many(request, wanted, pause)
    token = access.token_of(services, form.get("password", "").strip())
    if token is None:
        services.logins.fail(client, now)
        message = "That is none of this service's API tokens."
        return render(request, "login.html", 403, wanted=wanted, message=message)
    if (before := access.session_of(request)) is not None:
        await sessions.end(request, before)
    response = redirect(request, wanted)
    sessions.start(request, response, token)
    return response


async def log_out(request: Request) -> Response:
    """POST /logout: the session is over, also for whoever has a copy of its cookie."""
    await forms.our_form(request)
    if (session := access.session_of(request)) is not None:
        await sessions.end(request, session)
    response = redirect(request, "/login")
    sessions.take_away(request, response)
    return response


def _too_many(request: Request, wanted: str, pause: int) -> Response:
    """Refuse to look at a token, right or wrong: an answer that told them apart would help whoever guesses."""
    message = f"Too many wrong tokens came from your address. None is looked at for {pause} s; then try again."
    response = render(request, "login.html", 429, wanted=wanted, message=message)
    response.headers["Retry-After"] = str(pause)
    return response
