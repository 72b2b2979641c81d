"""What the sandbox knows about one purchase, and what it shows of it.

The ledger stores purchases, the families put them into their own format. A purchase never holds a credential.
"""

from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from receiver.sandbox.options import Options

CALLBACK_FIELDS = ("callBackUrl", "progressCallBackUrl", "callback_url", "notify_hook")
REDACTED = "[redacted]"


@dataclass(frozen=True, slots=True)
class CallbackTry:
    """One POST to the callback URL: for which planned callback, when it ended, and the HTTP status or the error."""

    delivery: str
    at: float
    answer: int | str


@dataclass(slots=True)
class Purchase:
    """One accepted create request.

    `order` is its whole body and `idempotency_key` its key, if the family has one. `delivered` names the callbacks that
    were accepted or given up, and will not be sent again.
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
    def options(self) -> Options:
        """Return what its prompt orders."""
        return Options.parse(self.prompt)


def public_view(purchase: Purchase) -> dict[str, Any]:
    """Return the purchase as the public ledger lists it: without the token that a callback URL carries."""
    listed = asdict(purchase)
    listed["callback_url"] = _without_token(purchase.callback_url)
    listed["order"] = {
        name: _without_token(value) if name in CALLBACK_FIELDS else value for name, value in purchase.order.items()
    }
    return listed


def _without_token(url: object) -> str | None:
    """Return the URL without its last path segment, query and user, each of which may be a secret; None stays None."""
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
