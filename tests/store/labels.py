"""Numbers as labels, which both databases must find by the same text: that of the task's own JSON."""

import json

from receiver.store import Store, reading
from receiver.store.reading import Filter

from .rig import add_tasks, task_row

NUMBERS = (7, -1, 0.5, 1e5, 2**53 + 1, 2**63, 2**70, -(2**70), 1e22, 1.5e300, 5e-324, -0.0, 0.0, 1e-7)
KEYS = ("n", "a.b", 'say "hi"', "$", "", "näme 🎬", "back\\slash")


async def assert_found_by_its_text(store: Store, number: float) -> None:
    """The number is found by its text under any key, and by no other number's."""
    text = json.dumps(number)
    others = [other for other in NUMBERS if json.dumps(other) != text]
    for place, key in enumerate(KEYS):
        elsewhere = {"inner": {key: number}, key + "x": number}
        rows = [{key: number}, {key: text}, {key: others[0]}, elsewhere]
        await store.write(add_tasks(*(task_row(f"tsk_{place}_{n}", metadata=row) for n, row in enumerate(rows))))

        async def found(value: str, key: str = key) -> set[str]:
            wanted = Filter(metadata={key: value}, q=f"tsk_{place}_")  # noqa: B023 - used within this turn
            return {task.id for task in await store.read(lambda session: reading.listing(session, wanted))}

        assert await found(text) == {f"tsk_{place}_0", f"tsk_{place}_1"}, key
        for other in others:
            assert f"tsk_{place}_0" not in await found(json.dumps(other)), key
