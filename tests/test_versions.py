"""What the service stands on is new enough: older versions have faults that our promises do not survive."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from receiver.store.engine import sqlite_module, wal_is_safe

ROOT = Path(__file__).parent.parent
FLOORS = {
    "starlette": "1.6",  # Host and path confusion, form limits; bodies with a limit
    "h11": "0.16",  # CVE-2025-43859: chunk terminators
    "python-multipart": "0.0.31",  # CVE-2026-53539 and -53540
    "httpx": "0.28.1",
    "uvicorn": "0.41",  # a SIGTERM ends the process without a traceback
    "pysqlite3": "0.6.1",  # the first wheel with SQLite 3.51.3 or later
}
"""The oldest version of each package that we may run on, and what is wrong with older ones."""


def required() -> dict[str, Requirement]:
    """What pyproject.toml asks for, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {one.name: one for one in map(Requirement, project["dependencies"])}


@pytest.mark.row("G9")
@pytest.mark.parametrize("name", FLOORS)
def test_no_installation_may_bring_an_older_version(name: str) -> None:
    floors = [Version(part.version) for part in required()[name].specifier if part.operator == ">="]
    assert floors
    assert max(floors) >= Version(FLOORS[name])


@pytest.mark.row("G9")
@pytest.mark.parametrize("name", FLOORS)
def test_what_is_installed_and_tested_is_new_enough(name: str) -> None:
    pinned = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert Version(pinned[name]) >= Version(FLOORS[name])
    try:
        installed = version(name)
    except PackageNotFoundError:
        pytest.skip(f"SKIPPED, NOT TESTED: there is no wheel of {name} for this machine")
    assert Version(installed) >= Version(FLOORS[name])


def test_packages_whose_private_parts_are_used_are_bounded_above() -> None:
    (tried,) = re.findall(r'^packages="(.+)"$', (ROOT / "scripts" / "bounds").read_text(), re.MULTILINE)
    bounded = {name for name, one in required().items() if any(part.operator == "<" for part in one.specifier)}
    assert bounded == set(tried.split())


@pytest.mark.row("G9")
def test_the_sqlite_in_use_is_free_of_the_fault_that_corrupts_databases() -> None:
    pytest.importorskip("pysqlite3", reason="SKIPPED, NOT TESTED: there is no wheel for this machine")
    assert sqlite_module().sqlite_version_info >= (3, 51, 3)
    assert wal_is_safe(sqlite_module().sqlite_version_info)


IMPORT_ALL = """
import importlib, pkgutil, receiver
for module in pkgutil.walk_packages(receiver.__path__, "receiver."):
    if not module.name.startswith(("receiver.__main__", "receiver.store.migrations.")):
        importlib.import_module(module.name)
"""


@pytest.mark.row("G9")
def test_every_module_loads_without_a_warning_and_without_assertions() -> None:
    command = [sys.executable, "-W", "error", "-O", "-c", IMPORT_ALL]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)  # noqa: S603 - our own script
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
