"""A pytest plugin for `scripts/torture`: picks rows, prints a table of what they found, keeps it as JSON lines."""

import json
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from receiver.store.engine import sqlite_module
from tests.torture.harness import Torture


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("torture")
    group.addoption("--rows", default="", help="only these rows, separated by commas")
    group.addoption("--report", default=None, help="a file for one JSON line a row")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Report(config.getoption("--report")), "torture-report")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = set(filter(None, config.getoption("--rows").split(",")))
    kept = []
    for item in items:
        rows = [mark.args[0] for mark in item.iter_markers("row")]
        if rows and (not wanted or wanted & set(rows)):
            item.user_properties.append(("row", " ".join(sorted(rows))))
            kept.append(item)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


class Report:
    """Collects how each row ended."""

    def __init__(self, file: str | None) -> None:
        self._file = Path(file) if file else None
        self._lines: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and not (report.when == "setup" and report.outcome != "passed"):
            return
        found = dict(report.user_properties)
        row = found.pop("row")
        line = {
            "row": row,
            "test": report.nodeid,
            "verdict": report.outcome,
            "seconds": round(report.duration, 2),
            "figures": found,
        }
        self._lines.append(line)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.section("torture")
        for text in (*about_this_run(), *table(self._lines)):
            terminalreporter.write_line(text)
        if self._file is not None:
            self._file.write_text("".join(json.dumps(line) + "\n" for line in self._lines))


def about_this_run() -> list[str]:
    """Say what figures depend on."""
    run = Torture.of(lambda _name, _value: None)
    versions = f"Python {platform.python_version()} · SQLite {sqlite_module().sqlite_version}"
    size = "full" if run.full else "bounded"
    return [f"{datetime.now(UTC):%Y-%m-%d} · {versions} · {size} size · seed {run.seed}"]


def table(lines: Sequence[dict[str, Any]]) -> list[str]:
    """Write one line for each row: its tests, how they ended, and their figures."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for line in sorted(lines, key=lambda line: str(line["row"])):
        rows.setdefault(line["row"], []).append(line)
    return [_row(row, tests) for row, tests in rows.items()]


def _row(row: str, tests: list[dict[str, Any]]) -> str:
    verdicts = [str(test["verdict"]) for test in tests]
    counted = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in sorted(set(verdicts)))
    figures = [f"{name} {value}" for test in tests for name, value in test["figures"].items()]
    seconds = sum(test["seconds"] for test in tests)
    return f"{row:8} {counted} in {seconds:.1f} s" + "".join(f" · {figure}" for figure in dict.fromkeys(figures))
