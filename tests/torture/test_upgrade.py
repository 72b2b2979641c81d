"""Upgrades from every earlier release, killed on the way: the next start finishes them, and every row is as it was."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest
from alembic import command

from receiver.store import schema
from receiver.store.migrations import REVISIONS
from receiver.store.schema import HEAD
from tests.store.releases import as_of_today, columns_of, fill, rows_of, steps
from tests.store.rig import look, url_of
from tests.torture.harness import Torture

pytestmark = [
    pytest.mark.row("A10"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="SKIPPED, NOT TESTED: this system has no fork"),
]


@dataclass(frozen=True)
class Release:
    """A database of an earlier release, and what is in it."""

    revision: str
    file: Path
    shape: dict[str, list[str]]
    rows: dict[str, list[tuple[Any, ...]]]

    @classmethod
    def made(cls, directory: Path, revision: str, number: int) -> "Release":
        file = directory / f"{revision}.db"
        with steps(file) as config:
            command.upgrade(config, revision)
        fill(file, number)
        shape = columns_of(file)
        return cls(revision, file, shape, as_of_today(shape, rows_of(file, shape)))

    def assert_upgraded(self, file: Path) -> None:
        """Every row is as it was, in today's schema, and another run changes not a byte."""
        assert rows_of(file, self.shape) == self.rows
        assert look(file, "PRAGMA integrity_check") == [("ok",)]
        assert look(file, "PRAGMA foreign_key_check") == []
        before = hashlib.sha256(file.read_bytes()).hexdigest()
        assert schema.migrate(url_of(file)) == (HEAD, HEAD)
        assert hashlib.sha256(file.read_bytes()).hexdigest() == before


@pytest.fixture(params=REVISIONS[:-1])
def old(request: pytest.FixtureRequest, torture: Torture, tmp_path: Path) -> Release:
    return Release.made(tmp_path, request.param, torture.size(300, 10_000))


def test_an_upgrade_killed_between_any_two_statements_is_finished_by_the_next_start(
    torture: Torture, tmp_path: Path, old: Release
) -> None:
    number = torture.size(6, 10_000)
    kills = 0
    with upgrading(str(old.file), str(tmp_path), str(number), str(torture.seed)) as (told, go_on):
        for line in told:
            file, found, left = line.split()
            assert (found, left) == (old.revision, HEAD), "what was killed had changed nothing"
            old.assert_upgraded(Path(file))
            Path(file).unlink()
            kills += 1
            print(file=go_on, flush=True)
    assert kills >= 6
    torture.figures(**{f"kills_from_{old.revision}": kills, "rows_in_each_table": len(old.rows["task"])})


@contextmanager
def upgrading(*words: str) -> Iterator[tuple[IO[str], IO[str]]]:
    """Run the script that kills; gives what it tells and where it is told to go on."""
    command = [sys.executable, "-m", "tests.torture.upgrading", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as running:  # noqa: S603 - our own
        assert running.stdin is not None
        assert running.stdout is not None
        assert running.stderr is not None
        yield running.stdout, running.stdin
        assert running.wait() == 0, running.stderr.read()
