"""`receiver replay`: reads stored callbacks again, one by its number or a whole history, which is shown before."""

import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from receiver.cli import terminal
from receiver.cli.runtime import cli, give, run, say
from receiver.cli.tasks import AsJson
from receiver.core.messages import Outcome
from receiver.documents import Document, format_timestamp, show
from receiver.services import Services
from receiver.tasks.replay import replay
from receiver.tasks.rereading import Change, Snapshot, carry_out, preview

NO_USE = frozenset({Outcome.FORGED, Outcome.UNREADABLE, Outcome.UNMATCHED})
MAX_ID = 2**63 - 1
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@cli.command("replay")
def replay_stored(
    delivery: Annotated[
        int | None,
        typer.Argument(help="its number, as `receiver show TASK_ID` gives it", min=1, max=MAX_ID),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="read all stored callbacks and answers again")] = False,
    since: Annotated[
        str | None, typer.Option(help="with --all: from when on, a time (2026-11-20T12:00Z) or how long ago (2h, 7d)")
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", "--yes", help="with --all: do it without asking")] = False,
    as_json: AsJson = False,
) -> None:
    """Read a stored callback again, say after its adapter or secret was mended; exit code 1 if that was of no use.

    With --all the whole history is read again; what that would change is shown before it is done.
    """
    if every == (delivery is not None):
        raise typer.BadParameter("Name one delivery, or give --all.")
    if not every and (since or apply):
        raise typer.BadParameter("--since and --apply go with --all.")
    if delivery is not None:
        _replay_one(delivery, as_json=as_json)
    else:
        _replay_all(since, apply=apply, as_json=as_json)


def _replay_one(delivery: int, *, as_json: bool) -> None:
    async def work(services: Services) -> Document:
        found = await replay(services, delivery)
        task = await show(services, found.task_id) if found.task_id else None
        return {
            "delivery": found.delivery,
            "was": found.was.value,
            "outcome": found.outcome.value,
            "task": found.task_id,
            "state": task["state"] if task else None,
        }

    told = run(work)
    about = f"task {told['task']} is {told['state']}" if told["task"] else "no task of ours has the id that it names"
    give(told, f"delivery {told['delivery']}, {told['was']} when it came: {told['outcome']}; {about}", as_json=as_json)
    if told["outcome"] in NO_USE:
        raise typer.Exit(1)


def _replay_all(since: str | None, *, apply: bool, as_json: bool) -> None:
    changes = run(lambda services: preview(services, parse_since(since, services.clock())))
    asked = not apply and not as_json and bool(changes) and sys.stdin.isatty() and sys.stdout.isatty()
    if not changes or not apply:
        _give(changes, applied=False, as_json=as_json)
    if not changes:
        return
    if asked:
        apply = typer.confirm(f"Change {len(changes)} tasks?")
        as_json = False
    if apply:
        _give(run(lambda services: carry_out(services, changes)), applied=True, as_json=as_json)
    elif not as_json:
        say("Nothing was changed. Add --apply to do it.")


def parse_since(text: str | None, now: int) -> int:
    """Read a time, or how long ago, as Unix milliseconds; none is the beginning. Raises `typer.BadParameter`."""
    if text is None:
        return 0
    ago = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip())
    if ago:
        return now - int(ago[1]) * _UNITS[ago[2]] * 1000
    try:
        time = datetime.fromisoformat(text.strip())
        return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f'"{text}" is no time; write 2026-11-20T12:00Z, or 2h, or 7d.') from None


def _give(changes: list[Change], *, applied: bool, as_json: bool) -> None:
    documents = [_document(change) for change in changes]
    shown = _table(documents) if documents else "Reading it again changes nothing."
    give({"changes": documents, "applied": applied}, shown, as_json=as_json)


def _document(change: Change) -> Document:
    return {
        "task": change.task_id,
        "read": f"{change.heard.kind} {change.heard.id}",
        "at": format_timestamp(change.heard.at) if change.heard.at else None,
        "from": _standing(change.before),
        "to": _standing(change.after),
        "asks": change.asks,
    }


def _standing(standing: Snapshot | None) -> Document | None:
    return None if standing is None else {**asdict(standing), "state": standing.state.value}


def _table(changes: list[Document]) -> Table:
    table = Table("task", "from", "to", "what", "read again", box=None, pad_edge=False)
    for change in changes:
        was, becomes = change["from"] or {}, change["to"] or {}
        table.add_row(
            change["task"],
            terminal.state(was.get("state", "")),
            terminal.state(becomes.get("state", "")),
            Text(terminal.one_line(_what(was, becomes, asks=change["asks"]))),
            change["read"],
        )
    return table


def _what(was: Document, becomes: Document, *, asks: bool) -> str:
    """Say in a few words what is new."""
    if asks:
        return "the provider is asked"
    for name, words in (("outputs", "+ {}"), ("remote_id", "id {}"), ("error", "{}")):
        if becomes.get(name) and becomes[name] != was.get(name):
            value = becomes[name]
            return words.format(" ".join(value) if isinstance(value, list | tuple) else value)
    return "+ a result" if becomes.get("has_result") and not was.get("has_result") else ""
