"""The service's own poller: what becomes due is looked at, whatever else of its account is under way."""

import pytest

from tests.behaviour.families import REVID
from tests.behaviour.provider import hangs, says
from tests.behaviour.service import Stage

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
