"""`receiver tail`: prints every change of every task as it is stored, whichever process stores it."""

import asyncio
import os
import stat
import sys
from typing import Annotated

import typer

from receiver.cli import terminal
from receiver.cli.commands import cli
from receiver.cli.runtime import out, print_message, run, stop_on_signal
from receiver.cli.tasks import JsonFlag
from receiver.core.errors import StoreUnavailable
from receiver.documents import to_json
from receiver.feed import RETRY_SECONDS, WATCH_SECONDS, Change, read_changes
from receiver.services import Services
from receiver.store import Session, feed

LARGEST = 2**63 - 1


@cli.command()
def tail(
    since: Annotated[
        int | None,
        typer.Option(min=0, max=LARGEST, help="begin after the change with this number"),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Print changes of tasks as they happen, one a line, until Ctrl-C. Each change has a number for --since."""

    async def work(services: Services) -> None:
        stop = stop_on_signal()
        _stop_without_reader(stop)
        position, is_known = await services.store.read(lambda session: _locate(session, since))
        if not is_known:
            print_message(f"The changes after {since} are not known. These are the changes from now on.")
        while not stop.is_set():
            for change in await _next_changes(services, position, stop):
                position = change.number
                _print(change, as_json=as_json)

    run(work)


def _stop_without_reader(stop: asyncio.Event) -> None:
    """Stop as soon as whoever reads our pipe has left, and not only at the next change."""
    output = sys.stdout.fileno()
    if stat.S_ISFIFO(os.fstat(output).st_mode):
        asyncio.get_running_loop().add_reader(output, stop.set)  # nothing ever comes from it but the reader's end


def _locate(session: Session, since: int | None) -> tuple[int, bool]:
    """Return the number after which to begin, and whether all later changes are known."""
    if since is not None and feed.knows_all_after(session, since):
        return since, True
    return feed.read_latest(session), since is None


async def _next_changes(services: Services, position: int, stop: asyncio.Event) -> list[Change]:
    """Return the next changes once there are any; none when it is time to stop."""
    changes = services.store.until(lambda session: read_changes(services, session, position), bool, WATCH_SECONDS)
    reading, stopping = asyncio.create_task(changes), asyncio.create_task(stop.wait())
    await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not reading.done():
        reading.cancel()
        return []
    try:
        return reading.result()
    except StoreUnavailable as error:
        print_message(str(error))
        await asyncio.sleep(RETRY_SECONDS)
        return []


def _print(change: Change, *, as_json: bool) -> None:
    task = change.task
    if as_json:
        typer.echo(to_json({"number": change.number, "task": task}))
    elif out.is_terminal:
        out.print(terminal.change_line(task, change.number))
    else:
        settled_by = task["settled_by"] or ""
        fields = (task["updated_at"] or "", task["state"], task["id"], task["model"], settled_by, str(change.number))
        typer.echo("\t".join(map(terminal.to_one_line, fields)))
