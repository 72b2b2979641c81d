"""QueuedUnit for tasks, held to the same on both databases."""

import asyncio
from collections import Counter
from functools import partial

from sqlmodel import Session

from receiver.core.states import State
from receiver.store import Store, reading, tasks
from receiver.store.tables import Task
from receiver.store.task_row import TaskChanges
from tests.measuring import HANG, until

from .rig import add_tasks, beat, beats, task_row

WAITERS = 100
COMMITS = 8
LONG = HANG


async def assert_each_waiter_is_woken_for_its_own_task(store: Store) -> None:
    """After others' commits nobody asks again; whose task has changed does at once."""
    ids = [f"tsk_{number:03}" for number in range(WAITERS)]
    await store.write(add_tasks(*(task_row(task_id) for task_id in ids)))
    asked: Counter[str] = Counter()

    async def wait(task_id: str) -> State:
        def query(session: Session) -> Task | None:
            asked[task_id] += 1
            return reading.task(session, task_id)

        found = await store.until(
            query, lambda task: task is None or task.state is not State.QUEUED, LONG, of=[task_id]
        )
        assert found is not None
        return found.state

    waiting = {task_id: asyncio.create_task(wait(task_id)) for task_id in ids}
    await until(lambda: len(asked) == WAITERS, LONG)
    await assert_noticed(store, 1)  # and with it the commit that added them, which may have woken them once more
    before = asked.copy()
    await assert_noticed(store, COMMITS)
    assert asked == before
    for task_id in ids[::10]:
        moved: TaskChanges = {"state": State.SUBMITTING}
        await store.write(partial(tasks.change, task_id=task_id, was=State.QUEUED, changes=moved))
        assert await asyncio.wait_for(waiting.pop(task_id), LONG) is State.SUBMITTING
    assert not any(task.done() for task in waiting.values())
    assert {task_id: asked[task_id] for task_id in waiting} == {task_id: before[task_id] for task_id in waiting}
    for task in waiting.values():
        task.cancel()
    await asyncio.gather(*waiting.values(), return_exceptions=True)


async def assert_hostile_ids_are_waited_for_like_others(store: Store) -> None:
    """What no database takes must not spoil the wait of those who ask for something else."""
    await store.write(add_tasks(task_row("tsk_1")))
    asked = 0

    def query(session: Session) -> Task | None:
        nonlocal asked
        asked += 1
        return reading.task(session, "tsk_1")

    def checked(task: Task | None) -> bool:
        return task is None or task.checks > 0

    changed = asyncio.create_task(store.until(query, checked, LONG, of=["tsk_1", "a\0b", "\ud800", "'"]))
    await until(lambda: asked >= 1, LONG)
    await assert_noticed(store, 1)  # and with it the commit that added the task
    before = asked
    await assert_noticed(store, COMMITS)
    assert asked == before
    await store.write(lambda tx: tasks.change(tx, "tsk_1", State.QUEUED, {"checks": 1, "updated_at": 7}))
    task = await asyncio.wait_for(changed, LONG)
    assert task is not None
    assert task.checks == 1


async def assert_noticed(store: Store, commits: int) -> None:
    """Commit something else so many times, and wait each time until that was noticed."""
    for number in range(commits):
        noticed = asyncio.create_task(store.until(beats("a"), lambda at, number=number: at == number, LONG))  # type: ignore[misc]
        await store.write(beat("a", number))
        await noticed
