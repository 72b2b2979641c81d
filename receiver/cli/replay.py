"""`receiver replay`: reads stored callbacks again, one by its number, or all of them after showing the changes."""

import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from receiver.cli import terminal
from receiver.cli.commands import cli
from receiver.cli.runtime import print_message, print_result, run
from receiver.cli.tasks import JsonFlag
from receiver.core.messages import Outcome
from receiver.documents import Document, format_timestamp, replayed_document
from receiver.services import Services
from receiver.tasks.replay import replay
from receiver.tasks.rereading import Change, Snapshot, carry_out, preview

UNUSABLE = frozenset({Outcome.FORGED, Outcome.UNREADABLE, Outcome.UNMATCHED})
MAX_ID = 2**63 - 1
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@cli.command("replay")
def replay_stored(
    delivery: Annotated[
        int | None,
        typer.Argument(help="the delivery's number, shown by `receiver show TASK_ID`", min=1, max=MAX_ID),
    ] = None,
    replay_all: Annotated[bool, typer.Option("--all", help="replay all stored callbacks and answers")] = False,
    since: Annotated[
        str | None, typer.Option(help="with --all: start at a time (2026-11-20T12:00Z) or so long ago (2h, 7d)")
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", "--yes", help="with --all: apply the changes without asking")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Read a stored callback again, for example after its adapter or secret was fixed.

    The exit code is 1 if it still cannot be used. With --all, the whole history is read again; the changes are shown
    first.
    """
    if replay_all == (delivery is not None):
        raise typer.BadParameter("Give one delivery number, or --all.")
    if not replay_all and (since or apply):
        raise typer.BadParameter("--since and --apply only work with --all.")
    if delivery is not None:
        _replay_one(delivery, as_json=as_json)
    else:
        _replay_all(since, apply=apply, as_json=as_json)


def _replay_one(delivery: int, *, as_json: bool) -> None:
    async def work(services: Services) -> Document:
        return await replayed_document(services, await replay(services, delivery))

    result = run(work)
    about = f"task {result['task']} is {result['state']}" if result["task"] else "no task has the id that it names"
    print_result(
        result,
        f"delivery {result['delivery']}: {result['outcome']} (was {result['was']}); {about}",
        as_json=as_json,
    )
    if result["outcome"] in UNUSABLE:
        raise typer.Exit(1)


def _replay_all(since: str | None, *, apply: bool, as_json: bool) -> None:
    changes = run(lambda services: preview(services, parse_since(since, services.clock())))
    is_interactive = not apply and not as_json and sys.stdin.isatty() and sys.stdout.isatty()
    if not changes or not apply:
        _print_changes(changes, applied=False, as_json=as_json)
    if not changes:
        return
    if is_interactive:
        apply = typer.confirm(f"Apply {len(changes)} change{'s' if len(changes) != 1 else ''}?")
        as_json = False
    if apply:
        _print_changes(run(lambda services: carry_out(services, changes)), applied=True, as_json=as_json)
    elif not as_json:
        print_message("Nothing was changed. Add --apply to apply the changes.")


def parse_since(text: str | None, now: int) -> int:
    """Return a time, or how long ago it was, in Unix milliseconds; None means 0. Raises `typer.BadParameter`."""
    if text is None:
        return 0
    ago = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip())
    if ago:
        return now - int(ago[1]) * _UNITS[ago[2]] * 1000
    try:
        time = datetime.fromisoformat(text.strip())
        return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f'"{text}" is not a time; write 2026-11-20T12:00Z, or 2h, or 7d.') from None


def _print_changes(changes: list[Change], *, applied: bool, as_json: bool) -> None:
    documents = [_document(change) for change in changes]
    shown = _table(documents) if documents else "Replaying changes nothing."
    print_result({"changes": documents, "applied": applied}, shown, as_json=as_json)


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
            terminal.style_state(was.get("state", "")),
            terminal.style_state(becomes.get("state", "")),
            Text(terminal.to_one_line(_describe_change(was, becomes, asks=change["asks"]))),
            change["read"],
        )
    return table


def _describe_change(was: Document, becomes: Document, *, asks: bool) -> str:
    """Return in a few words what is new."""
    if asks:
        return "will be checked"
    for name, words in (("outputs", "+ {}"), ("remote_id", "id {}"), ("error", "{}")):
        if becomes.get(name) and becomes[name] != was.get(name):
            value = becomes[name]
            return words.format(" ".join(value) if isinstance(value, list | tuple) else value)
    return "+ a result" if becomes.get("has_result") and not was.get("has_result") else ""
