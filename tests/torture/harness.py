"""What every row is handed: its size, its seed, a place for its figures, other people's test inputs."""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.measuring import Duration, slowness

ROOT = Path(__file__).parents[2]
FULL, SEED, CORPORA = "TORTURE_FULL", "TORTURE_SEED", "TORTURE_CORPORA"
FIRST_SEED = 20_261_120


@dataclass(frozen=True)
class Torture:
    """How hard this run is, and what a row found out."""

    full: bool
    seed: int
    record: Callable[[str, object], None]

    @classmethod
    def of(cls, record: Callable[[str, object], None]) -> "Torture":
        """Read size and seed from the environment."""
        return cls(os.environ.get(FULL) == "1", int(os.environ.get(SEED, FIRST_SEED)), record)

    @property
    def random(self) -> random.Random:
        """A source of chance that begins with the seed each time it is taken."""
        return random.Random(self.seed)  # noqa: S311 - chance that can be repeated, not a secret

    def size(self, bounded: int, full: int) -> int:
        """Pick how much of something this run does."""
        return full if self.full else bounded

    def figures(self, **figures: object) -> None:
        """Note what was counted or measured; `scripts/torture` prints it."""
        for name, value in figures.items():
            number = value.figure() if isinstance(value, Duration) else value
            self.record(name, round(number, 3) if isinstance(number, float) else number)

    def within(self, took: Duration, *limits: float | Duration) -> None:
        """Hold what something took to the greatest of these limits, in seconds, at the full size; elsewhere to none.

        Where the machine is busy with something else, all of it takes longer by as much as a piece of work does now.
        """
        if not self.full:
            return
        limit = max(each.figure() if isinstance(each, Duration) else each for each in limits)
        slower = slowness()
        assert took.figure() <= limit * slower, (
            f"{took.figure():.3f} s, not {limit:.3f} on a machine {slower:.1f} x slower"
        )


def corpus(name: str) -> Path:
    """Find a folder of other people's test inputs; skips the test, saying so, where it is missing."""
    place = Path(os.environ.get(CORPORA, ROOT / ".." / "shared" / "corpora")).resolve()
    if not (place / name).is_dir():
        pytest.skip(f"no corpus {name}: set {CORPORA} to the folder that holds it")
    return place / name
