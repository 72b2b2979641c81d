"""What was not bought is not spent: every way in which a task can end, and what each place tells that it cost."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from receiver.store import spending
from tests.behaviour.families import KIE, REVID, RIVYA, Family
from tests.behaviour.provider import Received, after, says, shows, slams
from tests.behaviour.service import DEAD_PORT, TOKEN, Service, Stage, environment

pytestmark = pytest.mark.anyio

URL = "https://cdn.example.com/out.mp4"
BUSY = says({"message": "busy"}, 429, Retry_After="60")
NO = says({"code": 400, "message": "no", "error": {"code": "validation_failed", "message": "no"}}, 400)
PRICES = {"revid": 50, "rivya": 6, "kie": 120}

Life = Callable[[Service], Awaitable[None]]


def ordering(family: Family, *answers: Any) -> Callable[[Service], Awaitable[dict[str, Any]]]:
    """Order once; the provider answers so, the last again and again."""

    async def order(service: Service) -> dict[str, Any]:
        service.provider.on_create(family, *answers)
        return await service.order(family.order())

    return order


def accepted(family: Family, remote_id: str) -> Callable[[Service], Awaitable[dict[str, Any]]]:
    return ordering(family, says(family.accepted(remote_id)))


async def expire(service: Service) -> None:
    """Let every deadline pass."""
    service.provider.on_create(REVID, BUSY)
    service.provider.on_check(REVID, slams())
    service.provider.on_check(RIVYA, slams())
    for _ in range(3):
        await service.poll_after(7300)


async def done_by_callback(service: Service) -> None:
    task = await accepted(REVID, "done")(service)
    await service.call_back(task["id"], REVID.done("done", URL))


async def failed_without_a_word_of_its_cost(service: Service) -> None:
    task = await accepted(REVID, "failed")(service)
    await service.call_back(task["id"], REVID.failed("failed"))


async def charged_less_than_it_reserved(service: Service) -> None:
    task = await accepted(RIVYA, "less")(service)
    service.provider.on_check(RIVYA, says({**RIVYA.done("less", URL), "final_credits": 4.1}))
    await service.post(f"/api/tasks/{task['id']}/check")


async def failed_and_charged_nothing(service: Service) -> None:
    task = await accepted(RIVYA, "nothing")(service)
    service.provider.on_check(RIVYA, says(RIVYA.failed("nothing")))
    await service.post(f"/api/tasks/{task['id']}/check")


async def refused(service: Service) -> None:
    assert (await ordering(REVID, NO)(service))["state"] == "failed"


async def refused_at_rivya(service: Service) -> None:
    assert (await ordering(RIVYA, NO)(service))["state"] == "failed"


async def cancelled_after_it_was_turned_away(service: Service) -> None:
    task = await ordering(REVID, BUSY)(service)
    assert (await service.post(f"/api/tasks/{task['id']}/cancel")).json()["state"] == "cancelled"


async def never_reached_and_expired_in_the_queue(service: Service) -> None:
    task = await service.order(KIE.order())
    await expire(service)
    assert (await service.task(task["id"]))["state"] == "expired"


async def unclear(service: Service) -> None:
    assert (await ordering(REVID, slams())(service))["state"] == "unconfirmed"


async def unclear_and_expired(service: Service) -> None:
    task = await ordering(REVID, says({"message": "oops"}, 500))(service)
    await expire(service)
    assert (await service.task(task["id"]))["state"] == "expired"


async def unclear_and_not_bought(service: Service) -> None:
    task = await ordering(REVID, slams())(service)
    answer = await service.post(f"/api/tasks/{task['id']}/adopt", {"not_bought": True})
    assert answer.json()["error"]["code"] == "not_bought"


async def unclear_and_found_by_hand(service: Service) -> None:
    task = await ordering(REVID, shows("a page", 200))(service)
    service.provider.on_check(REVID, says(REVID.done("found", URL)))
    await service.post(f"/api/tasks/{task['id']}/adopt", {"remote_id": "found"})
    await service.until_state(task["id"], "succeeded")


async def closed_as_not_bought_and_called_back_all_the_same(service: Service) -> None:
    task = await ordering(REVID, slams())(service)
    await service.post(f"/api/tasks/{task['id']}/adopt", {"not_bought": True})
    service.provider.on_check(REVID, says(REVID.done("after-all", URL)))
    await service.call_back(task["id"], REVID.done("after-all", URL))
    await service.until_state(task["id"], "succeeded")


async def turned_away_and_called_back_all_the_same(service: Service) -> None:
    task = await ordering(REVID, BUSY)(service)
    await service.call_back(task["id"], REVID.working("arrived"))


async def turned_away_and_called_back_without_its_id(service: Service) -> None:
    task = await ordering(REVID, BUSY)(service)
    await service.call_back(task["id"], REVID.working(""))


async def expired_in_the_queue_and_done_all_the_same(service: Service) -> None:
    task = await ordering(REVID, BUSY)(service)
    await expire(service)
    assert (await service.task(task["id"]))["state"] == "expired"
    await service.call_back(task["id"], REVID.done("", URL))
    assert (await service.task(task["id"]))["state"] == "succeeded"


async def cancelled_and_called_back_all_the_same(service: Service) -> None:
    task = await ordering(REVID, BUSY)(service)
    await service.post(f"/api/tasks/{task['id']}/cancel")
    await service.call_back(task["id"], REVID.working("arrived-2"))


async def called_back_before_the_answer_was_lost(service: Service) -> None:
    async def call_back(request: Received) -> None:
        assert request.callback_url is not None
        await service.deliver(request.callback_url.removeprefix(str(service.public_url)), REVID.done("early", URL))

    await ordering(REVID, after(call_back, slams()))(service)


async def taken_and_expired(service: Service) -> None:
    task = await accepted(REVID, "silent")(service)
    await expire(service)
    assert (await service.task(task["id"]))["state"] == "expired"


async def repeated_under_its_key_and_refused(service: Service) -> None:
    task = await ordering(RIVYA, slams(), NO)(service)
    await service.poll_when_due(task["id"])
    assert (await service.task(task["id"]))["state"] == "failed"


async def repeated_under_its_key_and_taken(service: Service) -> None:
    task = await ordering(RIVYA, slams(), says(RIVYA.accepted("repeated")))(service)
    await service.poll_when_due(task["id"])
    assert (await service.task(task["id"]))["state"] == "submitted"


async def bought_elsewhere(service: Service) -> None:
    service.provider.on_check(RIVYA, says(RIVYA.done("elsewhere", URL)))
    task = await service.order({"provider": "rivya", "model": "sora-2", "remote_id": "elsewhere"})
    await service.until_state(task["id"], "succeeded")


LIVES: Mapping[Life, Mapping[str, float]] = {
    done_by_callback: {"revid": 50},
    failed_without_a_word_of_its_cost: {"revid": 50},
    charged_less_than_it_reserved: {"rivya": 4.1},
    failed_and_charged_nothing: {},
    refused: {},
    refused_at_rivya: {},
    cancelled_after_it_was_turned_away: {},
    never_reached_and_expired_in_the_queue: {},
    unclear: {"revid": 50},
    unclear_and_expired: {"revid": 50},
    unclear_and_not_bought: {},
    unclear_and_found_by_hand: {"revid": 50},
    closed_as_not_bought_and_called_back_all_the_same: {"revid": 50},
    turned_away_and_called_back_all_the_same: {"revid": 50},
    turned_away_and_called_back_without_its_id: {"revid": 50},
    expired_in_the_queue_and_done_all_the_same: {"revid": 50},
    cancelled_and_called_back_all_the_same: {"revid": 50},
    called_back_before_the_answer_was_lost: {"revid": 50},
    taken_and_expired: {"revid": 50},
    repeated_under_its_key_and_refused: {},
    repeated_under_its_key_and_taken: {"rivya": 6},
    bought_elsewhere: {},
}
"""What each life cost or may have cost, by account."""

ACCOUNTS = {"KIE_API_KEY": "the-key", "KIE_BASE_URL": DEAD_PORT}


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.__name__)
async def test_only_what_may_have_been_bought_is_spent(life: Life, stage: Stage) -> None:
    async with stage.serve(**ACCOUNTS) as service:
        await life(service)
        assert await told_everywhere(stage, service) == LIVES[life]


async def test_all_places_tell_the_same_after_all_these_lives(stage: Stage) -> None:
    expected = by_account({(account, life): it for life, cost in LIVES.items() for account, it in cost.items()})
    assert expected == {"revid": 600, "rivya": 10.1}
    async with stage.serve(**ACCOUNTS) as service:
        for life in LIVES:
            await life(service)
            service.clock.advance(3 * 3600)
        assert await told_everywhere(stage, service) == expected


async def told_everywhere(stage: Stage, service: Service) -> dict[str, float]:
    """What each account spent, as every place tells it, which must be the same; those that spent nothing left out."""
    stats = (await service.client.get("/api/stats")).json()
    told = spent_of({account: sums["spent"] for account, sums in stats["credits"].items()})
    days = {(account, each["day"]): each["credits"] for account, spent in stats["spend"].items() for each in spent}
    assert by_account(days) == told, "by day"
    assert spent_of(await in_metrics(service, "receiver_credits_spent")) == told, "/metrics"
    now = service.clock.now
    today = spent_of(await in_metrics(service, "receiver_credits_spent_today"))
    limits = {
        (account, day): await service.app.state.services.store.write(
            lambda tx, account=account, day=day: spending.sum_spent_on(tx, account, day)
        )
        for account in (*PRICES, "apixo", "gateway")
        for day in range(spending.start_of_day(now) - 10 * spending.DAY, now, spending.DAY)
    }
    assert by_account({key: millionths / 1_000_000 for key, millionths in limits.items()}) == told, "limits"
    assert (
        by_account({key: it / 1_000_000 for key, it in limits.items() if key[1] == spending.start_of_day(now)}) == today
    )
    await service.client.post("/login", data={"password": TOKEN})
    assert by_account(providers_page((await service.client.get("/providers")).text)) == told, "the page of providers"
    assert by_account(listed((await service.client.get("/?limit=200")).text)) == told, "the list"
    assert spent_of(await command_line(stage)) == told, "the command line"
    return told


def spent_of(amounts: Mapping[str, float]) -> dict[str, float]:
    return {account: amount for account, amount in amounts.items() if amount}


def by_account(amounts: Mapping[tuple[str, Any], float]) -> dict[str, float]:
    """Sum over days, or over tasks."""
    sums: dict[str, float] = {}
    for (account, _), amount in amounts.items():
        sums[account] = round(sums.get(account, 0) + amount, 6)
    return spent_of(sums)


async def in_metrics(service: Service, name: str) -> dict[str, float]:
    text = (await service.client.get("/metrics")).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.labels["provider"]: sample.value for sample in samples if sample.name == name}


def providers_page(html: str) -> dict[tuple[str, str], float]:
    row = r'data-label="Account">([^<]+)<.*?data-label="Day">([^<]+)<.*?data-label="Credits">([\d.,]+)<'
    return {(account, day): float(amount.replace(",", "")) for account, day, amount in re.findall(row, html, re.DOTALL)}


def listed(html: str) -> dict[tuple[str, str], float]:
    """What the list of tasks shows of those that ended or were sent, estimates of those that wait aside."""
    row = r'href="/tasks/(\w+)">.*?<span class="exact">(\w+) / .*?class="amount">(.*?)</td>'
    found = {(account, task): cell for task, account, cell in re.findall(row, html, re.DOTALL)}
    assert found
    amounts = {key: re.match(r"([\d.,]+)", cell) for key, cell in found.items()}
    return {key: float(amount[1].replace(",", "")) for key, amount in amounts.items() if amount}


async def command_line(stage: Stage) -> dict[str, float]:
    environ = {**os.environ, **environment(stage.provider, stage.directory, **ACCOUNTS)}
    words = [sys.executable, "-m", "receiver", "stats", "--json"]
    ran = await asyncio.to_thread(subprocess.run, words, env=environ, capture_output=True, text=True, check=True)
    return {account: sums["spent"] for account, sums in json.loads(ran.stdout)["credits"].items()}
