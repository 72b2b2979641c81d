"""Lists of large tasks, and crowds that wait: a bounded answer, bounded memory, and no read for nothing."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.measuring import FRESH, HANG, Duration, Stopwatch, longest, quantile
from tests.torture.harness import Torture
from tests.torture.hostile.live import MEGABYTE, TOKEN, Live, healthy
from tests.torture.hostile.test_shapes import logged_in
from tests.torture.hostile.test_slow import honest

MOST_BYTES = 3 * MEGABYTE
"""Bytes of one answer: what a list holds, and what JSON makes of it."""
LISTERS = 8
SENDERS = 2
BY_FRIENDS = 100_000_000
"""Bytes above idle that those may cause who have a token, which are more than strangers may."""
WAITER = "GET /api/tasks/{}?wait=60 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + TOKEN + "\r\n\r\n"


@pytest.fixture(autouse=True)
def little_memory(serving: Live) -> Iterator[None]:
    """Hold it to its memory, whatever a test here asks for."""
    serving.forget_memory()
    yield
    above = serving.most_memory() - serving.idle
    assert above <= BY_FRIENDS, f"{above / 1e6:.0f} MB above idle"


def large(serving: Live) -> str:
    """Order a task whose input is as large as it may be; returns its id."""
    knobs = "[sandbox: after=3600 callback=drop]"
    given = {"prompt": f"x {knobs}", "more": "x" * (MEGABYTE - 2000)}
    order = {"provider": "gateway", "model": "large", "input": given, "validate": False}
    answer = serving.client.post("/api/tasks", content=json.dumps(order))
    assert answer.status_code == 201, answer.text[:500]
    return str(answer.json()["id"])


@pytest.mark.row("D6")
@pytest.mark.row("I10")
def test_lists_of_large_tasks_are_bounded_and_complete_and_hold_up_nobody(serving: Live, torture: Torture) -> None:
    """The service's memory is looked at after every test here."""
    with ThreadPoolExecutor(SENDERS) as threads:
        ordered = set(threads.map(lambda _: large(serving), range(torture.size(24, 200))))
    session = logged_in(serving)

    def lists(_number: int) -> tuple[set[str], int]:
        found: set[str] = set()
        largest, cursor = 0, None
        while cursor is not None or not found:
            query = {"limit": "200", "model": "large"} | ({"cursor": cursor} if cursor else {})
            answer = serving.client.get("/api/tasks", params=query)
            assert answer.status_code == 200, answer.text[:500]
            largest = max(largest, len(answer.content))
            found |= {task["id"] for task in answer.json()["tasks"]}
            cursor = answer.json()["next"]
        return found, largest

    torture.figures(megabytes_above_idle_for_orders=(serving.most_memory() - serving.idle) / 1e6)
    serving.forget_memory()
    with healthy(serving, torture), ThreadPoolExecutor(LISTERS) as threads:
        answers = list(threads.map(lists, range(LISTERS)))
        page = serving.client.get("/", headers={"Cookie": session})
    assert all(found == ordered for found, _ in answers)
    assert max(largest for _, largest in answers) <= MOST_BYTES
    assert page.status_code == 200
    assert len(page.content) < 200_000
    torture.figures(large_tasks=len(ordered), largest_answer_mb=max(size for _, size in answers) / 1e6)


@pytest.mark.row("D6")
def test_a_crowd_that_waits_makes_nobody_elses_answer_late(serving: Live, torture: Torture) -> None:
    number, seconds = torture.size(150, 1_000), torture.size(2, 15)
    target, waited_for = serving.target("revid"), [serving.target("apixo").task_id for _ in range(20)]
    lists: list[Duration] = []

    async def run() -> tuple[list[Duration], list[Duration]]:
        quiet = await honest(serving, target, 1.0)
        connections = [await asyncio.open_connection("127.0.0.1", serving.port) for _ in range(number)]
        for position, (_, writer) in enumerate(connections):
            writer.write(WAITER.format(waited_for[position % len(waited_for)]).encode())
        before = serving.cpu()
        listing = asyncio.create_task(list_again_and_again(seconds))
        under_way = await honest(serving, target, seconds)
        await listing
        torture.figures(cpu_share_of_waiting=(serving.cpu() - before) / seconds)
        for _, writer in connections:
            writer.close()
        return quiet, under_way

    async def list_again_and_again(duration: float) -> None:
        headers, lasting = {"Authorization": f"Bearer {TOKEN}"}, Stopwatch()
        url = f"http://127.0.0.1:{serving.port}"
        async with httpx.AsyncClient(
            base_url=url, headers=headers, trust_env=False, timeout=HANG, limits=FRESH
        ) as client:
            while not lasting.read().at_least(duration):
                watch = Stopwatch()
                assert (await client.get("/api/tasks", params={"limit": 20, "provider": "apixo"})).status_code == 200
                lists.append(watch.read())

    quiet, under_way = asyncio.run(run())
    calm = quantile(quiet, 0.99)
    torture.figures(waiters=number, longest_list_s=longest(lists), quiet_p99_s=calm)
    torture.figures(honest_p99_s=quantile(under_way, 0.99))
    torture.within(longest(lists), 1, calm.times(50))
