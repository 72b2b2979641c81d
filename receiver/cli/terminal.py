"""What the command line shows to people: tables and lines made of documents. The commands print them."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from receiver.documents import Document, TaskDocument

STYLES = {
    "succeeded": "green",
    "failed": "red",
    "expired": "red",
    "unconfirmed": "bold yellow",
    "cancelled": "dim",
    "running": "cyan",
    "submitted": "cyan",
}


def state(word: str) -> Text:
    """Show a state in its colour."""
    return Text(word, STYLES.get(word, ""))


def one_line(text: str) -> str:
    """Show a stranger's text: no control character of it may move the cursor or begin a line."""
    return "".join(character if character.isprintable() else " " for character in text)


def task_table(tasks: Iterable[TaskDocument]) -> Table:
    """Show tasks, one a row."""
    task_id = Column("task", no_wrap=True, min_width=30)  # half an id is of no use
    table = Table(task_id, "state", "provider", "model", "created", "what", box=None, pad_edge=False)
    for task in tasks:
        table.add_row(
            task["id"],
            state(task["state"]),
            Text(task["provider"]),
            Text(one_line(task["model"])),
            (task["created_at"] or "")[:19],
            what(task),
        )
    return table


def what(task: TaskDocument) -> Text:
    """Say in a few words how a task stands: its result, its error, its notice or its progress."""
    if task["outputs"]:
        return Text(one_line(task["outputs"][0]["url"]))
    if task["error"]:
        return Text(one_line(f"{task['error']['code']}: {task['error']['message']}"))
    if task["progress"] is not None:
        return Text(f"{task['progress']:.0%}")
    return Text(one_line(task["notices"][-1]) if task["notices"] else "")


def task_details(task: TaskDocument, events: list[Document]) -> Table:
    """Show all of one task, and what happened to it."""
    table = Table("", "", box=None, show_header=False, pad_edge=False)
    for name, value in task.items():
        if value not in (None, [], {}):
            table.add_row(Text(name, "dim"), state(task["state"]) if name == "state" else Text(one_line(_plain(value))))
    for event in events:
        table.add_row(Text(event["at"][:23], "dim"), Text(one_line(happening(event))))
    return table


def happening(event: Document) -> str:
    """Say in one line what happened."""
    if event["kind"] == "move":
        why = f": {event['error']['message']}" if event.get("error") else ""
        return f"{event['from']} -> {event['to']} ({event['via']}){why}"
    if event["kind"] == "attempt":
        return f"try {event['number']}: {event['outcome'] or 'on its way'} {event.get('message') or ''}".rstrip()
    if event["kind"] == "delivery":
        return f"callback: {event['outcome']} (delivery {event['delivery']})"
    if event["kind"] == "check":
        return f"asked: {event['outcome']} {event.get('message') or ''}".rstrip()
    return str(event.get("text", ""))


def provider_table(providers: Iterable[Document]) -> Table:
    """Show providers and their models with prices."""
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
    """Show each account's tasks by state, and below it what it spent on each day (UTC)."""
    table = Table("provider", "day", "tasks", "credits", box=None, pad_edge=False)
    for provider, states in stats["tasks"].items():
        told = ", ".join(f"{number} {word}" for word, number in states.items())
        table.add_row(provider, "all", told, f"{stats['credits'][provider]['spent']} spent")
        for each in stats["spend"].get(provider, []):
            table.add_row("", each["day"], str(each["tasks"]), str(each["credits"]))
    return table


def delivery_table(deliveries: Iterable[Document]) -> Table:
    """Show callbacks that no task has, one a row."""
    table = Table("delivery", "received", "provider", "outcome", "names", box=None, pad_edge=False)
    for delivery in deliveries:
        named = Text(one_line(delivery["remote_id"] or ""))
        received = delivery["received_at"][:19]
        table.add_row(str(delivery["delivery"]), received, delivery["provider"], delivery["outcome"], named)
    return table


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


class Bars:
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

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, task_id: str, state_word: str, share: float | None) -> None:
        """Show how a task stands; `share` is 0 to 1."""
        bar = self._bars.get(task_id)
        if bar is None:
            bar = self._bars[task_id] = self._progress.add_task(task_id, total=1.0, state="")
        self._progress.update(bar, completed=share or 0.0, state=state_word)
