"""What every row is handed: its size, its seed, a place for its figures, other people's test inputs."""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

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
            self.record(name, round(value, 3) if isinstance(value, float) else value)


def corpus(name: str) -> Path:
    """Find a folder of other people's test inputs; skips the test, saying so, where it is missing."""
    place = Path(os.environ.get(CORPORA, ROOT / ".." / "shared" / "corpora")).resolve()
    if not (place / name).is_dir():
        pytest.skip(f"no corpus {name}: set {CORPORA} to the folder that holds it")
    return place / name
