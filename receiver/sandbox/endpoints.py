"""An endpoint that a Rivya account has registered for its events, and which URLs it may have.

The ledger keeps them, `webhooks` manages them, the courier posts to them.
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

    def wants(self, event_type: str) -> bool:
        """Whether an event of this type is to be posted to it now."""
        return self.disabled_at is None and event_type in self.event_types


def acceptable_url(url: Any) -> str:
    """The URL if it keeps to the document's rules; raises OrderError.

    HTTPS only, no credentials, fragment, local names or private addresses. Loopback is allowed here, also over http:
    this is a simulation, and the receiver mostly runs beside it.
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
