"""What an examination finds: a verdict, what was looked at, what was seen, and the remedy. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How something stands, from the best to the worst."""

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what is not ok comes with its remedy."""

    verdict: Verdict
    subject: str
    words: str
    remedy: str | None = None


def ok(subject: str, words: str) -> Finding:
    """Nothing is to do."""
    return Finding(Verdict.OK, subject, words)


def skipped(subject: str, words: str) -> Finding:
    """It was not looked at, for this reason."""
    return Finding(Verdict.SKIPPED, subject, words)


def warning(subject: str, words: str, remedy: str) -> Finding:
    """It works, but not as it should, or not for long."""
    return Finding(Verdict.WARNING, subject, words, remedy)


def wrong(subject: str, words: str, remedy: str) -> Finding:
    """It does not work, or will lose something."""
    return Finding(Verdict.WRONG, subject, words, remedy)


@dataclass(frozen=True, slots=True)
class Report:
    """All findings in order; `usable` is whether there is a database that this release can work with."""

    findings: Sequence[Finding]
    usable: bool = True

    @property
    def worst(self) -> Verdict:
        """The worst verdict of all."""
        order = list(Verdict)
        return max((finding.verdict for finding in self.findings), key=order.index, default=Verdict.OK)


def amount(seconds: float) -> str:
    """Say a time span in its largest fitting unit."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"
