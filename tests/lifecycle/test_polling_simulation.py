"""Knowing what is usual saves requests and time: a small size of the simulation, and the table of the docs."""

from pathlib import Path

import pytest

from tests.bench.polling import KINDS, RULES, TASKS, Figures, figures, measure, run, table
from tests.torture.harness import Torture

PAGE = Path(__file__).parents[2] / "docs" / "concepts" / "polling.md"
SMALL = 80
"""Tasks of each model."""


@pytest.fixture(scope="module")
def found() -> dict[str, list[Figures]]:
    return dict(measure(SMALL))


def test_it_asks_less_than_both_and_knows_no_later_than_before(found: dict[str, list[Figures]]) -> None:
    often, before, now = found["all together"]
    assert now.requests < before.requests < often.requests
    for name, (_, unmeasured, knowing) in found.items():
        assert knowing.median <= unmeasured.median + 0.1, name
        assert knowing.p95 <= unmeasured.p95 + 0.1, name


def test_in_each_kind_of_traffic_it_asks_far_less_than_every_ten_seconds(found: dict[str, list[Figures]]) -> None:
    for name, (often, _, now) in found.items():
        assert now.requests <= often.requests / 3, name


def test_a_callback_that_does_not_come_costs_seconds_instead_of_minutes(found: dict[str, list[Figures]]) -> None:
    _, before, now = found["no callback comes"]
    assert before.median > 100
    assert now.median < 20


def test_it_is_the_same_each_time() -> None:
    traffic = KINDS[2]
    assert [figures(run(traffic, make(), 30)) for make in RULES] == [
        figures(run(traffic, make(), 30)) for make in RULES
    ]


def test_the_page_shows_what_the_simulation_prints(torture: Torture) -> None:
    """At full size all of it; in the suite that there is such a table, with a row for each kind of traffic."""
    text = PAGE.read_text()
    for traffic in KINDS:
        assert f"\n| {traffic.name} | " in text
    if torture.full:
        assert table(TASKS) in text
