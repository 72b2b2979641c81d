"""`scripts/torture`: runs the rows at their full size and prints what they found, or proves that they can fail."""

import argparse
import os
import sys

import pytest

from tests.torture import sabotage
from tests.torture.harness import FULL, SEED


def main() -> int:
    """Run what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/torture", description=__doc__)
    parser.add_argument("names", nargs="*", help="rows, such as A1 (with --sabotage: breakages); none means all")
    parser.add_argument("--bounded", action="store_true", help="run at the size that scripts/test runs")
    parser.add_argument("--seed", type=int, help="another seed than the usual one")
    parser.add_argument("--report", help="a file for one JSON line a test")
    parser.add_argument("--sabotage", action="store_true", help="break the service on purpose: a test must turn red")
    asked = parser.parse_args()
    if asked.sabotage:
        return sabotage.run(asked.names)
    if not asked.bounded:
        os.environ[FULL] = "1"
    if asked.seed is not None:
        os.environ[SEED] = str(asked.seed)
    report = ["--report", asked.report] if asked.report else []
    return pytest.main(["-p", "tests.torture.reporting", "-q", "--rows", ",".join(asked.names), *report])


if __name__ == "__main__":
    sys.exit(main())
