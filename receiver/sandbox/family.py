"""What an API family consists of: its paths and its wire format.

Each of `rivya`, `apixo`, `revid`, `gateway`, `kie` and `veo` ends with one `Family`. Its functions are pure: they read
a request, or turn a purchase and its progress into JSON, and decide nothing.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from starlette.requests import Request

from receiver.sandbox.orders import Order
from receiver.sandbox.progress import Progress
from receiver.sandbox.purchase import Purchase

JSON = dict[str, Any]
# Returns the headers that sign a callback, from its body, the body's bytes, the key, and the time (epoch seconds).
Signer = Callable[[JSON, bytes, str, float], dict[str, str]]


class Refusal(StrEnum):
    """Why a request is refused; each family has its own status, code and message for it."""

    UNAUTHORISED = "unauthorised"
    INVALID = "invalid"
    REFUSED = "refused"
    CONFLICT = "conflict"
    BUSY = "busy"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CallbackStyle:
    """How a family calls back: the POST's body, the number of retries, and whether it reports each change.

    With `to_account`, it posts to the account's registered endpoints, each with its own key, instead of the task's own
    URL. Nothing is signed without `sign` and a key.
    """

    body: Callable[[Purchase, Progress], JSON]
    retries: int
    each_change: bool = False
    to_account: bool = False
    sign: Signer | None = None
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Family:
    """One API family. Paths are Starlette's; a `{model}` in them must be the purchase's own.

    `credential` is "" when the request has none, `read_order` raises OrderError, `refusal` gives the HTTP status and
    the body, `callbacks` is None where nothing is called back. `root` is where its paths begin, if not at its name.
    """

    name: str
    create_path: str
    status_path: str
    status_method: str
    credential: Callable[[Mapping[str, str]], str]
    read_order: Callable[[Request, JSON], Order]
    new_id: Callable[[str], str]
    requested_id: Callable[[Request], str]
    created: Callable[[Purchase], JSON]
    status: Callable[[Purchase, Progress], JSON]
    refusal: Callable[[Refusal, str], tuple[int, JSON]]
    callbacks: CallbackStyle | None = None
    root: str | None = None


def bearer(headers: Mapping[str, str]) -> str:
    """Return the key in an `Authorization: Bearer <key>` header, or ""."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def milliseconds(seconds: float) -> int:
    """Return epoch seconds as the integer Unix milliseconds that APIXO, Revid and kie use."""
    return round(seconds * 1000)


def json_text(value: JSON) -> str:
    """Return a value as compact JSON, for JSON inside JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
