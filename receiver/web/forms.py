"""Reads what a page's form posts, and makes sure that it was one of our own forms.

The handlers in `pages` call it before anything else. It never changes anything, and it never needs JavaScript.
"""

import secrets
from urllib.parse import parse_qsl, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request

from receiver.web import access
from receiver.web.bodies import read_body
from receiver.web.queries import MAX_KEY

MAX_FORM = 2 * 1024 * 1024
MAX_FIELDS = 200
URLENCODED = "application/x-www-form-urlencoded"
OWN_SITE = frozenset({"same-origin", "none"})

Form = dict[str, str]
FOREIGN = "This form was sent from somewhere else, so nothing was done. Open the page here and try again."


async def read_form(request: Request) -> Form:
    """Read a posted form; of a field given twice the last counts. Raises `HTTPException`."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != URLENCODED:
        raise HTTPException(415, f"Send a form as {URLENCODED}.")
    body = await read_body(request, MAX_FORM)
    try:
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise HTTPException(400, f"At most {MAX_FIELDS} fields are taken.") from error
    return {name: value.replace("\r\n", "\n") for name, value in pairs}  # a text area sends every line end as CRLF


async def our_form(request: Request) -> Form:
    """Read a form of this session; raises `HTTPException` 403 for any other."""
    refuse_other_sites(request)
    form = await read_form(request)
    if not access.form_is_ours(request, form.get("csrf", "")):
        raise HTTPException(403, FOREIGN)
    return form


async def login_form(request: Request) -> Form:
    """Read the login form, which has no session to prove itself with; raises `HTTPException` 403 for a foreign one."""
    refuse_other_sites(request)
    origin = request.headers.get("origin")
    told = "sec-fetch-site" in request.headers
    if not told and origin is not None and urlsplit(origin).netloc != request.headers.get("host", ""):
        raise HTTPException(403, FOREIGN)
    return await read_form(request)


def refuse_other_sites(request: Request) -> None:
    """Refuse a request that a browser says comes from another site; raises `HTTPException` 403."""
    if request.headers.get("sec-fetch-site", "none") not in OWN_SITE:
        raise HTTPException(403, FOREIGN)


def local_path(given: str) -> str:
    """Return a path of ours to go on to; `/` for anything that could lead elsewhere."""
    ours = given.startswith("/") and "//" not in given and "\\" not in given and given.isprintable()
    return given if ours else "/"


def new_key() -> str:
    """Make the hidden key by which a form that spends is taken once, however often it is sent."""
    return f"page-{secrets.token_urlsafe(18)}"


def key_of(form: Form) -> str:
    """Read the hidden key of a form that spends; raises `HTTPException` 400 where it is missing."""
    key = form.get("key", "")
    if not 0 < len(key) <= MAX_KEY or not key.isascii() or not key.isprintable():
        raise HTTPException(400, "This form came without its key, so nothing was ordered. Open it again.")
    return key
