"""Who may use the sandbox: anybody on this machine; from elsewhere, who has the token as key."""

import httpx
import pytest

from receiver.sandbox.access import is_loopback
from receiver.sandbox.app import Sandbox

from .rig import FAMILIES, HEADERS, order

pytestmark = pytest.mark.anyio

TOKEN = "the-api-token-of-the-sandbox"
ELSEWHERE = ("192.0.2.7", 4000)
HERE = ("127.0.0.1", 4000)


def client(sandbox: Sandbox, address: tuple[str, int], **headers: str) -> httpx.AsyncClient:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    transport = httpx.ASGITransport(sandbox.app, client=address)
    return httpx.AsyncClient(transport=transport, base_url="http://sandbox.example", headers=named)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("key", ["any key", TOKEN[:-1], TOKEN])
async def test_from_elsewhere_an_order_needs_the_token(family: str, key: str) -> None:
    sandbox = Sandbox(tokens=[TOKEN])
    path, body = order(family, "A cat [sandbox: after=3600]")
    headers = {name: value.replace(value.split()[-1], key) for name, value in HEADERS[family].items()}
    async with sandbox.running(), client(sandbox, ELSEWHERE) as elsewhere:
        answer = await elsewhere.post(path, json=body, headers=headers)
        assert answer.status_code == (200 if key == TOKEN else 401), answer.text
        assert len(sandbox.ledger.purchases) == (key == TOKEN)


@pytest.mark.parametrize("path", ["/ledger", "/rivya/api/v1/credits", "/kie/api/v1/chat/credit", "/nothing", "/"])
async def test_from_elsewhere_nothing_is_shown_without_the_token(path: str) -> None:
    sandbox = Sandbox(tokens=[TOKEN])
    async with client(sandbox, ELSEWHERE) as elsewhere:
        assert (await elsewhere.get(path)).status_code == 401
    async with client(sandbox, ELSEWHERE, Authorization=f"Bearer {TOKEN}") as elsewhere:
        assert (await elsewhere.get(path)).status_code != 401


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
async def test_who_comes_through_a_proxy_on_this_machine_is_elsewhere(header: str) -> None:
    sandbox = Sandbox(tokens=[TOKEN])
    async with client(sandbox, HERE) as here:
        assert (await here.get("/ledger")).status_code == 200
        assert (await here.get("/ledger", headers={header: "192.0.2.7"})).status_code == 401


async def test_without_tokens_nobody_elsewhere_is_let_in() -> None:
    for key in ("", "x"):
        async with client(Sandbox(), ELSEWHERE, Authorization=f"Bearer {key}", X_Api_Key=key) as elsewhere:
            assert (await elsewhere.get("/ledger")).status_code == 401


async def test_who_comes_from_the_address_that_he_came_to_is_on_this_machine() -> None:
    """The service itself, where it listens on the address of a network."""
    async with client(Sandbox(tokens=[TOKEN]), ("sandbox.example", 1)) as here:
        assert (await here.get("/ledger")).status_code == 200


async def test_a_browser_elsewhere_plays_the_video_and_asks_for_no_hundred_parts() -> None:
    async with client(Sandbox(tokens=[TOKEN]), ELSEWHERE) as elsewhere:
        whole = await elsewhere.get("/media/any.mp4")
        parts = await elsewhere.get("/media/any.mp4", headers={"Range": "bytes=0-1,4-5"})
    assert [answer.status_code for answer in (whole, parts)] == [200, 200]
    assert parts.content == whole.content


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("::ffff:127.0.0.1", True), ("localhost", True),
     ("0.0.0.1", False), ("::", False), ("192.168.1.5", False), ("", False), ("::ffff:192.0.2.1", False)],
)  # fmt: skip
def test_what_is_loopback(host: str, local: bool) -> None:  # noqa: FBT001 - a column of the table
    assert is_loopback(host) is local
