"""What the command line shows to people: tables and lines made of documents. The commands print them."""

import json
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from receiver.documents import Document, ErrorDocument, TaskDocument
from receiver.notifications.resending import NotificationDocument

STYLES = {
    "succeeded": "green",
    "failed": "red",
    "expired": "red",
    "unconfirmed": "bold yellow",
    "cancelled": "dim",
    "running": "cyan",
    "submitted": "cyan",
    "delivered": "green",
    "waiting": "cyan",
}


def style_state(word: str) -> Text:
    """Return a state in its colour."""
    return Text(word, STYLES.get(word, ""))


def to_one_line(text: str) -> str:
    """Return an untrusted text without control characters, which would move the cursor or start a line."""
    return "".join(character if character.isprintable() else " " for character in text)


def task_table(tasks: Iterable[TaskDocument]) -> Table:
    """Return tasks as a table, one a row."""
    task_id = Column("task", no_wrap=True, min_width=30)  # a cut id is useless
    table = Table(task_id, "state", "provider", "model", "created", "details", box=None, pad_edge=False)
    for task in tasks:
        table.add_row(
            task["id"],
            style_state(task["state"]),
            Text(task["provider"]),
            Text(to_one_line(task["model"])),
            (task["created_at"] or "")[:19],
            summarize(task),
        )
    return table


def change_line(task: TaskDocument, number: int) -> Text:
    """Return a change of a task in one line."""
    line = Text(f"{(task['updated_at'] or '')[11:19]} ", "dim")
    line.append_text(style_state(f"{task['state']:<12}")).append(f"{task['id']} {to_one_line(task['model'])}")
    return line.append(f" by {task['settled_by']}" if task["settled_by"] else "").append(f" #{number}", "dim")


def attention_table(found: Document) -> Table:
    """Return the attention list: a line for each task and reason, with what to do."""
    if not found["items"]:
        return Table("Nothing needs attention.", box=None, pad_edge=False)
    task_id = Column("task", no_wrap=True, min_width=30)
    table = Table(task_id, "reason", "credits", "since", "advice", box=None, pad_edge=False)
    for item in found["items"]:
        credits_ = item["task"]["credits"]
        known = next(
            (credits_[name] for name in ("charged", "reserved", "estimated") if credits_[name] is not None), ""
        )
        since = (item["since"] or "")[:19]
        table.add_row(item["task"]["id"], Text(item["reason"]), str(known), since, Text(item["advice"]))
    rest = sum(found["counts"].values()) - len(found["items"])
    if rest > 0:
        table.caption = f"{rest} more"
    return table


def summarize(task: TaskDocument) -> Text:
    """Return a task's result, or else its error, its progress or its latest notice."""
    if task["outputs"]:
        return Text(to_one_line(task["outputs"][0]["url"]))
    if task["error"]:
        return Text(to_one_line(_describe_error(task["error"])))
    if task["progress"] is not None:
        return Text(f"{task['progress']:.0%}")
    return Text(to_one_line(task["notices"][-1]) if task["notices"] else "")


def task_details(task: TaskDocument, events: list[Document]) -> Table:
    """Return all of one task, and its history."""
    table = Table("", "", box=None, show_header=False, pad_edge=False)
    for name, value in task.items():
        for line in _lines(name, value):
            table.add_row(Text(name, "dim"), style_state(task["state"]) if name == "state" else Text(to_one_line(line)))
    for event in events:
        table.add_row(Text(event["at"][:23], "dim"), Text(to_one_line(describe_event(event))))
    return table


def _lines(name: str, value: Any) -> list[str]:
    """Return a value of a task for people: a line for each item of a list, none for an empty value."""
    if value in (None, [], {}):
        return []
    match name:
        case "outputs":
            return [output["url"] for output in value]
        case "notices":
            return list(value)
        case "error":
            return [_describe_error(value)]
        case "credits" | "evidence":
            known = [f"{key} {_plain(each)}" for key, each in value.items() if each is not None]
            return [", ".join(known)] if known else []
    return [_plain(value)]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _describe_error(error: ErrorDocument) -> str:
    return f"{error['code']}: {error['message']}"


def describe_event(event: Document) -> str:
    """Return an event of the history in one line."""
    if event["kind"] == "move":
        why = f": {event['error']['message']}" if event.get("error") else ""
        return f"{event['from']} -> {event['to']} ({event['via']}){why}"
    if event["kind"] == "attempt":
        return f"attempt {event['number']}: {event['outcome'] or 'in progress'} {event.get('message') or ''}".rstrip()
    if event["kind"] == "delivery":
        return f"callback: {event['outcome']} (delivery {event['delivery']})"
    if event["kind"] == "check":
        return f"check: {event['outcome']} {event.get('message') or ''}".rstrip()
    return str(event.get("text", ""))


def provider_table(providers: Iterable[Document]) -> Table:
    """Return providers and their models with prices."""
    table = Table("provider", "configured", "model", "price", box=None, pad_edge=False)
    for provider in providers:
        for number, model in enumerate(provider["models"] or [{"id": "", "price": None}]):
            first = number == 0
            configured = "yes" if provider["configured"] else f"no: set {provider['family'].upper()}_API_KEY"
            table.add_row(
                provider["name"] if first else "", configured if first else "", model["id"], model["price"] or ""
            )
    return table


def stats_table(stats: Document) -> Table:
    """Return each account's tasks by state, and below them what it spent on each day (UTC)."""
    table = Table("provider", "day", "tasks", "credits", box=None, pad_edge=False)
    for provider, states in stats["tasks"].items():
        by_state = ", ".join(f"{number} {word}" for word, number in states.items())
        table.add_row(provider, "all", by_state, f"{stats['credits'][provider]['spent']} spent")
        for each in stats["spend"].get(provider, []):
            table.add_row("", each["day"], str(each["tasks"]), str(each["credits"]))
    return table


def delivery_table(deliveries: Iterable[Document]) -> Table:
    """Return callbacks that belong to no task, one a row."""
    table = Table("delivery", "received", "provider", "outcome", "remote id", box=None, pad_edge=False)
    for delivery in deliveries:
        remote_id = Text(to_one_line(delivery["remote_id"] or ""))
        received = delivery["received_at"][:19]
        table.add_row(str(delivery["delivery"]), received, delivery["provider"], delivery["outcome"], remote_id)
    return table


def notification_table(notifications: Iterable[NotificationDocument]) -> Table:
    """Return messages to the user's application, one a row, with what was wrong at the last try."""
    table = Table(Column("id", no_wrap=True, min_width=30), "type", "task", "state", "tries", "problem", box=None)
    table.pad_edge = False
    for one in notifications:
        problem = (one["tries"][-1]["problem"] if one["tries"] else None) or ""
        state = style_state(one["state"])
        table.add_row(one["id"], one["type"], one["task"], state, str(len(one["tries"])), Text(to_one_line(problem)))
    return table


class ProgressBars:
    """A line for each task on a terminal, with its state and progress; nothing in a pipe."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TextColumn("{task.fields[state]}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> "ProgressBars":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, task_id: str, state_word: str, share: float | None) -> None:
        """Show a task's state and progress; `share` is 0 to 1."""
        bar = self._bars.get(task_id)
        if bar is None:
            bar = self._bars[task_id] = self._progress.add_task(task_id, total=1.0, state="")
        self._progress.update(bar, completed=share or 0.0, state=state_word)
