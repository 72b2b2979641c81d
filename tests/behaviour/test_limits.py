"""Interface, section 2: `_MAX_RUNNING` and `_MAX_CREDITS_PER_DAY`, checked where the attempt is committed; and the
providers' own limits on creates."""

import asyncio

import pytest

from tests.behaviour.families import GATEWAY, KIE, REVID, RIVYA
from tests.behaviour.provider import says, slams
from tests.behaviour.service import Stage, milliseconds

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/out.mp4"
BUSY = says({"message": "busy"}, 429, Retry_After="60")


async def test_over_max_running_a_task_waits_with_a_notice_and_goes_when_another_ends(stage: Stage) -> None:
    async with stage.serve(REVID_MAX_RUNNING="1") as service:
        service.provider.on_create(REVID, says(REVID.accepted("a")), says(REVID.accepted("b")))
        first = await service.order(REVID.order())
        second = await service.order(REVID.order())
        assert (first["state"], second["state"], second["attempts"]) == ("submitted", "queued", 0)
        assert "REVID_MAX_RUNNING=1" in second["notices"][0]
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
        assert "RIVYA_MAX_CREDITS_PER_DAY=10 credits" in second["notices"][0]
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


# --- a place for what is unclear, for a while


async def test_an_unconfirmed_task_holds_a_place_for_a_quarter_of_an_hour_and_says_so(stage: Stage) -> None:
    async with stage.serve(GATEWAY_MAX_RUNNING="1") as service:
        service.provider.on_create(GATEWAY, slams(), says(GATEWAY.accepted("b")))
        first, second = await service.order(GATEWAY.order()), await service.order(GATEWAY.order())
        assert (first["state"], second["state"]) == ("unconfirmed", "queued")
        assert second["notices"] == [
            "Waiting for a running task to finish (GATEWAY_MAX_RUNNING=1)."
            " An unconfirmed task counts for 15 min after it was sent."
        ]
        await service.poll_after(14 * 60)
        assert (await service.task(second["id"]))["state"] == "queued"
        await service.poll_after(3 * 60)
        assert (await service.task(second["id"]))["state"] == "submitted"
        assert (await service.task(first["id"]))["state"] == "unconfirmed", "it waits for its callback all the same"


async def test_an_unconfirmed_task_of_a_clock_that_was_ahead_holds_no_place(stage: Stage) -> None:
    async with stage.serve(GATEWAY_MAX_RUNNING="1") as service:
        service.provider.on_create(GATEWAY, slams(), says(GATEWAY.accepted("b")))
        service.clock.advance(30 * 86_400)
        await service.order(GATEWAY.order())
        service.clock.advance(-30 * 86_400)
        assert (await service.order(GATEWAY.order()))["state"] == "submitted"


async def test_refusals_hold_no_place(stage: Stage) -> None:
    async with stage.serve(GATEWAY_MAX_RUNNING="4") as service:
        refusal = says({"error": {"code": "invalid_request", "message": "no"}}, 400)
        service.provider.on_create(GATEWAY, *[refusal] * 4, says(GATEWAY.accepted("b")))
        orders = [await service.order(GATEWAY.order()) for _ in range(5)]
        assert [order["state"] for order in orders] == ["failed"] * 4 + ["submitted"]


# --- what could never be sent


DEAR = {"n_frames": "15"}


async def too_dear(stage: Stage, **variables: str) -> str:
    """What an order of 60 credits is answered with; nothing of it is stored."""
    async with stage.serve(**variables) as service:
        order = REVID.order() | {"input": {"prompt": "a boat", **DEAR}}
        for key in ({}, {"Idempotency_Key": "a-key"}):
            answer = await service.post("/api/tasks", order, **key)
            assert answer.status_code == 422
        assert (await service.client.get("/api/tasks")).json()["tasks"] == []
        assert service.provider.bought() == []
        cheaper = await service.order(REVID.order(), Idempotency_Key="a-key")  # a 422 uses no key
        assert cheaper["state"] == "submitted"
    errors = answer.json()["errors"]
    assert [error["loc"] for error in errors] == [["model"]]
    words: str = errors[0]["msg"]
    return words


@pytest.mark.parametrize("most", ["59.99", "50"])
async def test_an_order_dearer_than_the_limit_alone_is_refused_with_both_figures(stage: Stage, most: str) -> None:
    words = await too_dear(stage, REVID_MAX_CREDITS_PER_DAY=most)
    assert f"about 60 credits, and REVID_MAX_CREDITS_PER_DAY allows {most} a day" in words


async def test_an_order_of_just_the_limit_is_taken(stage: Stage) -> None:
    async with stage.serve(REVID_MAX_CREDITS_PER_DAY="50") as service:
        assert (await service.order(REVID.order()))["state"] == "submitted"


async def test_as_many_orders_pass_as_the_limit_holds_exactly(stage: Stage) -> None:
    """Three times 12.8 is more than 38.4 in binary fractions."""
    kie = {"KIE_API_KEY": "k", "KIE_BASE_URL": f"{stage.provider.url}/kie", "KIE_MAX_CREDITS_PER_DAY": "38.4"}
    given = {"prompt": "a boat", "resolution": "480p", "duration": 8}
    async with stage.serve(**kie) as service:
        order = {"provider": "kie", "model": "grok-imagine/text-to-video", "input": given}
        orders = [await service.order(order) for _ in range(4)]
        assert [it["state"] for it in orders] == ["submitted"] * 3 + ["queued"]
        assert orders[0]["credits"]["estimated"] == 12.8
        stats = (await service.client.get("/api/stats")).json()
        assert (stats["credits"]["kie"]["spent"], stats["spend"]["kie"][0]["credits"]) == (38.4, 38.4)


async def test_an_order_of_unknown_size_is_as_dear_as_it_may_be(stage: Stage) -> None:
    order = REVID.order() | {"model": "sora-2-pro-text-to-video"}  # 200 or 500 credits, by a size that it does not name
    async with stage.serve(REVID_MAX_CREDITS_PER_DAY="499") as service:
        answer = await service.post("/api/tasks", order)
        assert answer.status_code == 422
        assert "about 500 credits" in answer.text
        small = order | {"input": {**order["input"], "size": "standard"}}
        assert (await service.order(small))["credits"]["estimated"] == 200


async def test_ordering_again_what_has_become_too_dear_is_refused(stage: Stage) -> None:
    async with stage.serve() as service:
        service.provider.on_create(REVID, says({"code": 400, "msg": "no"}, 400))
        failed = await service.order(REVID.order())
    async with stage.serve(REVID_MAX_CREDITS_PER_DAY="49") as service:
        answer = await service.post(f"/api/tasks/{failed['id']}/retry")
        assert answer.status_code == 422
        assert "REVID_MAX_CREDITS_PER_DAY" in answer.text
        assert len((await service.client.get("/api/tasks")).json()["tasks"]) == 1


# --- the deadline of what waits for a limit

HOUR = 3600


async def test_the_deadline_of_a_held_task_counts_from_its_first_free_moment(stage: Stage) -> None:
    async with stage.serve(REVID_MAX_CREDITS_PER_DAY="60") as service:  # and a deadline of 2 h
        await service.order(REVID.order())
        held = await service.order(REVID.order())  # at noon, until midnight
        await service.poll_after(11 * HOUR)
        waits = await service.task(held["id"])
        assert waits["state"] == "queued"
        assert milliseconds(waits["next_check_at"]) > service.clock.now, "not looked at again and again"
        service.provider.on_create(REVID, BUSY)
        await service.poll_after(1.01 * HOUR)
        freed = await service.task(held["id"])
        assert (freed["state"], freed["attempts"]) == ("queued", 1)
        await service.poll_after(1.9 * HOUR)
        assert (await service.task(held["id"]))["state"] == "queued"
        await service.poll_after(0.2 * HOUR)
        ended = await service.task(held["id"])
        assert ended["state"] == "expired"
        assert ended["error"]["code"] == "deadline", "in the end the provider was busy, and no limit held it"


async def test_a_task_that_a_limit_never_lets_go_expires_after_two_days_and_says_why(stage: Stage) -> None:
    async with stage.serve(REVID_MAX_CREDITS_PER_DAY="60") as service:
        await service.order(REVID.order())
        held = await service.order(REVID.order())
    async with stage.serve(REVID_MAX_CREDITS_PER_DAY="40") as service:  # by now it fits into no day
        for _ in range(47):
            await service.poll_after(HOUR)
        waiting = await service.task(held["id"])
        assert waiting["state"] == "queued"
        assert waiting["notices"][-1] == (
            "Waiting for a higher limit: this task costs 50 credits (REVID_MAX_CREDITS_PER_DAY=40)."
        )
        await service.poll_after(HOUR)
        ended = await service.task(held["id"])
        assert (ended["state"], ended["attempts"], ended["notices"]) == ("expired", 0, [])
        assert ended["error"] == {
            "code": "never_sent",
            "message": "Never sent: REVID_MAX_CREDITS_PER_DAY=40 held it back until its deadline. Nothing was bought.",
        }
        stats = (await service.client.get("/api/stats")).json()
        assert stats["credits"]["revid"]["spent"] == 50, "what was never sent cost nothing"


async def test_a_held_task_may_wait_for_longer_where_the_deadline_is_longer_than_two_days(stage: Stage) -> None:
    async with stage.serve(REVID_MAX_RUNNING="1", DEADLINE=f"{72 * HOUR}") as service:
        await service.order(REVID.order())
        service.clock.advance(1)
        held = await service.order(REVID.order())
        await service.poll_after(71 * HOUR)
        assert (await service.task(held["id"]))["state"] == "queued"


async def test_the_providers_own_rate_is_a_limit_for_which_a_deadline_waits(stage: Stage) -> None:
    kie = {"KIE_API_KEY": "k", "KIE_BASE_URL": f"{stage.provider.url}/kie"}
    async with stage.serve(**kie, DEADLINE="5", POLL_EVERY="1") as service:  # 20 orders in 10 s
        orders = [await service.order(KIE.order(f"boat {number}")) for number in range(21)]
        assert [order["state"] for order in orders] == ["submitted"] * 20 + ["queued"]
        await service.poll_after(6)
        assert (await service.task(orders[20]["id"]))["state"] == "queued"
        await service.poll_after(5)
        assert (await service.task(orders[20]["id"]))["state"] == "submitted"


async def test_a_task_that_was_free_before_gets_no_more_time_from_a_limit(stage: Stage) -> None:
    async with stage.serve(REVID_MAX_RUNNING="1") as service:
        service.provider.on_create(REVID, BUSY, says(REVID.accepted("b")))
        first = await service.order(REVID.order())
        await service.poll_after(HOUR - 30)
        assert (await service.task(first["id"]))["state"] == "submitted"
        service.provider.on_create(REVID, BUSY)
    async with stage.serve() as service:
        second = await service.order(REVID.order())
        assert (second["state"], second["attempts"]) == ("queued", 1)
    async with stage.serve(REVID_MAX_RUNNING="1") as service:
        await service.poll_after(1.9 * HOUR)
        assert (await service.task(second["id"]))["state"] == "queued"
        await service.poll_after(0.2 * HOUR)
        assert (await service.task(second["id"]))["error"]["code"] == "never_sent"
