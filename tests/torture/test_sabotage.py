"""The breakages fit the sources as they stand; `scripts/torture --sabotage` shows that each is seen."""

import shutil

import pytest

from tests.torture.harness import ROOT
from tests.torture.sabotage import Breakage, applies, breakages


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("breakage", breakages(), ids=lambda breakage: breakage.name)
def test_a_breakage_applies_and_names_a_test_that_exists(breakage: Breakage) -> None:
    tried = applies(breakage)
    assert tried.returncode == 0, tried.stderr
    file, _, name = breakage.test.partition("::")
    assert f"def {name.partition('[')[0]}(" in (ROOT / file).read_text()
