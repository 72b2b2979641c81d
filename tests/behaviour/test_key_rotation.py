"""The keys of callback URLs are changed while tasks are in flight: old URLs stay valid until their key is removed, and
then the tasks are settled by asking."""

import pytest

from tests.behaviour.families import REVID
from tests.behaviour.provider import says
from tests.behaviour.service import Service, Stage
from tests.torture.harness import Torture

pytestmark = [pytest.mark.anyio, pytest.mark.row("C6")]

URL = "https://cdn.example.com/out.mp4"
OLD, NEW = "an-old-signing-key", "a-new-signing-key"


async def ordered(service: Service, number: int, begin: int) -> dict[str, str]:
    """Order so many tasks; their remote ids by their own."""
    found = {}
    for at in range(begin, begin + number):
        service.provider.on_create(REVID, says(REVID.accepted(f"r-{at}")))
        found[(await service.order(REVID.order()))["id"]] = f"r-{at}"
    return found


async def test_no_task_is_lost_when_keys_are_rotated_and_retired(stage: Stage, torture: Torture) -> None:
    number = torture.size(12, 1000)
    async with stage.serve(SECRET_KEYS=OLD) as service:
        old = await ordered(service, number, 0)
        links = {task_id: service.link(task_id) for task_id in old}
    third = number // 3
    first, second, rest = list(old)[:third], list(old)[third : 2 * third], list(old)[2 * third :]

    async with stage.serve(SECRET_KEYS=f"{NEW},{OLD}") as service:
        new = await ordered(service, third, number)
        for task_id in first:
            answer = await service.deliver(links[task_id], REVID.done(old[task_id], URL))
            assert answer.json() == {"outcome": "applied"}
        for task_id in second:
            answer = await service.deliver(links[task_id], REVID.working(old[task_id]))
            assert answer.json() == {"outcome": "applied"}

    async with stage.serve(SECRET_KEYS=NEW) as service:
        for task_id in old:
            assert (await service.deliver(links[task_id], REVID.failed(old[task_id]))).status_code == 404
        for task_id, remote in new.items():
            assert await service.call_back(task_id, REVID.done(remote, URL)) == "applied"
        asked = 0
        for task_id in (*second, *rest):
            service.provider.on_check(REVID, says(REVID.done(old[task_id], URL)))
            answer = await service.post(f"/api/tasks/{task_id}/check")
            asked += answer.json()["settled_by"] == "check"
        states = {(await service.task(task_id))["state"] for task_id in (*old, *new)}
        torture.figures(tasks=len(old) + len(new), settled_by_asking=asked)
        assert states == {"succeeded"}
        assert asked == len(second) + len(rest)
