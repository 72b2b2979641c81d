"""Commands about callbacks that were received. They work on the database directly, beside a running service."""

from typing import Annotated

import typer

from receiver.cli import terminal
from receiver.cli.frame import cli, give, run
from receiver.cli.tasks import AsJson
from receiver.documents import Document, homeless_document
from receiver.messages import Outcome
from receiver.replay import replay
from receiver.services import Services
from receiver.store import reading
from receiver.web.api import show

NO_USE = frozenset({Outcome.FORGED, Outcome.UNREADABLE, Outcome.UNMATCHED})
MAX_ID = 2**63 - 1


@cli.command("deliveries")
def list_deliveries(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="how many at most")] = 50, as_json: AsJson = False
) -> None:
    """List the latest callbacks to whole accounts that no task has (yet); `replay` takes their numbers."""
    stored = run(lambda services: services.store.read(lambda session: reading.homeless_deliveries(session, limit)))
    listed = [homeless_document(delivery) for delivery in stored]
    give({"deliveries": listed}, terminal.delivery_table(listed), as_json=as_json)


@cli.command("replay")
def replay_delivery(
    delivery: Annotated[int, typer.Argument(help="its number, as `receiver show TASK_ID` gives it", min=1, max=MAX_ID)],
    as_json: AsJson = False,
) -> None:
    """Read a stored callback again, say after its adapter or secret was mended; exit code 1 if that was of no use."""

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
