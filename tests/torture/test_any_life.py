"""Whatever happens to tasks in whatever order, nothing is lost, bought twice, undone or forgotten."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.torture.harness import Torture
from tests.torture.lives import Lives


@pytest.mark.row("B10")
def test_whatever_happens_in_whatever_order_the_promises_hold(
    torture: Torture, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    examples, steps, seen = torture.size(12, 200), torture.size(20, 100), Counter[str]()
    machine = type("Machine", (Lives,), {"directory": tmp_path, "factory": tmp_path_factory, "seen": seen})
    how = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate] if not torture.full else [Phase.generate, Phase.shrink],
    )
    run_state_machine_as_test(seed(torture.seed)(machine), settings=how)
    torture.figures(seed=torture.seed, examples=examples, steps=steps, **{name: seen[name] for name in sorted(seen)})
    assert {"applied", "crash"} <= set(seen), "it tried too little"
    assert len(seen) > 4, "it tried too little"
