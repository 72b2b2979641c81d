"""The pages say what was measured of a model, and why a task's next check is when it is."""

import pytest

from receiver.core.measured import ENOUGH_TASKS
from receiver.core.states import State
from receiver.store import measured
from receiver.store.measured import Ended
from tests.web.site import NOW, Site

pytestmark = pytest.mark.anyio


async def measure(site: Site, model: str, seconds: float = 40.0, *, arrived: bool = True) -> None:
    for _ in range(ENOUGH_TASKS):
        ended = Ended("revid", model, seconds, awaited=True, arrived=arrived, at=NOW)
        await site.services.store.write(lambda tx, ended=ended: measured.add(tx, ended))  # type: ignore[misc]


async def test_the_providers_page_says_what_is_used_and_why(real: Site) -> None:
    await measure(real, "sora-2-text-to-video")
    text = " ".join((await real.page("/providers")).text.split())
    assert "of the latest 20 tasks" in text
    assert "11 of the latest 11 came" in text
    assert "Callbacks of this model usually arrive after 42 s; checked at" in text


async def test_before_anything_is_measured_the_page_says_what_counts_until_then(real: Site) -> None:
    text = (await real.page("/providers")).text
    assert "The first status check is 5 min after submission, until a model's own times are known." in text
    assert "Measured" not in text


async def test_the_name_of_a_measured_model_is_no_markup(real: Site) -> None:
    await measure(real, "<b>bold</b>", arrived=False)
    page = await real.page("/providers")
    assert "<b>bold</b>" in page.text
    assert "b" not in {tag for tag, _ in page.elements}


async def test_the_page_of_a_task_says_why_its_next_check_is_when_it_is(site: Site) -> None:
    words = "Callbacks of this model usually arrive after 40 s; checked at 1 min 19 s if none has come."
    plan = {"next_check_at": NOW + 5000, "next_check_because": words}
    for state in (State.SUBMITTED, State.EXPIRED):
        task_id = await site.add(state, remote_id=f"r-{state}", **plan)
        assert words in (await site.page(f"/tasks/{task_id}")).text
