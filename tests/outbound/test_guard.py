"""Nothing that a stranger named leads into a private network, whatever its name resolves to."""

import ipaddress
import json

import httpcore
import pytest

from receiver.outbound.guard import (
    MAX_LINK,
    ForbiddenAddress,
    ForbiddenLink,
    GuardedNetwork,
    check_link,
    is_private_place,
    is_public,
)
from tests.measuring import HANG
from tests.torture.harness import corpus

PUBLIC = "93.184.216.34"


pytestmark = pytest.mark.row("E9")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_what_others_forbid_is_forbidden() -> None:
    vectors = json.loads((corpus("svix-ssrf-vectors") / "vectors.json").read_text())["vectors"]
    assert len(vectors) > 40
    for vector in vectors:
        assert is_public(ipaddress.ip_address(vector["addr"])) is vector["allowed"], vector


@pytest.mark.parametrize(
    "address",
    ["192.0.0.192", "fec0::1", "::127.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::1", "::ffff:10.0.0.1",
     "::ffff:169.254.169.254", "fd00:ec2::254", "2002:7f00:1::", "2001:0:7f00:1::1", "5f00::1", "fe80::1%lo",
     "100.64.0.1", "0.1.2.3"],
)  # fmt: skip
def test_what_is_global_misses_is_forbidden(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("address", "private"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("10.1.2.3", True), ("172.31.0.1", True),
     ("192.168.0.1", True), ("::ffff:192.168.0.1", True), ("169.254.169.254", False), ("fe80::1", False),
     ("fd00:ec2::254", False), ("100.64.0.1", False), ("172.32.0.1", False), ("0.1.2.3", False), (PUBLIC, False)],
)  # fmt: skip
def test_a_private_place_is_loopback_or_a_private_network_and_never_link_local(address: str, *, private: bool) -> None:
    assert is_private_place(ipaddress.ip_address(address)) is private


@pytest.mark.parametrize(
    ("link", "why"),
    [
        ("http://example.com/a.mp4", "http:"),
        ("ftp://example.com/a", "ftp:"),
        ("data:image/png;base64,AAAA", "data:"),
        ("file:///etc/passwd", "file:"),
        ("//example.com/a", "no scheme"),
        ("a.mp4", "no scheme"),
        ("", "no scheme"),
        ("https://user:secret@example.com/a", "user name or password"),
        ("https://user@example.com/a", "user name or password"),
        ("https:///a", "no host"),
        ("https://exa mple.com/a", "not a URL"),
        ("https://example.com:99999/a", "not a URL"),
        ("https://example.com/" + "a" * MAX_LINK, "longer"),
    ],
)
def test_a_link_that_must_not_be_followed_is_refused_with_the_reason(link: str, why: str) -> None:
    with pytest.raises(ForbiddenLink, match=why) as refused:
        check_link(link, may_be_private=False)
    assert "secret" not in str(refused.value)


def test_plain_http_is_for_private_places() -> None:
    assert str(check_link("http://localhost:8000/a.mp4#t", may_be_private=True)) == "http://localhost:8000/a.mp4"
    assert str(check_link("https://example.com/a?b=c#d", may_be_private=False)) == "https://example.com/a?b=c"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "found", [["127.0.0.1"], [PUBLIC, "10.0.0.1"], [PUBLIC, "::1"], ["169.254.169.254"], ["fe80::1%lo"]]
)
async def test_a_name_with_one_forbidden_address_is_not_connected_to_at_all(found: list[str]) -> None:
    network = GuardedNetwork(resolve=lambda _host, _port: found)
    with pytest.raises(ForbiddenAddress, match=r"example\.com leads to"):
        await network.connect_tcp("example.com", 443, timeout=HANG)


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0", "127.1", "2130706433", "0x7f.1", "localhost"])
async def test_an_address_is_checked_however_it_is_spelled(host: str) -> None:
    with pytest.raises(ForbiddenAddress):
        await GuardedNetwork().connect_tcp(host, 443, timeout=HANG)


@pytest.mark.anyio
async def test_the_addresses_that_were_checked_are_the_ones_that_are_connected_to() -> None:
    answers = iter([["127.0.0.1"], ["169.254.169.254"]])
    network = GuardedNetwork(may_be_private=True, resolve=lambda _host, _port: next(answers))
    with pytest.raises(httpcore.ConnectError) as refused:  # nobody listens there, but nothing forbids it
        await network.connect_tcp("rebinding.example", 1, timeout=HANG)
    assert not isinstance(refused.value, ForbiddenAddress)
    with pytest.raises(ForbiddenAddress):
        await network.connect_tcp("rebinding.example", 1, timeout=HANG)
