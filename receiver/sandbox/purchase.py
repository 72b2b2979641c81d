"""What the sandbox knows about one purchase, and how it shows it to the curious.

The ledger keeps purchases, the families put them into their own words. A purchase never holds the buyer's credential.
"""

from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from receiver.sandbox.knobs import Knobs

CALLBACK_FIELDS = ("callBackUrl", "progressCallBackUrl", "callback_url", "notify_hook")
REDACTED = "[redacted]"


@dataclass(frozen=True, slots=True)
class CallbackTry:
    """One POST to the callback URL: which delivery it belongs to, when it ended, and the HTTP status or what broke."""

    delivery: str
    at: float
    answer: int | str


@dataclass(slots=True)
class Purchase:
    """One accepted create request.

    `order` is its whole body and `idempotency_key` its key, where the family has one. `delivered` names the deliveries
    that are through, taken or given up, and will not be posted again.
    """

    id: str
    family: str
    model: str
    prompt: str
    order: dict[str, Any]
    callback_url: str | None
    idempotency_key: str | None
    video_url: str
    bought_at: float
    status_asks: int = 0
    callbacks: list[CallbackTry] = field(default_factory=list)
    delivered: list[str] = field(default_factory=list)

    @property
    def knobs(self) -> Knobs:
        """What its prompt orders."""
        return Knobs.parse(self.prompt)


def shown(purchase: Purchase) -> dict[str, Any]:
    """The purchase as the public ledger lists it: without the token that a callback URL carries."""
    listed = asdict(purchase)
    listed["callback_url"] = _without_token(purchase.callback_url)
    listed["order"] = {
        name: _without_token(value) if name in CALLBACK_FIELDS else value for name, value in purchase.order.items()
    }
    return listed


def _without_token(url: object) -> str | None:
    """The URL without its last path segment, query and user, each of which may be a secret; None stays None."""
    if url is None:
        return None
    if not isinstance(url, str):
        return REDACTED
    try:
        parts = urlsplit(url)
        path, _, _ = parts.path.rstrip("/").rpartition("/")
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, f"{path}/{REDACTED}", "", ""))
    except ValueError:
        return REDACTED
