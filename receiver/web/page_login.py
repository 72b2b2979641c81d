"""The way in and out: the login form, login links, and logging out.

`pages` routes here. A login link is what `receiver serve` prints for the sandbox: a signed text in the address, worth a
session for a day. Where a browser goes on to is always a path of ours.
"""

from starlette.requests import Request
from starlette.responses import Response

from receiver.web import access, forms
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
            access.start_session(request, response)
        return response
    message = "This login link is wrong or too old. Log in with an API token." if "token" in query else ""
    return render(request, "login.html", wanted=wanted, message=message)


async def log_in(request: Request) -> Response:
    """POST /login: an API token is the password."""
    form = await forms.login_form(request)
    wanted = forms.local_path(form.get("next", "/"))
    if not access.is_token(services_of(request), form.get("password", "").strip()):
        message = "That is none of this service's API tokens."
        return render(request, "login.html", 403, wanted=wanted, message=message)
    response = redirect(request, wanted)
    access.start_session(request, response)
    return response


async def log_out(request: Request) -> Response:
    """POST /logout."""
    await forms.our_form(request)
    response = redirect(request, "/login")
    access.end_session(response)
    return response
