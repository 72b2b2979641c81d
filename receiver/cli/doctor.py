"""The command that examines an installation and reports what is wrong."""

import asyncio

import typer
from rich.text import Text

from receiver.cli.commands import cli
from receiver.cli.runtime import find_service, print_result, read_settings
from receiver.cli.tasks import JsonFlag
from receiver.cli.terminal import to_one_line
from receiver.doctor import Finding, Report, Verdict, examine
from receiver.documents import Document

STYLES = {Verdict.OK: "green", Verdict.SKIPPED: "dim", Verdict.WARNING: "bold yellow", Verdict.WRONG: "bold red"}


@cli.command()
def doctor(as_json: JsonFlag = False) -> None:
    """Examine settings, disk, database, archive, poller, public URL, keys and clock: one line each, with a remedy."""
    report = asyncio.run(examine(find_service(read_settings())))
    print_result(_document(report), Text("\n").join(map(_line, report.findings)), as_json=as_json)
    if not report.usable:
        raise typer.Exit(2)
    if report.worst is Verdict.WRONG:
        raise typer.Exit(1)


def _document(report: Report) -> Document:
    found = [
        {"verdict": each.verdict.value, "subject": each.subject, "found": each.message, "remedy": each.remedy}
        for each in report.findings
    ]
    return {"worst": report.worst.value, "findings": found}


def _line(finding: Finding) -> Text:
    end = "" if finding.message.endswith((".", "?", "!")) else "."
    remedy = f"{end} Remedy: {finding.remedy}" if finding.remedy else ""
    line = Text().append(f"{finding.verdict.value:8}", STYLES[finding.verdict])
    return line.append(f" {finding.subject:16} {to_one_line(finding.message + remedy)}")
