"""Says at the end of a test run what was skipped and how to run it."""

import re
from collections import Counter
from collections.abc import Iterable

PACKAGES = {
    "C compiler": "gcc libc6-dev",
    "PostgreSQL": "postgresql",
    "bash": "bash",
    "caddy": "caddy",
    "chromium": "chromium",
    "curl": "curl",
    "eatmydata": "eatmydata",
    "git": "git",
    "libfiu": "fiu-utils",
    "nginx": "nginx-light",
    "openssl": "openssl",
    "setpriv": "util-linux",
    "sqlmap": "sqlmap",
    "strace": "strace",
    "systemd-analyze": "systemd",
    "wapiti": "wapiti",
}
"""The Debian package of each tool that a skip reason names."""
REMEDIES = {
    r"full size": "scripts/torture",
    r"no corpus": "set TORTURE_CORPORA to the folder with the test inputs",
    r"\bonly root\b|\bas root\b|for root": "run the tests as root",
    r"PyYAML|schemathesis is not installed": "scripts/setup test",
}
"""What to do about the other reasons, by a pattern in them."""
IMPOSSIBLE = "cannot run on this machine"


def remedy(reason: str) -> str:
    """Return what makes a test run that was skipped for this reason."""
    for pattern, words in REMEDIES.items():
        if re.search(pattern, reason):
            return words
    if re.search(r"not installed|\bno C compiler|\bno PostgreSQL", reason):
        for tool, package in PACKAGES.items():
            if re.search(rf"\b{re.escape(tool)}\b", reason):
                return f"apt-get install {package}"
    return IMPOSSIBLE


def summary(reasons: Iterable[str]) -> list[str]:
    """Return one line for each remedy, with the number of tests that it lets run and why they were skipped."""
    plain = [re.sub(r"^(Skipped: )?(SKIPPED, NOT TESTED: )?", "", reason) for reason in reasons]
    counted = Counter((remedy(reason), reason) for reason in plain)
    lines = [f"{number:5}  {words}  ({reason})" for (words, reason), number in sorted(counted.items())]
    return [f"Skipped tests: {len(plain)}. To run them:", *lines] if lines else ["Skipped tests: none."]
