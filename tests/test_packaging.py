"""The package: one version everywhere, and the same checks before a commit as in CI."""

import asyncio
import json
import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from unittest.mock import Mock

import pytest
from typer.testing import CliRunner

from receiver.cli.commands import cli
from receiver.outbound.client import USER_AGENT
from receiver.web.api.openapi import openapi

ROOT = Path(__file__).parent.parent
PAGES = [*(ROOT / "docs" / "decisions").glob("*.md"), ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
TESTS = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_package_command_user_agent_and_openapi_have_the_declared_version() -> None:
    assert version("receiver") == DECLARED, "run scripts/setup again"
    assert CliRunner().invoke(cli, ["--version"]).output == f"receiver {DECLARED}\n"
    assert f"receiver/{DECLARED}" == USER_AGENT
    assert json.loads(bytes(asyncio.run(openapi(Mock())).body))["info"]["version"] == DECLARED


def test_pre_commit_runs_what_the_check_script_runs() -> None:
    script = re.findall(r"^\.venv/bin/.+$", (ROOT / "scripts" / "check").read_text(), re.MULTILINE)
    hooks = re.findall(r"entry: (.+)$", (ROOT / ".pre-commit-config.yaml").read_text(), re.MULTILINE)
    assert script == hooks


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_only_tests_scripts_and_rows_that_exist(page: Path) -> None:
    text = page.read_text()
    for path in re.findall(r"`((?:tests|scripts|docs|receiver)/[\w./-]*)", text):
        assert (ROOT / path).exists(), path
    named = set(re.findall(r"\b[A-I]\d+\b", text.partition("**Tests.**")[2]))
    assert named <= set(re.findall(r'mark\.row\("([A-I]\d+)"\)', TESTS))
