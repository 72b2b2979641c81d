"""`receiver attention`: what a person should look at. It works on the database directly, beside a running service."""

from typing import Annotated

import typer

from receiver.cli import terminal
from receiver.cli.commands import cli
from receiver.cli.completion import complete_task_ids
from receiver.cli.runtime import print_result, run
from receiver.cli.tasks import JsonFlag, act_on_tasks
from receiver.documents import Document, attention_document
from receiver.services import Services
from receiver.tasks.batch import Action, Batch


@cli.command("attention")
def show_attention(
    task_ids: Annotated[
        list[str] | None,
        typer.Argument(help="with --acknowledge: ids of tasks, tsk_...", autocompletion=complete_task_ids),
    ] = None,
    acknowledge: Annotated[
        bool, typer.Option("--acknowledge", help="take these tasks off the list until something new happens to them")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=200, help="how many at most")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List the tasks that you should look at, most costly first; the exit code is 1 if there are any."""
    if acknowledge is not bool(task_ids):
        raise typer.BadParameter("Give --acknowledge together with the ids of tasks, or neither.")
    if task_ids:
        act_on_tasks(Batch(Action.ACKNOWLEDGE, task_ids), as_json=as_json)
        return

    async def work(services: Services) -> Document:
        return await services.store.read(lambda session: attention_document(services, session, limit))

    found = run(work)
    print_result(found, terminal.attention_table(found), as_json=as_json)
    if found["items"]:
        raise typer.Exit(1)
