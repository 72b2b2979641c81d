"""Commands about received callbacks. They work on the database directly, beside a running service."""

from typing import Annotated

import typer

from receiver.cli import terminal
from receiver.cli.commands import cli
from receiver.cli.runtime import print_result, run
from receiver.cli.tasks import JsonFlag
from receiver.documents import unmatched_document
from receiver.store import reading


@cli.command("deliveries")
def list_deliveries(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="how many at most")] = 50, as_json: JsonFlag = False
) -> None:
    """List the latest account callbacks without a task. Pass a number to `receiver replay`."""
    stored = run(lambda services: services.store.read(lambda session: reading.unmatched_deliveries(session, limit)))
    listed = [unmatched_document(delivery) for delivery in stored]
    print_result({"deliveries": listed}, terminal.delivery_table(listed), as_json=as_json)
