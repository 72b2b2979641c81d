"""An endpoint that a Rivya account has registered for its events, and which URLs it may have.

The ledger stores them, `webhooks` manages them, `callbacks` posts to them.
"""

import ipaddress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from receiver.sandbox.orders import OrderError

EVENT_TYPES = ("generation.succeeded", "generation.failed")
LOCAL_ENDINGS = (".local", ".localdomain", ".internal", ".lan", ".home.arpa")


@dataclass(slots=True)
class Endpoint:
    """One endpoint; times are epoch seconds, and `disabled_at` is None while it is active."""

    id: str
    name: str
    url: str
    event_types: list[str]
    secret: str = field(repr=False)
    created_at: float
    updated_at: float
    disabled_at: float | None = None

    def accepts(self, event_type: str) -> bool:
        """Return whether events of this type are posted to it now."""
        return self.disabled_at is None and event_type in self.event_types


def check_endpoint_url(url: Any) -> str:
    """Return a URL that follows the document's rules. Raises OrderError.

    HTTPS only, no credentials, fragments, local names or private addresses. Loopback is allowed, also over http,
    because the service usually runs beside this simulation.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except (ValueError, TypeError, AttributeError):
        raise OrderError("url must be a URL") from None
    if not isinstance(url, str) or parts.scheme not in {"http", "https"} or not host:
        raise OrderError("url must be an https URL")
    if "@" in parts.netloc or "#" in url:
        raise OrderError("url must not have credentials or a fragment")
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return url
    if parts.scheme != "https":
        raise OrderError("url must be an https URL")
    if address is None and ("." not in host or host.endswith(LOCAL_ENDINGS)):
        raise OrderError("url must not have a local name")
    if address is not None and not address.is_global:
        raise OrderError("url must not have a private or reserved address")
    return url


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
