"""What is measured of a model: recent tasks count, few do not, and a pause ends when asking costs less than waiting."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.core.measured import (
    ENOUGH_TASKS,
    LAST_BUCKET,
    REMEMBERED_CALLBACKS,
    REMEMBERED_TASKS,
    TASK_WEIGHT,
    Measured,
    bucket_of,
)

TIMES = st.floats(0, 10**6, allow_nan=False)
AGES = st.floats(0, 10**5, allow_nan=False)
PRICE = 4.0


def of(*seconds: float, arrived: bool = True) -> Measured:
    found = Measured()
    for each in seconds:
        found = found.add(each, awaited=True, arrived=arrived)
    return found


@given(st.lists(TIMES, max_size=300))
def test_any_number_of_tasks_stays_within_bounds(times: list[float]) -> None:
    found = of(*times)
    assert all(0 <= bucket <= LAST_BUCKET and weight > 0 for bucket, weight in found.times.items())
    assert sum(found.times.values()) <= REMEMBERED_TASKS * TASK_WEIGHT
    assert 0 <= found.arrived <= found.awaited <= REMEMBERED_CALLBACKS


@given(TIMES, TIMES)
def test_longer_times_are_in_later_buckets(one: float, other: float) -> None:
    assert bucket_of(min(one, other)) <= bucket_of(max(one, other))


@given(st.lists(st.floats(2, 10**5), min_size=1, max_size=60), st.floats(0, 1))
def test_a_quantile_is_right_to_a_fifth(times: list[float], share: float) -> None:
    exact = sorted(times)[min(int(share * len(times)), len(times) - 1)]
    below = sorted(times)[max(math.ceil(share * len(times)) - 1, 0)]
    assert below / 1.2 <= of(*times).quantile(share) <= exact * 1.2


def test_enough_is_measured_after_twenty_tasks_and_stays_enough() -> None:
    found, enough = Measured(), []
    for number in range(500):
        found = found.add(10.0 + number % 90, awaited=False, arrived=False)
        enough.append(found.is_enough)
    assert enough == [number >= ENOUGH_TASKS - 1 for number in range(500)]


def test_a_model_that_became_slower_or_faster_is_known_as_such_after_some_tasks() -> None:
    for before, after in ((40.0, 400.0), (400.0, 40.0)):
        found, changed = of(*[before] * 200), 0
        while abs(found.quantile(0.5) - after) > 0.2 * after:
            found, changed = found.add(after, awaited=True, arrived=True), changed + 1
        assert changed <= REMEMBERED_TASKS


def test_callbacks_that_stop_are_not_waited_for_after_some_tasks_and_again_when_they_come_again() -> None:
    found = of(*[40.0] * 100)
    assert not found.misses_callbacks
    missed = 0
    while not found.misses_callbacks:
        found, missed = found.add(40.0, awaited=True, arrived=False), missed + 1
    assert missed <= 4
    for _ in range(50):
        found = found.add(40.0, awaited=True, arrived=False)
    came = 0
    while found.misses_callbacks:
        found, came = found.add(40.0, awaited=True, arrived=True), came + 1
    assert came <= 2 * REMEMBERED_CALLBACKS


def test_tasks_without_a_callback_url_say_nothing_about_callbacks() -> None:
    found = Measured().add(40.0, awaited=False, arrived=True)
    assert (found.awaited, found.arrived) == (0, 0)


@given(st.lists(TIMES, min_size=1, max_size=80), AGES, st.floats(0.1, 100))
def test_a_pause_is_never_negative_and_a_dearer_request_waits_longer(
    times: list[float], age: float, price: float
) -> None:
    found = of(*times)
    pause, dearer = found.pause(age, price), found.pause(age, 2 * price)
    assert 0 <= pause <= dearer


@given(st.lists(st.floats(2, 10**4), min_size=1, max_size=60), st.floats(0, 2 * 10**4))
def test_a_pause_ends_when_a_result_is_expected_to_have_waited_for_its_price(times: list[float], age: float) -> None:
    found = of(*times)
    pause = found.pause(age, PRICE)
    if math.isinf(pause):
        assert max(times) < age * 1.2
        return
    assert expected_wait(found, age, pause) == pytest.approx(PRICE, rel=0.02)


def expected_wait(found: Measured, age: float, pause: float, steps: int = 1000) -> float:
    """Add up, in small steps, the share of the tasks that take longer than `age` which have ended by each time."""
    total = sum(found.times.values())
    left = total - ended_by(found, age) + TASK_WEIGHT
    width = pause / steps
    return sum((ended_by(found, age + (n + 0.5) * width) - ended_by(found, age)) / left * width for n in range(steps))


def ended_by(found: Measured, age: float) -> float:
    """Return the weight of the tasks that took no longer."""
    ended = 0.0
    for bucket, weight in found.times.items():
        start, end = (2 ** (bucket / 4) if bucket else 0.0), 2 ** ((bucket + 1) / 4)
        ended += weight * min(max((age - start) / (end - start), 0.0), 1.0)
    return ended


def test_before_anything_usually_ends_the_pause_reaches_there_and_then_it_is_short() -> None:
    found = of(*[100.0] * 30)
    assert 90 <= found.pause(0.0, PRICE) <= 110
    assert found.pause(0.0, PRICE) == pytest.approx(found.pause(50.0, PRICE) + 50)
    assert found.pause(100.0, PRICE) < 15


def test_one_task_that_took_very_long_moves_no_plan_of_the_others() -> None:
    usual = of(*[40.0] * 40)
    odd = usual.add(7000.0, awaited=True, arrived=True)
    assert odd.quantile(0.95) == pytest.approx(usual.quantile(0.95), rel=0.02)
    assert odd.pause(0.0, PRICE) == pytest.approx(usual.pause(0.0, PRICE), rel=0.02)


def test_the_first_quick_task_after_slow_ones_shortens_the_wait_at_once() -> None:
    """After an outage whose length was measured: nobody waits for half an hour again."""
    slow = of(*[1800.0] * 64)
    found = slow.add(40.0, awaited=True, arrived=True)
    assert slow.pause(0.0, PRICE) > 1500
    assert found.pause(0.0, PRICE) < 400
