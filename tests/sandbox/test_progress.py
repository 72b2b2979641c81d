"""How the work goes on with time."""

import pytest

from receiver.sandbox.options import Options
from receiver.sandbox.progress import Phase, Progress, progress_at


@pytest.mark.parametrize(
    ("seconds", "phase"),
    [(0, Phase.WAITING), (0.9, Phase.WAITING), (1, Phase.RUNNING), (2.9, Phase.RUNNING), (3, Phase.SUCCEEDED)],
)
def test_work_waits_a_third_of_its_time_then_runs_to_the_end(seconds: float, phase: Phase) -> None:
    assert progress_at(1000.0, Options(after=3), 1000.0 + seconds).phase is phase


def test_work_ordered_to_fail_fails_at_the_end_and_not_before() -> None:
    options = Options.parse("[sandbox: result=fail after=3]")
    assert progress_at(1000.0, options, 1002.0).phase is Phase.RUNNING
    assert progress_at(1000.0, options, 1003.0) == Progress(
        Phase.FAILED, started_at=1001.0, finished_at=1003.0, share=1.0
    )


def test_the_end_stays_where_it_is_however_late_one_asks() -> None:
    assert progress_at(1000.0, Options(after=3), 9999.0) == Progress(Phase.SUCCEEDED, 1001.0, 1003.0, 1.0)


def test_an_early_callback_means_that_the_work_is_done_at_once() -> None:
    assert progress_at(1000.0, Options.parse("[sandbox: callback=early after=60]"), 1000.0).phase is Phase.SUCCEEDED


def test_work_that_takes_no_time_is_done_at_once() -> None:
    assert progress_at(1000.0, Options(after=0), 1000.0).phase is Phase.SUCCEEDED
