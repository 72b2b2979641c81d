"""What an examination finds: a verdict, the subject, a message, and the remedy. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """The verdicts, from the best to the worst."""

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; a warning or an error has a remedy."""

    verdict: Verdict
    subject: str
    message: str
    remedy: str | None = None


def ok(subject: str, message: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(Verdict.OK, subject, message)


def skipped(subject: str, message: str) -> Finding:
    """Return a finding that something was not examined, and why."""
    return Finding(Verdict.SKIPPED, subject, message)


def warning(subject: str, message: str, remedy: str) -> Finding:
    """Return a finding about what works, but not as it should, or not for long."""
    return Finding(Verdict.WARNING, subject, message, remedy)


def wrong(subject: str, message: str, remedy: str) -> Finding:
    """Return a finding about what does not work, or will lose data."""
    return Finding(Verdict.WRONG, subject, message, remedy)


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


def format_seconds(seconds: float) -> str:
    """Return a duration in the largest unit of which there are at least two."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"
