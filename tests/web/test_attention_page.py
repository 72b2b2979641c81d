"""`/attention`: what a person should look at, each with its ways out as one form."""

from typing import Any

import pytest

from receiver.core.states import State
from receiver.store import attention
from receiver.store.attention import count_tasks
from tests.web.site import Site

pytestmark = pytest.mark.anyio

COSTLY = 50_000_000


async def listed(site: Site) -> int:
    return await site.services.store.read(count_tasks)


async def add(site: Site, state: State = State.UNCONFIRMED, *reasons: str, **values: Any) -> str:
    task_id = await site.add(state, **values)
    for reason in reasons:
        await site.services.store.write(
            lambda tx, why=reason: attention.raise_reason(tx, task_id, why, 1, "<b>detail</b>")  # type: ignore[misc]
        )
    return task_id


async def test_every_page_says_how_many_tasks_need_attention(site: Site) -> None:
    assert "Attention 1" not in " ".join((await site.page("/providers")).text.split())
    await add(site, State.UNCONFIRMED, "contradiction")
    for path in ("/", "/new", "/providers", "/attention"):
        assert "Attention 1" in " ".join((await site.page(path)).text.split()), "one task, whatever the reasons"


async def test_the_most_costly_comes_first_with_all_of_its_reasons(site: Site) -> None:
    cheap = await add(site, may_have_cost=True, estimated=1)
    dear = await add(site, State.SUCCEEDED, "result_lost", "contradiction", may_have_cost=True, estimated=COSTLY)
    page = await site.page("/attention")
    links = [href for href in page.all("href") if href.startswith("/tasks/")]
    assert links == [f"/tasks/{dear}", f"/tasks/{cheap}"]
    for words in ("Two different ends · A file was lost", "It may have been bought", "<b>detail</b>"):
        assert words in page.text
    assert ("b", {}) not in page.elements, "a detail is text"


async def test_a_task_is_acknowledged_with_one_button(site: Site) -> None:
    task_id = await add(site)
    form = (await site.page("/attention")).forms[f"/attention/{task_id}/acknowledge"]
    answer = await site.post(f"/attention/{task_id}/acknowledge", form)
    assert (answer.status_code, await listed(site)) == (303, 0)
    page = await site.page(answer.headers["location"])
    assert "was acknowledged" in page.text
    assert "Nothing needs attention" in page.text
    assert (await site.post(f"/attention/{task_id}/acknowledge", {"csrf": "forged"})).status_code == 403


async def test_the_page_of_a_task_says_why_it_is_listed_and_acknowledges_it(site: Site) -> None:
    task_id = await add(site, State.SUCCEEDED, "contradiction")
    page = await site.page(f"/tasks/{task_id}")
    assert "Acknowledge: two different ends" in page.text
    await site.post(f"/attention/{task_id}/acknowledge", page.forms[f"/attention/{task_id}/acknowledge"])
    assert "Acknowledge" not in (await site.page(f"/tasks/{task_id}")).text


async def test_an_unclear_task_is_closed_or_followed_with_one_form(site: Site) -> None:
    closed, followed = [await add(site) for _ in range(2)]
    form = (await site.page("/attention")).forms[f"/tasks/{closed}/adopt"]
    answer = await site.post(f"/tasks/{closed}/adopt", form | {"found": "no"})
    assert answer.headers["location"] == "/attention?done=closed"
    answer = await site.post(f"/tasks/{followed}/adopt", {"csrf": form["csrf"], "found": "yes", "remote_id": "r-1"})
    assert answer.headers["location"] == f"/tasks/{followed}"
    assert await listed(site) == 0
    assert {task.id: task.state for task in await site.tasks()} == {closed: State.FAILED, followed: State.SUBMITTED}


async def test_the_way_back_leads_nowhere_else(site: Site) -> None:
    task_id = await add(site)
    form = (await site.page("/attention")).forms[f"/tasks/{task_id}/adopt"]
    answer = await site.post(f"/tasks/{task_id}/adopt", form | {"found": "no", "back": "//evil.example/"})
    assert answer.headers["location"] == "/"


async def test_ordering_again_buys_once_and_takes_the_old_task_off_the_list(real: Site) -> None:
    task_id = await add(real, State.EXPIRED, may_have_cost=True)
    page = await real.page("/attention")
    assert "Order again for about 50 credits" in page.text
    assert "you may pay twice" in page.text
    form = next(form for action, form in page.forms.items() if action.endswith(f"/attention/{task_id}/retry"))
    first, second = [await real.post(f"/attention/{task_id}/retry", form) for _ in range(2)]
    assert first.headers["location"] == second.headers["location"]
    assert (len(real.outbound.bought), await listed(real)) == (1, 0)


async def test_what_is_left_out_is_counted(site: Site) -> None:
    for _ in range(101):
        await add(site)
    assert "1 more will appear here" in (await site.page("/attention")).text
