"""The layout of every page: session, templates, security headers, and errors as pages.

`routes` wraps each handler in `page`. Jinja2 escapes everything that is rendered here.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from receiver.core import times
from receiver.core.errors import OutcomeUnknown, ReceiverError, StoreUnavailable
from receiver.documents import format_timestamp
from receiver.services import Services
from receiver.store.attention import count_tasks
from receiver.web import access, sessions
from receiver.web.headers import HEADERS
from receiver.web.pages import wording
from receiver.web.problems import RETRY_SECONDS, status_of

MAX_RETURN_PATH = 2000
"""Characters of the path to return to after the login."""

Handler = Callable[[Request], Awaitable[Response]]
UnavailableHandler = Callable[[Request, StoreUnavailable], Awaitable[Response]]

_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "media-src 'self' https:{media}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters |= {
    "moment": format_timestamp,
    "absolute": times.format_absolute,
    "relative": times.format_relative,
    "duration": times.format_duration,
    "credits": wording.format_credits,
}


def page(handler: Handler, *, is_public: bool = False, on_unavailable: UnavailableHandler | None = None) -> Handler:
    """Return a handler wrapped as a page: behind the login, with errors as pages and with the headers of every page.

    `on_unavailable` answers instead of an error page while the database is unavailable.
    """

    async def answer(request: Request) -> Response:
        try:
            is_allowed = await access.identify(request) is not None or is_public
            if access.current_session(request) is not None and request.method in access.SAFE_METHODS:
                request.state.attention = await services_of(request).store.read(count_tasks)
            return await handler(request) if is_allowed else _to_login(request)
        except StoreUnavailable as error:
            if on_unavailable is None:
                raise
            return await on_unavailable(request, error)

    async def endpoint(request: Request) -> Response:
        try:
            response = await answer(request)
        except HTTPException as error:
            response = _error(request, error.status_code, error.detail)
            response.headers.update(error.headers or {})
        except ReceiverError as error:
            is_known = not isinstance(error, OutcomeUnknown)
            response = _error(request, status_of(error), str(error), is_known=is_known)
        if response.status_code == 503:
            response.headers["Retry-After"] = str(RETRY_SECONDS)
        session = access.current_session(request)
        if session is not None and "set-cookie" not in response.headers:
            sessions.renew(request, response, session)
        response.headers.update(HEADERS | {"Content-Security-Policy": _policy(services_of(request))})
        return response

    return endpoint


def services_of(request: Request) -> Services:
    """Return the application's services."""
    services: Services = request.app.state.services
    return services


def render(request: Request, template: str, status: int = 200, **context: Any) -> Response:
    """Return a page: a template rendered within the layout."""
    services = services_of(request)
    layout = {
        "prefix": services.settings.path_prefix,
        "sandbox": services.settings.sandbox,
        "now": services.clock(),
        "here": _path(request),
        "signed_in": access.current_session(request) is not None,
        "csrf": access.form_token(request),
        "listed": getattr(request.state, "attention", 0),
    }
    text = TEMPLATES.get_template(template).render(layout | context)
    return HTMLResponse(text.encode("utf-8", "replace"), status)  # a lone surrogate in a prompt must not break the page


def redirect(request: Request, path: str) -> Response:
    """Return a redirect to one of our own paths, with GET."""
    return RedirectResponse(services_of(request).settings.path_prefix + path, 303)


def _path(request: Request) -> str:
    path: str = request.scope["path"]
    return path.removeprefix(request.scope.get("root_path", "")) or "/"


def _to_login(request: Request) -> Response:
    """Return a redirect to the login, which leads back to the page, or to the page that a posted form was on."""
    query = request.scope["query_string"].decode("latin-1")
    return_path = _path(request) + (f"?{query}" if query else "")
    if request.method not in access.SAFE_METHODS:
        task_id = request.path_params.get("id")
        return_path = f"/tasks/{task_id}" if task_id else "/"
    return redirect(
        request, f"/login?{urlencode({'next': return_path if len(return_path) <= MAX_RETURN_PATH else '/'})}"
    )


def _error(request: Request, status: int, message: str, *, is_known: bool = True) -> Response:
    """Return an error page; `is_known` says that nothing was changed, where a 503 has this for its reason."""
    task_id = request.path_params.get("id") if status != 404 else None
    phrase = HTTPStatus(status).phrase
    return render(
        request, "error.html", status, code=status, phrase=phrase, message=message, task_id=task_id, is_known=is_known
    )


def _policy(services: Services) -> str:
    """Return the content security policy; the sandbox's videos come from this service itself, over plain http."""
    own = urlsplit(services.settings.public_url or "")
    return _POLICY.format(media=f" {own.scheme}://{own.netloc}" if services.settings.sandbox else "")
