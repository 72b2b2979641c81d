"""What the accounts have left."""

import pytest

from .conftest import Clock
from .rig import HEADERS, Buyer

pytestmark = pytest.mark.anyio


async def test_rivyas_credits_fall_by_the_price_and_come_back_after_a_failure(shop: Buyer, clock: Clock) -> None:
    async def credits_left() -> int:
        answer = await shop.client.get("/rivya/api/v1/credits", headers=HEADERS["rivya"])
        assert answer.json().keys() == {"current_credits"}
        return int(answer.json()["current_credits"])

    start = await credits_left()
    await shop.buy("rivya", "A cat")
    await shop.buy("rivya", "A cat [sandbox: result=fail]")
    assert await credits_left() == start - 12
    clock.now += 3
    assert await credits_left() == start - 6


async def test_kies_credits_fall_with_market_and_veo_alike(shop: Buyer) -> None:
    path = "/kie/api/v1/chat/credit"
    start = (await shop.client.get(path, headers=HEADERS["kie"])).json()["data"]
    await shop.buy("kie", "A cat")
    await shop.buy("kie-veo", "A cat")
    await shop.buy("gateway", "A cat")
    answer = await shop.client.get(path, headers=HEADERS["kie"])
    assert answer.json() == {"code": 200, "msg": "success", "data": start - 160}


async def test_the_gateways_quota_adds_up(shop: Buyer) -> None:
    path = "/gateway/v1/token/quota"
    assert (await shop.client.get(path, headers=HEADERS["gateway"])).json()["used_quota"] == 0
    await shop.buy("gateway", "A cat")
    quota = (await shop.client.get(path, headers=HEADERS["gateway"])).json()
    assert quota == {"total_quota": 50_000_000, "used_quota": 75_000, "remaining_quota": 49_925_000}


@pytest.mark.parametrize(
    ("path", "http_status", "told"),
    [
        ("/rivya/api/v1/credits", 401, "api_key_missing"),
        ("/kie/api/v1/chat/credit", 200, '"code": 401'),
        ("/gateway/v1/token/quota", 401, "authentication_error"),
    ],
)
async def test_a_balance_is_not_for_everybody(shop: Buyer, path: str, http_status: int, told: str) -> None:
    answer = await shop.client.get(path)
    assert (answer.status_code, told in answer.text) == (http_status, True)
