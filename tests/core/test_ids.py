"""Ids sort by the time they were made, also within a millisecond, and no two are the same."""

import re
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from receiver.core.ids import new_id, new_message_id

NOW = 1_795_176_000_000
SHAPE = re.compile(r"tsk_[0-9a-z]{26}")
"""What the API takes as a cursor."""


def test_ids_of_one_millisecond_are_unique_and_sorted() -> None:
    ids = [new_id(NOW) for _ in range(20_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert all(SHAPE.fullmatch(task_id) for task_id in ids)


@given(st.lists(st.integers(0, 2**48 - 1), min_size=2))
def test_ids_sort_by_their_times(times: list[int]) -> None:
    made = [(time, new_id(time)) for time in sorted(times)]
    assert [task_id for _, task_id in made[1:]] == sorted(task_id for _, task_id in made[1:])
    assert all(SHAPE.fullmatch(task_id) for _, task_id in made)


def test_a_clock_that_is_corrected_by_a_little_breaks_no_order() -> None:
    ids = [new_id(NOW + 10_000 + back) for back in (0, -1, -500, -900, 1)]
    assert ids == sorted(ids)


def test_a_clock_that_is_set_back_far_is_followed() -> None:
    ahead, right = new_id(NOW + 86_400_000), new_id(NOW)
    assert right < ahead
    assert new_id(NOW + 1) > right
    assert new_id(NOW + 1) < ahead


def test_ids_of_several_processes_do_not_meet() -> None:
    code = f"from receiver.core.ids import new_id\nfor _ in range(5000): print(new_id({NOW}))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own
        for _ in range(3)
    ]
    ids = [task_id for process in processes for task_id in process.communicate()[0].split()]
    assert len(set(ids)) == len(ids) == 15_000


def test_ids_of_messages_sort_by_their_times() -> None:
    made = [new_message_id(NOW + passed) for passed in range(1000)]
    assert made == sorted(set(made))
    assert all(re.fullmatch(r"msg_[0-9a-z]{26}", message_id) for message_id in made)
