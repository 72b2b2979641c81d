"""200 tasks in flight over all families, every kind of trouble among them: each settles as it should, and the provider
counts one purchase for each. Then the same with the service killed and started again three times in between."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.measuring import FRESH, HANG, until
from tests.system import postgres
from tests.system.processes import ENDS, Process, free_port, provider, service
from tests.torture.harness import Torture

pytestmark = pytest.mark.anyio

TASKS = 200
FEWER = 100
"""Enough for each kind of trouble of each family."""
AT_ONCE = 60
SECONDS = 15 * HANG
MODELS = {"rivya": "sora-2", "apixo": "sora-2", "revid": "sora-2-text-to-video", "gateway": "sora-2"}

# What is ordered of the provider, how the task must end, how often it is bought.
WITH_CALLBACKS = (
    ("", "succeeded", 1),
    ("callback=drop", "succeeded", 1),
    ("callback=twice", "succeeded", 1),
    ("callback=early", "succeeded", 1),
    ("callback=late", "succeeded", 1),
    ("callback=forged", "succeeded", 1),
    ("callback=foreign", "succeeded", 1),
    ("callback=unreadable", "succeeded", 1),
    ("submit=refuse", "failed", 0),
    ("submit=busy", "succeeded", 1),
    ("submit=break", "succeeded", 1),
    ("submit=mute", "succeeded", 1),
    ("submit=break callback=early", "succeeded", 1),
    ("submit=break callback=drop", "expired", 1),
    ("status=fail", "succeeded", 1),
    ("status=fail callback=drop", "expired", 1),
    ("result=fail", "failed", 1),
    ("result=fail callback=drop", "failed", 1),
    ("result=fail submit=mute", "failed", 1),
)
POLLED = (
    ("", "succeeded", 1),
    ("submit=refuse", "failed", 0),
    ("submit=busy", "succeeded", 1),
    ("submit=break", "succeeded", 1),
    ("submit=mute", "succeeded", 1),
    ("status=fail", "expired", 1),
    ("result=fail", "failed", 1),
)


@dataclass(frozen=True)
class Wanted:
    """One order with the end it must come to."""

    provider: str
    prompt: str
    state: str
    purchases: int


def orders(number: int = TASKS) -> list[Wanted]:
    """Spread the troubles over the families, until there are enough tasks."""
    kinds = [("rivya", *trouble) for trouble in POLLED]
    kinds += [(family, *trouble) for trouble in WITH_CALLBACKS for family in ("apixo", "revid", "gateway")]
    endless = enumerate(itertools.cycle(kinds))
    return [
        Wanted(family, f"Boat number {each} [sandbox: {knobs} after=1.5]", state, purchases)
        for each, (family, knobs, state, purchases) in itertools.islice(endless, number)
    ]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


Running = tuple[Process, Process, str, str]
"""The running service and provider, with their URLs."""


@contextmanager
def running(directory: Path, **settings: str) -> Iterator[Running]:
    """Run service and provider."""
    port, provider_port = free_port(), free_port()
    selling = provider(directory, provider_port)
    serving = service(directory, port, provider_port, **settings)
    selling.start()
    serving.start()
    try:
        yield serving, selling, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{provider_port}"
    finally:
        serving.kill()
        selling.kill()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as started:
        yield started


async def test_two_hundred_tasks_with_every_kind_of_trouble_end_right_and_are_bought_once(processes: Running) -> None:
    await assert_all_end_right(processes)
    assert processes[0].stop() == 0


@pytest.mark.skipif(postgres.binaries() is None, reason="PostgreSQL is not installed")
async def test_the_same_holds_on_postgresql(tmp_path: Path, torture: Torture) -> None:
    with (
        postgres.server() as database,
        running(tmp_path, RECEIVER_DATABASE_URL=database) as started,
    ):
        await assert_all_end_right(started, torture.size(FEWER, TASKS))


async def assert_all_end_right(processes: Running, number: int = TASKS) -> None:
    """Submit everything; every task ends as it must, bought as often as it must be, with the provider's own result."""
    _, _, url, provider_url = processes
    wanted = orders(number)
    tasks = await run_all(url, wanted, [])
    purchases = await bought(provider_url)
    wrong = [
        f"{order.provider} {order.prompt}: {task['state']} ({task['error']}), bought {purchases[order.prompt]}"
        for order, task in zip(wanted, tasks, strict=True)
        if (task["state"], purchases[order.prompt]) != (order.state, order.purchases)
    ]
    assert not wrong, "\n".join(wrong)
    await assert_results_are_the_providers(provider_url, wanted, tasks)


async def test_nothing_is_lost_or_bought_twice_when_the_service_is_killed_three_times(
    processes: Running, torture: Torture
) -> None:
    serving, _, url, provider_url = processes
    wanted = orders(torture.size(FEWER, TASKS))
    answered: list[str] = []
    async with asyncio.TaskGroup() as both:
        both.create_task(kill_three_times(serving, answered, len(wanted)))
        running_all = both.create_task(run_all(url, wanted, answered))
    tasks = running_all.result()
    ledger = await purchases_of(provider_url)
    purchases = Counter(purchase["prompt"] for purchase in ledger)
    told = {purchase["prompt"] for purchase in ledger if callback_was_taken(purchase)}
    twice = {prompt: number for prompt, number in purchases.items() if number > 1}
    assert not twice, f"bought more than once: {twice}"
    wrong = [
        f"{order.provider} {order.prompt}: {task['state']} ({task['error']}), bought {purchases[order.prompt]}"
        for order, task in zip(wanted, tasks, strict=True)
        if not may_end_so(order, task, purchases[order.prompt], told=order.prompt in told)
    ]
    assert not wrong, "\n".join(wrong)
    await assert_results_are_the_providers(provider_url, wanted, tasks)


def callback_was_taken(purchase: dict[str, Any]) -> bool:
    """Say whether the provider's last callback was answered 200, going by its own ledger."""
    return any(sent["delivery"].startswith("end") and sent["answer"] == 200 for sent in purchase["callbacks"])


def may_end_so(order: Wanted, task: dict[str, Any], purchases: int, *, told: bool) -> bool:
    """Say whether a task's end is right, where a kill may have cut off its submission or missed its callback.

    Of a submission that was cut off nobody can know whether it was received. It is never sent again: it was bought
    once or not at all, and unless its callback tells, it expires. So does one whose status requests all fail and
    whose callback the provider gave up while the service was down.
    """
    if (task["state"], purchases) == (order.state, order.purchases):
        return True
    if "status=fail" in order.prompt and not told and purchases == 1:
        return bool(task["state"] == "expired")
    cut_off = any(event["kind"] == "move" and event["to"] == "unconfirmed" for event in task["history"])
    return cut_off and task["state"] in (order.state, "expired") and purchases <= 1


async def run_all(url: str, wanted: list[Wanted], answered: list[str]) -> list[dict[str, Any]]:
    """Submit all orders, each under its own key, and wait until every task has settled; `answered` are their ids."""
    gate = asyncio.Semaphore(AT_ONCE)
    headers = {"Authorization": "Bearer a-token-for-the-tests"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=HANG, limits=FRESH, trust_env=False) as client:

        async def one(order: Wanted) -> dict[str, Any]:
            async with gate:
                task_id = await submit(client, order)
            answered.append(task_id)
            return await settled(client, task_id)

        async with asyncio.timeout(SECONDS):
            return list(await asyncio.gather(*(one(order) for order in wanted)))


async def submit(client: httpx.AsyncClient, order: Wanted) -> str:
    """Submit an order as a careful caller does: under one key, again and again until it is answered."""
    body = {"provider": order.provider, "model": MODELS[order.provider], "input": {"prompt": order.prompt}}
    answer = await asked(client, "POST", "/api/tasks", json=body, headers={"Idempotency-Key": order.prompt})
    assert answer.status_code in (200, 201), answer.text
    return str(answer.json()["id"])


async def settled(client: httpx.AsyncClient, task_id: str) -> dict[str, Any]:
    """Wait until a task has settled; returns it with its history."""
    while True:
        task = (await asked(client, "GET", f"/api/tasks/{task_id}", params={"wait": "20"})).json()
        if task["state"] in ENDS:
            history = (await asked(client, "GET", f"/api/tasks/{task_id}/history")).json()
            return {**task, "history": history["events"]}


async def asked(client: httpx.AsyncClient, method: str, path: str, **more: Any) -> httpx.Response:
    """Ask the service, and again while it is away."""
    while True:
        try:
            answer = await client.request(method, path, **more)
        except httpx.TransportError:
            await asyncio.sleep(0.1)
            continue
        if answer.status_code != 503:
            return answer


async def kill_three_times(serving: Process, answered: Sized, orders: int) -> None:
    """Kill the service in the middle of its submissions, of its callbacks, and once more.

    Each order is answered in the end, but not each is bought: what a kill cut off may not be.
    """
    for share in (0.2, 0.45, 0.75):
        await until(lambda share=share: len(answered) >= share * orders)  # type: ignore[misc]
        await asyncio.to_thread(serving.kill)
        await asyncio.to_thread(serving.start)


async def purchases_of(provider_url: str) -> list[dict[str, Any]]:
    """Read the provider's ledger."""
    async with httpx.AsyncClient(trust_env=False, timeout=HANG, limits=FRESH) as client:
        listed: list[dict[str, Any]] = (await client.get(f"{provider_url}/ledger")).json()["purchases"]
        return listed


async def bought(provider_url: str) -> Counter[str]:
    """Count the provider's purchases by prompt."""
    return Counter(purchase["prompt"] for purchase in await purchases_of(provider_url))


async def assert_results_are_the_providers(
    provider_url: str, wanted: list[Wanted], tasks: list[dict[str, Any]]
) -> None:
    """Every result is the file that the provider made for this order, not what a forger or a foreign body named."""
    made = {purchase["prompt"]: purchase["video_url"] for purchase in await purchases_of(provider_url)}
    for order, task in zip(wanted, tasks, strict=True):
        found = [output["url"] for output in task["outputs"]]
        assert found == ([made[order.prompt]] if task["state"] == "succeeded" else [])
