"""Interface, section 3: what a sweep reports, and what the statistics count."""

import pytest

from tests.behaviour.families import GATEWAY, REVID, RIVYA
from tests.behaviour.provider import Exchange, Provider, Received, Script, after, says, slams
from tests.behaviour.service import Service, Stage

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/out.mp4"
NOTHING = {"submitted": 0, "checked": 0, "settled": 0, "expired": 0, "failed": 0}
BUSY = says({"message": "busy"}, 429, Retry_After="60")


async def test_a_sweep_over_nothing_reports_nothing(service: Service) -> None:
    assert await service.poll() == NOTHING


SENT = [
    pytest.param(says(REVID.accepted("r-1")), {"submitted": 1}, id="accepted"),
    pytest.param(says({"code": 402, "msg": "balance"}, 402), {"settled": 1}, id="refused-is-an-answer"),
    pytest.param(BUSY, {"failed": 1}, id="busy"),
    pytest.param(slams(), {"failed": 1}, id="unconfirmed"),
]


@pytest.mark.parametrize(("script", "counted"), SENT)
async def test_a_sweep_counts_what_became_of_a_queued_task(
    script: Script, counted: dict[str, int], service: Service, provider: Provider
) -> None:
    provider.on_create(REVID, BUSY, script)
    await service.order(REVID.order())
    assert await service.poll_after(60) == NOTHING | counted


async def test_a_sweep_counts_repeats_under_a_key(service: Service, provider: Provider) -> None:
    provider.on_create(RIVYA, slams(), slams(), says(RIVYA.accepted("r-1")))
    task = await service.order(RIVYA.order())
    assert await service.poll_when_due(task["id"]) == NOTHING | {"failed": 1}
    assert await service.poll_when_due(task["id"]) == NOTHING | {"submitted": 1}


async def test_a_repeat_that_finds_the_work_done_is_submitted_and_settled(service: Service, provider: Provider) -> None:
    provider.on_create(RIVYA, slams(), says(RIVYA.done("r-1", URL)))
    task = await service.order(RIVYA.order())
    assert await service.poll_when_due(task["id"]) == NOTHING | {"submitted": 1, "settled": 1}


async def test_what_was_not_sent_is_not_reported_as_submitted(stage: Stage) -> None:
    async with stage.serve() as service:
        stage.provider.on_create(REVID, BUSY)
        await service.order(REVID.order())
    async with stage.serve(REVID_API_KEY=None) as service:
        assert await service.poll_after(60) == NOTHING


async def test_a_sweep_that_asks_about_a_settled_task_does_not_count_it_as_settled(stage: Stage) -> None:
    """A crash takes the question away that a contradiction caused; the sweep asks it when its lease is over."""
    remains = stage.beside("remains")

    async def look(_: Received) -> None:
        service.database.image(remains.directory / "receiver.db")

    async with stage.serve() as service:
        stage.provider.on_create(REVID, says(REVID.accepted("r-1")))
        task = await service.order(REVID.order())
        await service.call_back(task["id"], REVID.done("r-1", URL))
        stage.provider.on_check(REVID, after(look, slams()), says(REVID.failed("r-1")))
        await service.call_back(task["id"], REVID.failed("r-1"))
        await service.until_checked(task["id"])
    async with remains.serve() as service:
        assert await service.poll_after(60) == NOTHING | {"checked": 1}


async def test_a_sweep_counts_everything_together(service: Service, provider: Provider) -> None:
    answers = {
        "done": says(REVID.done("done", URL)),
        "broken": says(REVID.failed("broken")),
        "working": says(REVID.working("working")),
        "down": slams(),
    }
    for name in answers:
        provider.on_create(REVID, says(REVID.accepted(name)))
        await service.order(REVID.order(name))
    provider.on_create(GATEWAY, BUSY, says(GATEWAY.accepted("g-1")))
    await service.order(GATEWAY.order())

    async def answer(exchange: Exchange) -> None:
        await answers[exchange.request.query["taskId"][0]](exchange)

    provider.on_check(REVID, answer)
    assert await service.poll_after(300) == {"submitted": 1, "checked": 4, "settled": 2, "expired": 0, "failed": 1}
    assert await service.poll() == NOTHING


async def test_stats_count_by_state_and_provider(service: Service, provider: Provider) -> None:
    for number, seconds in enumerate((10, 20, 30, 40)):
        provider.on_create(REVID, says(REVID.accepted(f"r-{number}")))
        task = await service.order(REVID.order())
        service.clock.advance(seconds)
        if number < 3:
            await service.call_back(task["id"], REVID.done(f"r-{number}", URL))
        else:
            provider.on_check(REVID, says(REVID.failed("r-3")))
            await service.post(f"/api/tasks/{task['id']}/check")
    provider.on_create(RIVYA, says(RIVYA.accepted("v-1")))
    task = await service.order(RIVYA.order())
    provider.on_create(GATEWAY, slams())
    await service.order(GATEWAY.order())
    stats = (await service.client.get("/api/stats")).json()
    assert stats["tasks"] == {
        "revid": {"succeeded": 3, "failed": 1},
        "rivya": {"submitted": 1},
        "gateway": {"unconfirmed": 1},
    }
    assert stats["callback_share"] == 0.75
    assert 20 <= stats["time_to_settle"]["p50"] <= 30
    assert stats["time_to_settle"]["p95"] == 40
    assert stats["credits"]["revid"]["estimated"] == 200
    assert stats["credits"]["rivya"]["reserved"] == 6


async def test_stats_of_nothing(service: Service) -> None:
    stats = (await service.client.get("/api/stats")).json()
    assert (stats["tasks"], stats["callback_share"]) == ({}, None)
    assert stats["time_to_settle"] == {"p50": None, "p95": None}


async def test_a_withdrawn_task_was_not_settled_by_anybodys_news(service: Service, provider: Provider) -> None:
    """The share settled by callback is a share of what a provider's news settled."""
    provider.on_create(REVID, says(REVID.accepted("r-1")))
    task = await service.order(REVID.order())
    await service.call_back(task["id"], REVID.done("r-1", URL))
    provider.on_create(REVID, BUSY)
    task = await service.order(REVID.order())
    await service.post(f"/api/tasks/{task['id']}/cancel")
    assert (await service.client.get("/api/stats")).json()["callback_share"] == 1
