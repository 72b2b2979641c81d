"""Reads what a page's form posts, and makes sure that it was one of our own forms.

The handlers in `pages` call it before anything else. It never changes anything, and it never needs JavaScript.
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
"""Bytes of the form of an order, whose parameters may be long."""
MAX_FORM = 16 * 1024
"""Bytes of every other form."""
MAX_FIELDS = 200
URLENCODED = "application/x-www-form-urlencoded"
OWN_SITE = frozenset({"same-origin", "none"})

Form = dict[str, str]
NOT_OUR_FORM = "This form was sent from somewhere else, so nothing was done. Open the page here and try again."


async def read_own_form(request: Request, limit: int = MAX_FORM) -> Form:
    """Read a form of this session, once, whose body is at most `limit` bytes; raises `HTTPException` 403 for any other.

    Only who is logged in gets here, so a body is never read before it is known whose it is.
    """
    known: Form | None = getattr(request.state, "form", None)
    if known is not None:
        return known
    refuse_other_sites(request, {"null"})
    _require_form(request)
    body = await read_body(request, limit)
    form = await asyncio.to_thread(_parsed, body) if len(body) > MAX_FORM else _parsed(body)
    if not access.is_own_form(request, form.get("csrf", "")):
        raise HTTPException(403, NOT_OUR_FORM)
    request.state.form = form
    return form


async def read_login_form(request: Request) -> Form:
    """Read the login form, which has no session to prove itself with; raises `HTTPException` 403 for a foreign one."""
    refuse_other_sites(request, ())
    _require_form(request)
    with body_share(request) as share:
        return _parsed(await read_body(request, MAX_FORM, share))


def _require_form(request: Request) -> None:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != URLENCODED:
        raise HTTPException(415, f"Send a form as {URLENCODED}.")


def _parsed(body: bytes) -> Form:
    """Parse a form; of a field given twice the last counts."""
    try:
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise HTTPException(400, f"At most {MAX_FIELDS} fields are taken.") from error
    # A text area sends every line end as CRLF.
    return {name: value.replace("\r\n", "\n") for name, value in pairs}


def refuse_other_sites(request: Request, besides: Collection[str]) -> None:
    """Refuse a request that a browser says comes from another site; raises `HTTPException` 403.

    An older browser says only the origin, which may be one of those `besides`: our pages give it no referrer to go by,
    so it sends their forms with "null". A form of a session then proves itself with its token.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        ours = site in OWN_SITE
    else:
        ours = origin is None or origin in besides or origin.partition("://")[2] in _own_hosts(request)
    if not ours:
        raise HTTPException(403, NOT_OUR_FORM)


def _own_hosts(request: Request) -> set[str]:
    """Name the hosts that a form of ours may come from: the one asked for, and the public one, before any proxy."""
    services: Services = request.app.state.services
    return {request.headers.get("host", ""), urlsplit(services.settings.public_url or "").netloc} - {""}


def local_path(given: str) -> str:
    """Return a path of ours to go on to; `/` for anything that could lead elsewhere."""
    ours = given.startswith("/") and "//" not in given and "\\" not in given and given.isprintable()
    return given if ours and len(given) <= MAX_RETURN_PATH else "/"


def new_key() -> str:
    """Make the hidden key by which a form that spends is taken once, however often it is sent."""
    return f"page-{secrets.token_urlsafe(18)}"


def read_key(form: Form) -> str:
    """Read the hidden key of a form that spends; raises `HTTPException` 400 where it is missing."""
    key = form.get("key", "")
    if not 0 < len(key) <= MAX_KEY or not key.isascii() or not key.isprintable():
        raise HTTPException(400, "This form came without its key, so nothing was ordered. Open it again.")
    return key
