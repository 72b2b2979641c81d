"""Pauses grow, are capped, vary, and never put anything off beyond its deadline."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.config.settings import Settings
from receiver.lifecycle.schedule import JITTER, Schedule, delay
from receiver.providers import CONFIG_TYPES

SECONDS = st.floats(0.001, 30 * 86400, allow_nan=False)
CHANCES = st.floats(0, 1, allow_nan=False)
GAPS = st.integers(0, 10**6)
TIMES = st.integers(0, 2**42)
EPS = 1e-9


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
        assert made.next_try(now, departed, gaps, chance, asked) <= made.due(departed)
    for callback in (True, False):
        assert made.first_check(now, departed, callback=callback) <= made.due(departed)
    assert made.due(departed) == departed + 7_200_000


def test_what_the_provider_asks_for_wins_over_our_own_pause() -> None:
    made = schedule()
    assert made.next_try(1000, 0, 9, 0.9, asked=2.5) == 3500
    assert made.next_try(1000, 0, 0, 0.5) == 11_000


def test_the_first_check_counts_from_the_setting_the_advice_or_thirty_seconds() -> None:
    def first(advice: float | None, *, callback: bool, **environ: Any) -> int:
        settings = Settings.load({"REVID_API_KEY": "a-key", **environ}, CONFIG_TYPES)
        return Schedule.of(settings, advice).first_check(0, 0, callback=callback)

    assert first(None, callback=False) == 30_000
    assert first(180.0, callback=False) == 180_000
    assert first(180.0, callback=False, RECEIVER_POLL_AFTER="7.5") == 7_500
    assert first(180.0, callback=True) == 300_000
    assert first(180.0, callback=True, RECEIVER_CALLBACK_GRACE="1") == 1_000
    assert first(180.0, callback=True, RECEIVER_DEADLINE="60") == 60_000
