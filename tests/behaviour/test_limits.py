"""Interface, section 2: `_MAX_RUNNING` and `_MAX_CREDITS_PER_DAY`, checked where the attempt is committed; and the
providers' own limits on creates."""

import asyncio

import pytest

from tests.behaviour.families import REVID, RIVYA
from tests.behaviour.provider import says
from tests.behaviour.service import Stage

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/out.mp4"


async def test_over_max_running_a_task_waits_with_a_notice_and_goes_when_another_ends(stage: Stage) -> None:
    async with stage.serve(REVID_MAX_RUNNING="1") as service:
        service.provider.on_create(REVID, says(REVID.accepted("a")), says(REVID.accepted("b")))
        first = await service.order(REVID.order())
        second = await service.order(REVID.order())
        assert (first["state"], second["state"], second["attempts"]) == ("submitted", "queued", 0)
        assert "REVID_MAX_RUNNING is 1" in second["notices"][0]
        await service.call_back(first["id"], REVID.done("a", URL))
        await service.poll_when_due(second["id"])
        assert (await service.task(second["id"]))["state"] == "submitted"


async def test_racing_orders_never_pass_max_running_together(stage: Stage) -> None:
    async with stage.serve(REVID_MAX_RUNNING="2") as service:
        service.provider.on_create(REVID, *(says(REVID.accepted(f"id-{number}")) for number in range(10)))
        await asyncio.gather(*(service.order(REVID.order(prompt=f"boat {number}")) for number in range(10)))
        assert len(service.provider.bought(REVID)) == 2


async def test_over_the_credits_of_a_day_a_task_waits_until_tomorrow(stage: Stage) -> None:
    async with stage.serve(RIVYA_MAX_CREDITS_PER_DAY="10", DEADLINE="172800") as service:
        service.provider.on_create(RIVYA, says(RIVYA.accepted("a")), says(RIVYA.accepted("b")))
        first, second = await service.order(RIVYA.order()), await service.order(RIVYA.order())  # 6 credits each
        assert (first["state"], second["state"]) == ("submitted", "queued")
        assert "RIVYA_MAX_CREDITS_PER_DAY, 10 credits" in second["notices"][0]
        await service.poll_after(11 * 3600)
        assert (await service.task(second["id"]))["state"] == "queued"
        await service.poll_after(2 * 3600)
        assert (await service.task(second["id"]))["state"] == "submitted"


async def test_refused_orders_cost_no_credits(stage: Stage) -> None:
    async with stage.serve(RIVYA_MAX_CREDITS_PER_DAY="6") as service:
        refusal = says({"error": {"code": "validation_failed", "message": "no"}}, 400)
        service.provider.on_create(RIVYA, refusal, says(RIVYA.accepted("b")))
        first, second = await service.order(RIVYA.order()), await service.order(RIVYA.order())
        assert (first["state"], second["state"]) == ("failed", "submitted")


async def test_a_task_that_waits_can_be_cancelled(stage: Stage) -> None:
    async with stage.serve(REVID_MAX_RUNNING="1") as service:
        service.provider.on_create(REVID, says(REVID.accepted("a")))
        await service.order(REVID.order())
        waiting = await service.order(REVID.order())
        answer = await service.post(f"/api/tasks/{waiting['id']}/cancel")
        assert answer.json()["state"] == "cancelled"


async def test_spend_is_told_by_account_and_day_and_never_summed_over_accounts(stage: Stage) -> None:
    async with stage.serve() as service:
        refusal = says({"error": {"code": "validation_failed", "message": "no"}}, 400)
        service.provider.on_create(RIVYA, says(RIVYA.accepted("a")), refusal)
        service.provider.on_create(REVID, says(REVID.accepted("b")), says(REVID.accepted("c")))
        for order in (RIVYA, RIVYA, REVID):
            await service.order(order.order())
        service.clock.advance(86_400)
        await service.order(REVID.order())
        told = (await service.client.get("/api/stats")).json()["spend"]
        assert told == {
            "rivya": [{"day": "2026-11-20", "credits": 6, "tasks": 1}],
            "revid": [
                {"day": "2026-11-21", "credits": 50, "tasks": 1},
                {"day": "2026-11-20", "credits": 50, "tasks": 1},
            ],
        }
