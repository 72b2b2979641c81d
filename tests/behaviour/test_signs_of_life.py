"""Whoever sweeps leaves a sign of life in the database, so that a silent poller can be found out."""

import asyncio

import pytest

from receiver.services import Services
from receiver.tasks.poller import Poller
from tests.behaviour.service import Database, Service, Stage
from tests.measuring import HANG, until

pytestmark = pytest.mark.anyio


def seen(database: Database) -> int | None:
    """When somebody last swept, as another process reads it."""
    rows = database.rows("SELECT at FROM heartbeat WHERE name = 'poller'")
    return rows[0][0] if rows else None


async def test_the_services_poller_leaves_one_with_nothing_to_do(stage: Stage) -> None:
    async with stage.serve(POLLER="on") as service:
        await until(lambda: seen(service.database) == service.clock())


async def test_a_single_sweep_leaves_one_and_without_sweeps_there_is_none(service: Service) -> None:
    assert seen(service.database) is None, "its poller is off"
    await service.poll()
    assert seen(service.database) == service.clock()


async def test_the_poller_leaves_them_again_and_again(service: Service) -> None:
    services: Services = service.app.state.services
    poller = Poller(services, heartbeat_interval=0.05)
    running = asyncio.create_task(poller.run())
    await until(lambda: seen(service.database) == service.clock())
    service.clock.advance(60)
    await until(lambda: seen(service.database) == service.clock())
    services.stopping.set()
    await running


async def test_a_lost_place_is_written_down_for_doctor(service: Service) -> None:
    services: Services = service.app.state.services
    services.outbound.on_lost_slot("revid")
    await services.background.drain(HANG)
    rows = service.database.rows("SELECT at FROM heartbeat WHERE name = 'lost_place:revid'")
    assert rows == [(service.clock(),)]
