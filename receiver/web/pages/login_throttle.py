"""Throttles guessed logins: counts failures by client address. Pure; `login` calls it with the current time.

Its memory is bounded: the address whose last failure is oldest is forgotten first.
"""

import ipaddress
from collections import OrderedDict

FAILURES = 10
SECONDS = 60
MAX_CLIENTS = 10_000
"""Addresses remembered at once."""


class LoginThrottle:
    """Failures of the last minute, by client. Times are Unix milliseconds."""

    def __init__(self, max_clients: int = MAX_CLIENTS) -> None:
        """Start without failures."""
        self._max_clients = max_clients
        self._failures: OrderedDict[str, list[int]] = OrderedDict()

    def record_failure(self, client: str, now: int) -> None:
        """Note that a client failed."""
        key = network_of(client)
        self._failures[key] = [*self._recent(key, now), now][-FAILURES:]
        self._failures.move_to_end(key)
        if len(self._failures) > self._max_clients:
            self._failures.popitem(last=False)

    def seconds_to_wait(self, client: str, now: int) -> float:
        """Return how many seconds a client has to wait before the next try; 0 if it need not wait."""
        recent = self._recent(network_of(client), now)
        return (recent[0] + SECONDS * 1000 - now) / 1000 if len(recent) >= FAILURES else 0.0

    def _recent(self, key: str, now: int) -> list[int]:
        # A failure in the future is from before the clock was set back: it must not lock anybody out until then.
        return [at for at in self._failures.get(key, ()) if 0 <= now - at < SECONDS * 1000]


def network_of(client: str) -> str:
    """Return what a client is counted by: its IPv4 address, or the /64 of its IPv6 address, which one customer has."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:  # whatever a trusted proxy calls it
        return client[:64]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
