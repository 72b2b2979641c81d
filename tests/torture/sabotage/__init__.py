"""Deliberate breakages of the service: each must turn its named test red, or the test proves nothing.

A breakage is a patch beside this file. Its head says, before the diff, what it breaks and which test must see it:

    Row: A1
    Test: tests/torture/test_killed.py::test_...
"""

import operator
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.torture.harness import ROOT

HERE = Path(__file__).parent
COPIED = ("receiver", "tests", "scripts", "pyproject.toml", "constraints.txt", "README.md", "CHANGELOG.md", "Procfile")
SECONDS = 3600
AT_ONCE = 4
"""Many tests wait for a process."""
RED, GREEN = 1, 0
"""pytest's exit codes: something failed, and all passed. Any other says that nothing was tried."""


@dataclass(frozen=True)
class Breakage:
    """One patch with what its head says."""

    file: Path
    row: str
    test: str

    @property
    def name(self) -> str:
        return self.file.stem


def breakages() -> list[Breakage]:
    """Read the heads of all patches."""
    return [_read(file) for file in sorted(HERE.glob("*.patch"))]


def applies(breakage: Breakage) -> "subprocess.CompletedProcess[str]":
    """Try a patch on the sources as they stand, without changing them."""
    return _git(ROOT, "apply", "--check", str(breakage.file))


def run(names: Sequence[str]) -> int:
    """Show that each test is green, then that its breakage turns it red; returns 1 where one does not."""
    chosen = [breakage for breakage in breakages() if not names or breakage.name in names]
    unknown = set(names) - {breakage.name for breakage in chosen}
    if unknown:
        print("no such breakage:", ", ".join(sorted(unknown)), "- there are:", ", ".join(b.name for b in breakages()))
        return 2
    tests = {breakage.test: breakage for breakage in chosen}
    with ThreadPoolExecutor(AT_ONCE) as threads:
        shown = threads.map(lambda breakage: _shown(breakage, broken=False), tests.values())
        is_green = dict(zip(tests, shown, strict=True))
        broken = list(threads.map(lambda breakage: _shown(breakage, broken=True), chosen))
    whole = [is_green[breakage.test] for breakage in chosen]
    for breakage, green, red in zip(chosen, whole, broken, strict=True):
        if not green:
            print(f"{breakage.name}: {breakage.test} is not green unbroken")
        if not red:
            print(f"{breakage.name}: {breakage.test} does not see it")
    print(f"{sum(map(operator.and_, whole, broken))} of {len(chosen)} breakages turn their green test red")
    return 0 if all(whole) and all(broken) else 1


def _shown(breakage: Breakage, *, broken: bool) -> bool:
    """Run a breakage's test in a copy of the project, broken or not; tells whether it ended as it must."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        _copy_to(copy)
        if broken:
            _git(copy, "apply", str(breakage.file)).check_returncode()
        # Before the installed package, so that the service's own processes are broken, too.
        environ = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", breakage.test]
        ended = subprocess.run(  # noqa: S603 - our own tests
            words, cwd=copy, env=environ, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    wanted = RED if broken else GREEN
    print(
        f"{breakage.row:4} {breakage.name}: {'broken' if broken else 'whole'}: {_last_line(ended.stdout)}", flush=True
    )
    if ended.returncode not in (RED, GREEN):
        print(ended.stdout[-2000:], ended.stderr[-2000:])
    return ended.returncode == wanted


def _copy_to(copy: Path) -> None:
    for part in COPIED:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / part)


def _git(directory: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    # Outside of any repository, so that paths are from the directory and nothing is left out.
    environ = {**os.environ, "GIT_CEILING_DIRECTORIES": str(directory.parent)}
    return subprocess.run(  # noqa: S603 - our own patches
        ["git", *words],  # noqa: S607 - whichever git there is
        cwd=directory,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def _read(file: Path) -> Breakage:
    head = file.read_text().partition("\n--- ")[0]
    fields = dict(re.findall(r"^(Row|Test): (\S+)$", head, re.MULTILINE))
    return Breakage(file, fields["Row"], fields["Test"])


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip("= ") if lines else "nothing was said"
