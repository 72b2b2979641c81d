"""Reads what a form posts, and verifies that the form came from one of our own pages (CSRF protection).

The handlers in `routes` call it before anything else. It changes nothing, and it needs no JavaScript.
"""

import asyncio
import secrets
from collections.abc import Collection
from urllib.parse import parse_qsl, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request

from receiver.services import Services
from receiver.web import access
from receiver.web.api.requests import MAX_KEY
from receiver.web.bodies import body_share, read_body
from receiver.web.pages.layout import MAX_RETURN_PATH

MAX_ORDER = 2 * 1024 * 1024
"""Bytes of an order form, whose parameters may be long."""
MAX_FORM = 16 * 1024
"""Bytes of every other form."""
MAX_FIELDS = 200
URLENCODED = "application/x-www-form-urlencoded"
OWN_SITE = frozenset({"same-origin", "none"})

Form = dict[str, str]
NOT_OUR_FORM = "This form did not come from this page; nothing was changed. Reload and try again."


async def read_own_form(request: Request, limit: int = MAX_FORM) -> Form:
    """Return the fields of a form of this session, of at most `limit` bytes; raises `HTTPException` 403 for any other.

    Only logged-in users get here, so no body is read before its sender is known. The body is read once.
    """
    cached: Form | None = getattr(request.state, "form", None)
    if cached is not None:
        return cached
    refuse_other_sites(request, {"null"})
    _require_form(request)
    body = await read_body(request, limit)
    form = await asyncio.to_thread(_parse, body) if len(body) > MAX_FORM else _parse(body)
    if not access.is_own_form(request, form.get("csrf", "")):
        raise HTTPException(403, NOT_OUR_FORM)
    request.state.form = form
    return form


async def read_login_form(request: Request) -> Form:
    """Return the fields of the login form, which has no session yet; raises `HTTPException` 403 for another site's."""
    refuse_other_sites(request, ())
    _require_form(request)
    with body_share(request) as share:
        return _parse(await read_body(request, MAX_FORM, share))


def _require_form(request: Request) -> None:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != URLENCODED:
        raise HTTPException(415, f"Send a form as {URLENCODED}.")


def _parse(body: bytes) -> Form:
    """Return the fields of a form; of a field that is given twice the last counts."""
    try:
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise HTTPException(400, f"At most {MAX_FIELDS} fields are accepted.") from error
    # A text area sends every newline as CRLF.
    return {name: value.replace("\r\n", "\n") for name, value in pairs}


def refuse_other_sites(request: Request, allowed_origins: Collection[str]) -> None:
    """Raise `HTTPException` 403 where the browser says that the request comes from another site.

    An older browser sends only the origin, which may also be one of the `allowed_origins`: since our pages forbid a
    referrer, it sends their forms with the origin "null". The session's CSRF token then decides.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        is_ours = site in OWN_SITE
    else:
        is_ours = origin is None or origin in allowed_origins or origin.partition("://")[2] in _own_hosts(request)
    if not is_ours:
        raise HTTPException(403, NOT_OUR_FORM)


def _own_hosts(request: Request) -> set[str]:
    """Return the hosts that our forms may come from: the requested one, and the public one in front of a proxy."""
    services: Services = request.app.state.services
    return {request.headers.get("host", ""), urlsplit(services.settings.public_url or "").netloc} - {""}


def local_path(given: str) -> str:
    """Return the path if it is one of this site's to redirect to; `/` for anything that could lead elsewhere."""
    is_local = given.startswith("/") and "//" not in given and "\\" not in given and given.isprintable()
    return given if is_local and len(given) <= MAX_RETURN_PATH else "/"


def new_key() -> str:
    """Return a new hidden idempotency key: a form that spends buys once, however often it is sent."""
    return f"page-{secrets.token_urlsafe(18)}"


def read_key(form: Form) -> str:
    """Return the hidden key of a form that spends; raises `HTTPException` 400 where it is missing."""
    key = form.get("key", "")
    if not 0 < len(key) <= MAX_KEY or not key.isascii() or not key.isprintable():
        raise HTTPException(400, "This form came without its key, so nothing was ordered. Reload and try again.")
    return key
