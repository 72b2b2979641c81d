"""What cannot be paid for is said where it was ordered, and what was not bought is shown as nothing."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from receiver.core.states import State
from tests.web.site import REAL, REVID, Page, Site, opened

pytestmark = pytest.mark.anyio

CREDIT = 1_000_000


@pytest.fixture
async def limited(empty: Path, tmp_path: Path) -> AsyncIterator[Site]:
    limits = {"REVID_MAX_CREDITS_PER_DAY": "55.5", "REVID_MAX_RUNNING": "4"}
    async with opened(empty, tmp_path, REAL | limits) as site:
        yield site


async def test_an_order_over_a_days_limit_comes_back_with_what_was_typed(limited: Site) -> None:
    page = await limited.page(REVID)
    form = page.forms["/rx/new"] | {"input.prompt": "a boat", "input.n_frames": "15"}
    answer = await limited.post("/new", form)
    assert answer.status_code == 422
    assert "about 60 credits, and REVID_MAX_CREDITS_PER_DAY allows 55.5 a day" in Page(answer).text
    assert Page(answer).forms["/rx/new"]["input.prompt"].strip() == "a boat"
    assert await limited.tasks() == []
    assert (await limited.post("/new", form | {"input.n_frames": "10"})).status_code == 303


async def test_ordering_again_over_the_limit_says_why_and_orders_nothing(limited: Site) -> None:
    task_id = await limited.add(State.FAILED, input='{"prompt": "a boat", "n_frames": "15"}')
    form = (await limited.page(f"/tasks/{task_id}")).forms[f"/rx/tasks/{task_id}/retry"]
    answer = await limited.post(f"/tasks/{task_id}/retry", form)
    assert answer.status_code == 422
    assert "REVID_MAX_CREDITS_PER_DAY allows 55.5 a day" in Page(answer).text
    assert len(await limited.tasks()) == 1
    assert limited.outbound.bought == []


async def test_the_providers_page_shows_the_limits_and_how_long_an_unconfirmed_task_counts(
    limited: Site,
) -> None:
    text = (await limited.page("/providers")).text
    assert "At most 4 tasks run at once; an unconfirmed task counts for 15 min." in text
    assert "At most 55.5 credits are spent per day." in text


NOTHING = [
    ({"state": State.CANCELLED}, "0 never sent"),
    ({"state": State.CANCELLED, "attempts": 1}, "0 not bought"),
    ({"state": State.FAILED, "attempts": 1}, "0 not bought"),
    ({"state": State.EXPIRED}, "0 never sent"),
    ({"state": State.SUCCEEDED, "remote_id": "r", "charged": 7 * CREDIT}, "0 bought elsewhere"),
]
SOMETHING = [
    ({"state": State.QUEUED}, "50 estimated"),
    ({"state": State.UNCONFIRMED, "attempts": 1, "may_have_cost": True}, "50 estimated"),
    ({"state": State.CANCELLED, "attempts": 1, "may_have_cost": True}, "50 estimated"),
    ({"state": State.FAILED, "attempts": 1, "may_have_cost": True, "reserved": 12_345_678}, "12.345678 reserved"),
    ({"state": State.SUCCEEDED, "attempts": 1, "may_have_cost": True, "charged": 300_000}, "0.3 charged"),
    ({"state": State.SUCCEEDED, "attempts": 1, "may_have_cost": True, "charged": 0}, "0 charged"),
]


@pytest.mark.parametrize(("row", "shown"), NOTHING + SOMETHING)
async def test_a_task_is_shown_with_what_it_may_have_cost(site: Site, row: dict[str, object], shown: str) -> None:
    task_id = await site.add(**{"estimated": 50 * CREDIT} | row)  # type: ignore[arg-type]
    assert shown in " ".join((await site.page("/")).text.split())
    text = " ".join((await site.page(f"/tasks/{task_id}")).text.split())
    assert shown in text
    assert (shown.startswith("0 ") and "charged" not in shown) == any(
        words in text for words in ("0 never sent", "0 not bought", "0 bought elsewhere")
    )
