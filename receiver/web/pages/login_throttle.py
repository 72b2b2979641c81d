"""Slows down whoever guesses: counts failures by client address. Pure; `web.pages.login` asks it, with the time.

What it remembers is bounded: it forgets the address that has not failed for the longest time first.
"""

import ipaddress
from collections import OrderedDict

FAILURES = 10
SECONDS = 60
MOST = 10_000
"""Addresses remembered at once."""


class LoginThrottle:
    """Failures of the last minute, by who failed. Times are Unix milliseconds."""

    def __init__(self, most: int = MOST) -> None:
        """Begin with a clean slate that holds so many addresses."""
        self._most = most
        self._failures: OrderedDict[str, list[int]] = OrderedDict()

    def record_failure(self, client: str, now: int) -> None:
        """Note that a client failed."""
        key = network_of(client)
        self._failures[key] = [*self._recent(key, now), now][-FAILURES:]
        self._failures.move_to_end(key)
        if len(self._failures) > self._most:
            self._failures.popitem(last=False)

    def pause(self, client: str, now: int) -> float:
        """Return for how many seconds a client may not try again; 0 where it may."""
        recent = self._recent(network_of(client), now)
        return (recent[0] + SECONDS * 1000 - now) / 1000 if len(recent) >= FAILURES else 0.0

    def _recent(self, key: str, now: int) -> list[int]:
        # What lies ahead is from before the clock was set back: it must not lock anybody out until then.
        return [at for at in self._failures.get(key, ()) if 0 <= now - at < SECONDS * 1000]


def network_of(client: str) -> str:
    """Return what a client counts as: its IPv4 address, or the /64 of its IPv6 address, which is all one customer's."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:  # whatever a trusted proxy calls it
        return client[:64]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
