"""What an API family must bring: its paths, and how it says things on the wire.

Each of `rivya`, `apixo`, `revid`, `gateway`, `kie` and `veo` ends with one `Family`; the desk and the courier work with
any of them. A family's functions are pure: they read a request or turn a purchase and a truth into JSON, and decide
nothing.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from starlette.requests import Request

from receiver.sandbox.orders import Order
from receiver.sandbox.progress import Truth
from receiver.sandbox.purchase import Purchase

JSON = dict[str, Any]
# Headers that sign a callback: made of its body, the same as bytes, the key, and the moment (epoch seconds).
Seal = Callable[[JSON, bytes, str, float], dict[str, str]]


class No(StrEnum):
    """Why a request is turned down; each family has its own status, code and words for it."""

    UNAUTHORISED = "unauthorised"
    INVALID = "invalid"
    REFUSED = "refused"
    CONFLICT = "conflict"
    BUSY = "busy"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Hook:
    """How a family calls back: the body of its POST, tries after the first, and whether it tells of each change.

    With `to_account` it posts to the endpoints that the account has registered, each of which has its own key, instead
    of the task's own URL. Nothing is signed without a `seal` and a key.
    """

    body: Callable[[Purchase, Truth], JSON]
    retries: int
    each_change: bool = False
    to_account: bool = False
    seal: Seal | None = None
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Family:
    """One API family. Paths are Starlette's; a `{model}` in them must be the purchase's own.

    `credential` is "" when the request has none, `read_order` raises OrderError, `refusal` gives the HTTP status and
    the body, `hook` is None where nothing is called back. `root` is where its paths begin, if not at its name.
    """

    name: str
    create_path: str
    status_path: str
    status_method: str
    credential: Callable[[Mapping[str, str]], str]
    read_order: Callable[[Request, JSON], Order]
    new_id: Callable[[str], str]
    asked_id: Callable[[Request], str]
    created: Callable[[Purchase], JSON]
    status: Callable[[Purchase, Truth], JSON]
    refusal: Callable[[No, str], tuple[int, JSON]]
    hook: Hook | None = None
    root: str | None = None


def bearer(headers: Mapping[str, str]) -> str:
    """The key of an `Authorization: Bearer <key>` header, "" without one."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def milliseconds(seconds: float) -> int:
    """Epoch seconds as the whole Unix milliseconds that APIXO, Revid and kie use."""
    return round(seconds * 1000)


def json_text(value: JSON) -> str:
    """JSON within JSON, written compactly."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
