"""What the feed promises, held to the same on both databases."""

from functools import partial

from receiver.core.states import State
from receiver.store import Store, Transaction, feed, tasks
from receiver.store.task_row import TaskChanges

from .rig import add_tasks, task_row

MANY = 100
BYTES = 1024 * 1024


def changes_after(number: int, most: int = MANY, most_bytes: int = BYTES) -> "partial[list[tuple[int, str]]]":
    return partial(feed.read_after, number=number, most=most, most_bytes=most_bytes)


async def change(store: Store, task_id: str, **changes: object) -> None:
    values: TaskChanges = changes  # type: ignore[assignment]  # the names are a test's own
    assert await store.write(partial(tasks.change, task_id=task_id, was=State.QUEUED, changes=values))


async def ids_after(store: Store, number: int) -> list[str]:
    return [task_id for _, task_id in await store.read(changes_after(number))]


async def latest(store: Store) -> int:
    return await store.read(feed.read_latest)


async def assert_each_change_moves_its_task_to_the_end(store: Store) -> None:
    await store.write(add_tasks(*(task_row(f"tsk_{name}") for name in "abc")))
    began = await latest(store)
    await change(store, "tsk_b", progress=0.5)
    await change(store, "tsk_a", progress=0.5)
    await change(store, "tsk_b", progress=0.7)
    assert await ids_after(store, began) == ["tsk_a", "tsk_b"]
    assert await ids_after(store, 0) == ["tsk_c", "tsk_a", "tsk_b"]
    numbers = [number for number, _ in await store.read(changes_after(0))]
    assert numbers == sorted(numbers)
    assert numbers[-1] == await latest(store) > began


async def assert_a_lease_alone_is_no_change(store: Store) -> None:
    await store.write(add_tasks(task_row("tsk_a", next_check_at=1)))
    before = await latest(store)
    assert await store.write(partial(tasks.claim_one, task_id="tsk_a", now=2, until=3)) is not None
    await change(store, "tsk_a", leased_until=None, updated_at=5)
    assert await latest(store) == before
    await change(store, "tsk_a", leased_until=None, next_check_at=7)
    assert await ids_after(store, before) == ["tsk_a"]


async def assert_what_is_rolled_back_has_no_number(store: Store) -> None:
    await store.write(add_tasks(task_row("tsk_a"), task_row("tsk_b")))
    before = await latest(store)

    def fails(tx: Transaction) -> None:
        tasks.change(tx, "tsk_a", State.QUEUED, {"progress": 0.5})
        raise ZeroDivisionError

    try:
        await store.write(fails)
    except ZeroDivisionError:
        await change(store, "tsk_b", progress=0.5)
    assert await ids_after(store, before) == ["tsk_b"]


async def assert_pages_are_bounded(store: Store) -> None:
    await store.write(add_tasks(*(task_row(f"tsk_{n}", input=f'{{"a":"{"x" * 5000}"}}') for n in range(5))))
    assert len(await store.read(changes_after(0, most=3))) == 3
    assert len(await store.read(changes_after(0, most_bytes=13_000))) == 2
    assert len(await store.read(changes_after(0, most_bytes=1))) == 1, "else nobody would ever get past it"


async def assert_known_is_what_was_given_and_is_there(store: Store) -> None:
    await store.write(add_tasks(*(task_row(f"tsk_{name}") for name in "abc")))
    await change(store, "tsk_a", progress=0.5)
    end = await latest(store)

    async def known(number: int, kept: int = feed.KEPT) -> bool:
        return await store.read(lambda session: feed.knows_all_after(session, number, kept))

    assert [await known(number) for number in (0, end, end + 1, 2**80)] == [True, True, False, False]
    await store.write(partial(feed.remove_past, kept=2))
    assert await ids_after(store, 0) == ["tsk_c", "tsk_a"]
    assert [await known(number, 2) for number in (0, end - 3, end - 2, end)] == [False, False, True, True]
    assert await latest(store) == end


ALL = (
    assert_each_change_moves_its_task_to_the_end,
    assert_a_lease_alone_is_no_change,
    assert_what_is_rolled_back_has_no_number,
    assert_pages_are_bounded,
    assert_known_is_what_was_given_and_is_there,
)
