"""Pauses grow, are capped, vary, follow what was measured, and never put anything off beyond its deadline."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.config.settings import Settings
from receiver.core.measured import Measured
from receiver.lifecycle.schedule import JITTER, Checked, Plan, Schedule, delay
from receiver.providers import CONFIG_TYPES

SECONDS = st.floats(0.001, 30 * 86400, allow_nan=False)
CHANCES = st.floats(0, 1, allow_nan=False)
GAPS = st.integers(0, 10**6)
TIMES = st.integers(0, 2**42)
EPS = 1e-9
NOTHING = Measured()


def habit(usual: float, *, missed: int = 0, tasks: int = 40) -> Measured:
    """A model whose tasks take about so long, and of whose last sixteen callbacks so many were missed."""
    found = Measured()
    for number in range(tasks):
        found = found.add(usual * (0.8 + 0.4 * number / tasks), awaited=False, arrived=False)
    return Measured(found.times, 16, 16 - missed)


@given(gaps=GAPS, first=SECONDS, longest=SECONDS, chance=CHANCES)
def test_a_pause_is_within_its_bounds(gaps: int, first: float, longest: float, chance: float) -> None:
    cap = max(first, longest)
    pause = delay(gaps, first, longest, chance)
    assert first * (1 - JITTER) * (1 - EPS) <= pause <= cap * (1 + JITTER) * (1 + EPS)


@given(gaps=GAPS, first=SECONDS, longest=SECONDS, chance=CHANCES)
def test_pauses_grow_until_their_cap(gaps: int, first: float, longest: float, chance: float) -> None:
    now, later = delay(gaps, first, longest, chance), delay(gaps + 1, first, longest, chance)
    assert later >= now
    if later < max(first, longest) * (1 - JITTER + 2 * JITTER * chance) * (1 - EPS):
        assert later > now


@given(first=SECONDS, longest=SECONDS)
def test_the_first_pause_is_the_one_that_is_set(first: float, longest: float) -> None:
    assert delay(0, first, longest, 0.5) == pytest.approx(first)


@given(first=SECONDS, longest=SECONDS)
def test_the_cap_is_reached(first: float, longest: float) -> None:
    assert delay(10**6, first, longest, 0.5) == pytest.approx(max(first, longest))


@given(gaps=GAPS, first=SECONDS, longest=SECONDS, low=CHANCES, high=CHANCES)
def test_chance_spreads_pauses(gaps: int, first: float, longest: float, low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert delay(gaps, first, longest, low) <= delay(gaps, first, longest, high)


def schedule(**environ: str) -> Schedule:
    return Schedule.of(Settings.load({"REVID_API_KEY": "a-key", **environ}, CONFIG_TYPES), None)


@given(now=TIMES, departed=TIMES, gaps=GAPS, asked=st.none() | st.floats(1, 3600))
def test_nothing_is_put_off_beyond_the_deadline(now: int, departed: int, gaps: int, asked: float | None) -> None:
    made = schedule()
    for chance in (0.0, 1.0):
        assert made.next_try(now, departed, gaps, chance, asked, why="Busy").at <= made.due(departed)
        for known in (NOTHING, habit(40), habit(4000)):
            for callback in (True, False):
                assert made.first_check(now, departed, known, callback=callback).at <= made.due(departed)
                checked = Checked(awaits_callback=callback, retry_after=asked)
                until = made.due(departed)
                plan = made.next_check(now, departed, until, measured=known, checked=checked, gaps=gaps, chance=chance)
                assert plan.at <= until
    assert made.due(departed) == departed + 7_200_000


def test_what_the_provider_asks_for_wins_over_our_own_pause() -> None:
    made = schedule()
    assert made.next_try(1000, 0, 9, 0.9, asked=2.5, why="Busy").at == 3500
    assert made.next_try(1000, 0, 0, 0.5, why="Busy").at == 11_000
    asked = Checked(failed=True, retry_after=2.5)
    for known in (NOTHING, habit(40)):
        plan = made.next_check(1000, 0, made.due(0), measured=known, checked=asked, gaps=9, chance=0.9)
        assert plan == Plan(3500, "The provider asked to wait 3 s.")


def test_the_first_check_counts_from_the_setting_the_advice_or_thirty_seconds() -> None:
    def first_of(advice: float | None, *, callback: bool, **environ: Any) -> int:
        settings = Settings.load({"REVID_API_KEY": "a-key", **environ}, CONFIG_TYPES)
        return Schedule.of(settings, advice).first_check(0, 0, NOTHING, callback=callback).at

    assert first_of(None, callback=False) == 30_000
    assert first_of(180.0, callback=False) == 180_000
    assert first_of(180.0, callback=False, RECEIVER_POLL_AFTER="7.5") == 7_500
    assert first_of(180.0, callback=True) == 300_000
    assert first_of(180.0, callback=True, RECEIVER_CALLBACK_GRACE="1") == 1_000
    assert first_of(180.0, callback=True, RECEIVER_DEADLINE="60") == 60_000


# --- what was measured decides


def first(known: Measured, *, callback: bool = False, advice: float | None = None, **environ: str) -> Plan:
    settings = Settings.load({"REVID_API_KEY": "a-key", **environ}, CONFIG_TYPES)
    return Schedule.of(settings, advice).first_check(0, 0, known, callback=callback)


def next_pause(known: Measured, age: float, *, callback: bool = False, gaps: int = 0, **environ: str) -> float:
    """The seconds to the next check of a task of this age that was still under way."""
    now, made = round(age * 1000), schedule(**environ)
    checked = Checked(awaits_callback=callback)
    plan = made.next_check(now, 0, made.due(0), measured=known, checked=checked, gaps=gaps, chance=0.5)
    return (plan.at - now) / 1000


def test_where_callbacks_arrive_the_check_waits_for_the_usual_time_and_a_margin() -> None:
    plan = first(habit(40), callback=True)
    assert plan == Plan(
        plan.at, "Callbacks of this model usually arrive after 40 s; checked at 1 min 19 s if none has come."
    )
    assert 40_000 * 1.5 < plan.at < 40_000 * 2.5


def test_where_callbacks_fail_to_arrive_it_does_not_wait_for_them() -> None:
    plan = first(habit(40, missed=12), callback=True)
    assert 32_000 <= plan.at <= 46_000
    assert plan.because.startswith("Only 4 of the latest 16 callbacks of this model came. Tasks of this model usually")


def test_without_a_callback_url_it_asks_around_the_usual_time() -> None:
    for usual in (10, 40, 400, 1800):
        plan = first(habit(usual), advice=180.0)
        assert 0.8 * usual * 1000 <= plan.at <= usual * 1000 + 5000
        assert plan.because.startswith("Tasks of this model usually end after")


def test_advice_counts_until_enough_is_measured() -> None:
    assert first(habit(40, tasks=19), advice=180.0) == Plan(180_000, "The provider advises a first check after 3 min.")
    assert first(habit(40, tasks=20), advice=180.0).at < 50_000
    assert first(habit(40, tasks=19), callback=True).at == 300_000


def test_settings_bound_what_was_measured() -> None:
    grace = first(habit(400), callback=True, RECEIVER_CALLBACK_GRACE="60")
    assert grace.at == 60_000
    assert "(RECEIVER_CALLBACK_GRACE)" in grace.because
    assert first(habit(400), callback=True).at > 300_000
    assert first(habit(400), callback=True, RECEIVER_CALLBACK_GRACE="300").at == 300_000, "set as it is by default"
    after = first(habit(400), RECEIVER_POLL_AFTER="60")
    assert after.at == 60_000
    assert "(RECEIVER_POLL_AFTER)" in after.because
    assert first(habit(40), RECEIVER_POLL_AFTER="60").at < 45_000, "a bound, not the time itself"
    assert next_pause(habit(400), 60, RECEIVER_POLL_MAX="50") == 50
    assert next_pause(habit(40), 40, RECEIVER_POLL_EVERY="25") == 25


def test_pauses_around_the_usual_time_are_short_and_grow_with_a_slow_task_s_age() -> None:
    known = habit(400)
    assert next_pause(known, 60) == 120
    assert 10 <= next_pause(known, 400) <= 40
    assert 5 <= next_pause(habit(40), 40) <= 15
    pauses = [next_pause(known, age) for age in (600, 800, 1200, 2400)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 120


def test_a_task_whose_callback_usually_comes_is_asked_about_rarely() -> None:
    known = habit(40)
    assert next_pause(known, 5, callback=True) >= 60, "somebody looked early"
    assert next_pause(known, 80, callback=True) >= 20
    assert next_pause(known, 80, callback=True) > next_pause(known, 40)


def test_a_check_without_an_answer_backs_off_however_much_was_measured() -> None:
    made, known = schedule(), habit(40)
    failed = Checked(failed=True)
    pauses = [
        made.next_check(40_000, 0, made.due(0), measured=known, checked=failed, gaps=gaps, chance=0.5).at - 40_000
        for gaps in range(8)
    ]
    assert pauses == [10_000, 16_000, 25_600, 40_960, 65_536, 104_858, 120_000, 120_000]
    assert made.grows(known, failed)
    assert not made.grows(known, Checked())


@given(usual=st.floats(1, 5000), slow=st.floats(1, 7000), number=st.integers(1, 3), callback=st.booleans())
def test_a_few_odd_tasks_put_the_check_of_another_off_by_little(
    *, usual: float, slow: float, number: int, callback: bool
) -> None:
    known = habit(usual)
    odd = known
    for _ in range(number):
        odd = odd.add(slow, awaited=False, arrived=False)
    before, after = (first(each, callback=callback).at for each in (known, odd))
    assert after <= max(2.5 * before, 310_000)


# --- the late watch


def test_the_late_watch_asks_in_growing_pauses_up_to_an_hour_and_ends() -> None:
    made = schedule(RECEIVER_LATE_WATCH="86400")
    now, ended, pauses = 0, 0, []
    while now < made.watched_until(ended):
        plan = made.late_check(now, ended, 0.5)
        pauses.append((plan.at - now) / 1000)
        now = plan.at
    assert pauses[:-1] == sorted(pauses[:-1])
    assert (pauses[0], max(pauses)) == (120, 3600)
    assert 30 <= len(pauses) <= 50
    assert now == 86_400_000


def test_the_late_watch_waits_as_long_as_the_provider_asks() -> None:
    made = schedule()
    assert made.late_check(0, 0, 0.5, retry_after=500.0).at == 500_000
