"""The service's own poller: what becomes due is looked at, whatever else of its account is under way."""

import asyncio

import pytest

from receiver.outbound.client import MAX_REQUESTS
from tests.behaviour.families import REVID
from tests.behaviour.provider import hangs, says
from tests.behaviour.service import Stage
from tests.measuring import HANG

pytestmark = pytest.mark.anyio

GRACE = 300
"""Seconds to the first check of a task with a callback."""


async def test_what_becomes_due_beside_a_request_that_hangs_does_not_wait_for_it(stage: Stage) -> None:
    done = says(REVID.done("second", "https://cdn.example.com/out.mp4"))
    stage.provider.on_check(REVID, hangs(), done)
    async with stage.serve(POLLER="on", TIMEOUT="600") as service:
        stage.provider.on_create(REVID, says(REVID.accepted("first")))
        await service.order(REVID.order())
        stage.clock.advance(5)
        stage.provider.on_create(REVID, says(REVID.accepted("second")))
        second = await service.order(REVID.order())
        stage.clock.advance(GRACE - 5)
        await stage.provider.until(lambda: len(stage.provider.asked()) == 1)
        stage.clock.advance(5)
        await service.until_state(second["id"], "succeeded")


@pytest.mark.row("E14")
async def test_orders_that_hang_do_not_hold_up_checks_that_are_due(stage: Stage) -> None:
    stage.provider.on_check(REVID, says(REVID.done("asked", "https://cdn.example.com/out.mp4")))
    async with stage.serve() as service:
        stage.provider.on_create(REVID, says(REVID.accepted("asked")))
        asked = await service.order(REVID.order())
        stage.provider.on_create(REVID, says({"message": "busy"}, 429, Retry_After="1"))
        for n in range(3 * MAX_REQUESTS):
            await service.order(REVID.order(f"{n}"))
        stage.provider.on_create(REVID, hangs())
        bought = len(stage.provider.bought())
        stage.clock.advance(GRACE + 1)
        sweeping = asyncio.create_task(service.poll())
        await service.until_state(asked["id"], "succeeded")
        await stage.provider.until(lambda: len(stage.provider.bought()) == bought + MAX_REQUESTS)
        [(leased,)] = service.database.rows("SELECT count(*) FROM task WHERE leased_until IS NOT NULL")
        assert leased == MAX_REQUESTS, "no more are claimed than there are places"
        stage.provider.on_create(REVID)
        stage.provider.release()
        await sweeping


@pytest.mark.row("E15")
async def test_where_nothing_is_swept_only_what_callbacks_made_due_is_looked_at(stage: Stage) -> None:
    async with stage.serve() as service:
        ids = []
        for number in ("1", "2"):
            stage.provider.on_create(REVID, says(REVID.accepted(number)))
            ids.append((await service.order(REVID.order(number)))["id"])
        stage.clock.advance(GRACE + 1)
        stage.provider.on_check(REVID, says(REVID.done("1", "https://cdn.example.com/out.mp4")))
        assert await service.call_back(ids[0], b"?") == "unreadable"
        await service.until_state(ids[0], "succeeded")
        await service.app.state.services.background.drain(HANG)
        assert [(task["state"], task["checks"]) for task in [await service.task(ids[1])]] == [("submitted", 0)]
