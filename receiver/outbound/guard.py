"""Keeps requests to addresses that strangers named out of private networks: `GuardedNetwork` and `check_link`.

Downloads and notifications connect with it. The text of a URL decides nothing about its address: every address that a
name resolves to is checked, and exactly what was checked is connected to.
"""

import ipaddress
import re
from collections.abc import Callable, Sequence

import httpcore
import httpx

from receiver.outbound.connecting import Network, Resolve, resolve

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_LINK = 8192
"""Characters of a link; longer ones are refused by servers, too."""
_NOT_IN_HOSTS = re.compile(r"[^\w.:-]", re.ASCII)
_PRIVATE_PLACES = tuple(
    map(ipaddress.ip_network, ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
)
"""Loopback and RFC 1918. Link-local addresses are not among them: clouds serve credentials there."""
_GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")
_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            # IANA's special-purpose registries, and multicast. `is_global` passes several of them.
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16",
            "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
            "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
        ),
    )
)  # fmt: skip
"""Forbidden beside all IPv6 addresses outside of `2000::/3`."""


class ForbiddenAddress(httpcore.ConnectError):
    """A name leads to an address that must not be connected to."""


class ForbiddenLink(Exception):
    """A link that must not be followed; says why."""


def is_public(address: Address) -> bool:
    """Return whether an address belongs to the public internet."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address not in _GLOBAL_IPV6:
            return False
    return not any(address.version == network.version and address in network for network in _NOT_PUBLIC)


def is_private_place(address: Address) -> bool:
    """Return whether an address is this machine or in a private network."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return is_private_place(address.ipv4_mapped)
    return any(address.version == network.version and address in network for network in _PRIVATE_PLACES)


def check_link(link: str, *, may_be_private: bool) -> httpx.URL:
    """Return a link that may be followed, as a URL without its fragment. Raises `ForbiddenLink`.

    It must be https; plain http is for private places. The address is checked when connecting.
    """
    if len(link) > MAX_LINK:
        raise ForbiddenLink(f"the link is longer than {MAX_LINK} characters")
    try:
        url = httpx.URL(link)
    except (httpx.InvalidURL, ValueError, TypeError) as error:
        raise ForbiddenLink("the link is not a URL") from error
    if url.userinfo:
        raise ForbiddenLink("the link contains a user name or password")
    if url.scheme != "https" and not (url.scheme == "http" and may_be_private):
        raise ForbiddenLink(f"the link begins with {url.scheme[:20] or 'no scheme'}: instead of https:")
    if not url.host:
        raise ForbiddenLink("the link has no host")
    if _NOT_IN_HOSTS.search(url.raw_host.decode("ascii", "replace")) or (url.port or 0) > 65535:
        raise ForbiddenLink("the link is not a URL: no host has this name or port")
    return url.copy_with(fragment=None)


class GuardedNetwork(Network):
    """Connects to public addresses only; to private places too if `may_be_private`."""

    def __init__(self, *, may_be_private: bool = False, resolve: Resolve = resolve) -> None:
        super().__init__(resolve)
        self._permits: Callable[[Address], bool] = _public_or_private_place if may_be_private else is_public

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a host. Raises `ForbiddenAddress` if one of them is forbidden, whatever the others
        are: which of them answers is up to who owns the name."""
        found = await super().addresses(host, port)
        for address in found:
            if not self._permits(ipaddress.ip_address(address)):
                raise ForbiddenAddress(f"{host} leads to {address}, which is not a public address")
        return found


def _public_or_private_place(address: Address) -> bool:
    return is_public(address) or is_private_place(address)
