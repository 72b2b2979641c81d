"""Five callbacks about one task in all their orders: what was final first stays, contradictions are asked about."""

from itertools import permutations, product

import pytest

from tests.behaviour.families import CALLING_BACK, REVID, Family
from tests.behaviour.provider import says
from tests.behaviour.service import Service
from tests.behaviour.test_any_order import URL, News, body, check_life
from tests.torture.harness import Torture

pytestmark = pytest.mark.anyio

FIVE: tuple[News, ...] = ("waiting", "working", "done", "failed", "other")
FINAL = {"done": "succeeded", "other": "succeeded", "failed": "failed"}
RESULTS = {"done": URL, "other": f"{URL}?other"}
TRUTHS: tuple[News, ...] = ("done", "failed")


async def live(service: Service, family: Family, order: tuple[News, ...], truth: News, remote_id: str) -> None:
    """Deliver callbacks in this order, while the provider says the truth to whoever asks."""
    service.provider.on_create(family, says(family.accepted(remote_id)))
    service.provider.on_check(family, says(body(family, truth, remote_id)))
    task = await service.order(family.order())
    first = next(news for news in order if news in FINAL)
    final, checks = FINAL[first], 0
    settled = False
    for news in order:
        outcome = await service.call_back(task["id"], body(family, news, remote_id))
        if settled and news in FINAL and FINAL[news] != final:
            assert outcome == "confirming", (order, news)
            checks += 1
            now = await service.until_checked(task["id"], checks)
            assert any("although the task is" in sentence for sentence in now["notices"]), (order, now["notices"])
            if final == "failed" and truth == "done":
                final = "succeeded"  # done there, failed here
        elif settled:
            assert outcome in ("repeated", "late"), (order, news, outcome)
        settled = settled or news in FINAL
        now = await service.task(task["id"])
        assert not settled or now["state"] == final, (order, news)
        assert now["checks"] == checks, "asked only about contradictions"
    assert len(now["outputs"]) == (final == "succeeded")
    if FINAL[first] == "succeeded":
        assert now["outputs"][0]["url"] == RESULTS[first], "the first result stays"
        assert any("different URLs" in sentence for sentence in now["notices"])
    events = await service.history(task["id"])
    check_life(events, len(order))
    assert [event["to"] for event in events if event["kind"] == "move"].count("succeeded") == (final == "succeeded")


@pytest.mark.row("B2")
async def test_in_all_orders_of_five_callbacks_the_first_confirmed_end_stays(
    torture: Torture, service: Service
) -> None:
    orders = list(permutations(FIVE))
    every = list(product(CALLING_BACK, orders, TRUTHS))
    chosen = every
    if not torture.full:
        chance = torture.random
        chosen = [(REVID, order, TRUTHS[number % 2]) for number, order in enumerate(orders)]
        chosen += chance.sample([one for one in every if one[0] is not REVID], 20)
    for number, (family, order, truth) in enumerate(chosen):
        await live(service, family, order, truth, f"all-{number}")
    torture.figures(seed=torture.seed, orders=len(orders), lives=len(chosen))
