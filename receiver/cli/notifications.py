"""The command about messages to the user's application. It works on the database directly, beside a running service."""

from typing import Annotated

import typer
from rich.text import Text

from receiver.cli import terminal
from receiver.cli.commands import cli
from receiver.cli.completion import complete_task_ids
from receiver.cli.runtime import print_result, run
from receiver.cli.tasks import JsonFlag
from receiver.core.errors import Fault, Invalid
from receiver.notifications.resending import (
    NotificationDocument,
    list_notifications,
    send_again,
    show_notification,
)
from receiver.services import Services
from receiver.store.notifications import DELIVERED, STATES, MessageFilter


@cli.command("notifications")
def notifications(
    state: Annotated[str | None, typer.Option(help=f"only those that are {', '.join(STATES)}")] = None,
    task: Annotated[str | None, typer.Option(help="only those of this task", autocompletion=complete_task_ids)] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="how many at most")] = 50,
    send: Annotated[str | None, typer.Option("--send", metavar="ID", help="send this one again now")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List messages to your application, newest first, or send one again."""
    if state is not None and state not in STATES:
        raise Invalid([Fault(("state",), f"must be one of: {', '.join(STATES)}")])
    if send is not None:
        _send(send, as_json=as_json)
        return
    found, following = run(lambda services: list_notifications(services, MessageFilter(state, task, limit=limit)))
    shown = terminal.notification_table(found) if found else Text("no notifications")
    print_result({"notifications": found, "next": following}, shown, as_json=as_json)


def _send(webhook_id: str, *, as_json: bool) -> None:
    """Send a message again and print it; exit with 1 if it was not delivered."""

    async def work(services: Services) -> NotificationDocument:
        await send_again(services, webhook_id)
        return await show_notification(services, webhook_id)

    sent = run(work)
    print_result(sent, terminal.notification_table([sent]), as_json=as_json)
    if sent["state"] != DELIVERED:
        raise typer.Exit(1)
