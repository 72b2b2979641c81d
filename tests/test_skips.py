"""Every test that is skipped says how to run it."""

import re
from pathlib import Path

import pytest

from tests.skips import IMPOSSIBLE, PACKAGES, remedy, summary

HERE = Path(__file__).parent
CI = (HERE.parent / ".ci" / "run").read_text()


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("SKIPPED, NOT TESTED: PostgreSQL is not installed", "apt-get install postgresql"),
        ("nginx is not installed: apt-get install nginx", "apt-get install nginx-light"),
        ("SKIPPED, NOT TESTED: no C compiler for Linux", "apt-get install gcc libc6-dev"),
        ("only at full size: nginx takes its time", "scripts/torture"),
        ("no corpus svix: set TORTURE_CORPORA to the folder that holds it", "set TORTURE_CORPORA"),
        ("only root can mount a file system", "run the tests as root"),
        ("this machine knows no IPv6", IMPOSSIBLE),
    ],
)
def test_a_reason_has_its_remedy(reason: str, words: str) -> None:
    assert remedy(reason).startswith(words)


def test_every_missing_tool_has_a_remedy() -> None:
    sources = "".join(path.read_text() for path in HERE.rglob("*.py") if path != Path(__file__))
    reasons = re.findall(r'(?:skip\(|reason=)"((?:SKIPPED, NOT TESTED: )?[\w-]+ is not installed[^"]*)"', sources)
    assert len(reasons) > 10
    assert [reason for reason in reasons if remedy(reason) == IMPOSSIBLE] == []


def test_ci_installs_packages_that_the_remedies_name() -> None:
    packages = re.findall(r"\bmissing\+=\((\w+)\)", CI)
    packages += [each.rpartition(":")[2] for each in re.findall(r"^for tool in (.+); do$", CI, re.MULTILINE)[0].split()]
    assert len(packages) > 5
    assert set(packages) <= set(PACKAGES.values())


def test_the_summary_counts_tests_by_reason() -> None:
    lines = summary(["Skipped: nginx is not installed"] * 2 + ["Skipped: SKIPPED, NOT TESTED: this system has no fork"])
    assert lines == [
        "Skipped tests: 3. To run them:",
        "    2  apt-get install nginx-light  (nginx is not installed)",
        "    1  cannot run on this machine  (this system has no fork)",
    ]
    assert summary([]) == ["Skipped tests: none."]
