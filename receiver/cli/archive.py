"""Commands about produced files: into the working directory, and into the archive."""

import asyncio
import os
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from receiver.archive.archiver import Archiver
from receiver.cli.commands import cli
from receiver.cli.runtime import print_message, print_result, run
from receiver.cli.tasks import JsonFlag, TaskIds
from receiver.core.errors import ConfigError
from receiver.documents import TaskDocument, show
from receiver.lifecycle import files as lifecycle
from receiver.services import Services
from receiver.storage import Storage
from receiver.store import Session, files, reading
from receiver.store.tables import Output


@cli.command()
def download(
    task_ids: TaskIds,
    directory: Annotated[Path, typer.Option("--to", help="the directory to write into", file_okay=False)] = Path(),
    as_json: JsonFlag = False,
) -> None:
    """Write the files of tasks into the working directory, and print their names."""

    async def work(services: Services) -> tuple[list[str], list[str]]:
        storage = _storage(services)
        written, missing = [], []
        for task_id in dict.fromkeys(task_ids):
            task = await show(services, task_id)
            if not task["outputs"]:
                missing.append(f"{task_id} is {task['state']} and has no files.")
            for number in range(len(task["outputs"])):
                output = await _archived(services, storage, task, number)
                if output.archive == files.STORED:
                    written.append(await _write(storage, output, directory))
                else:
                    missing.append(f"Output {number} of {task_id} is not archived: {output.problem or output.archive}")
        return written, missing

    directory.mkdir(parents=True, exist_ok=True)
    written, missing = run(work)
    for sentence in missing:
        print_message(sentence)
    print_result({"files": written}, "\n".join(written), as_json=as_json)
    if missing:
        raise typer.Exit(1)


@cli.command()
def archive(
    missing: Annotated[bool, typer.Option("--missing", help="try again what failed or was never archived")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Download the files that wait to be archived, and with --missing those that are not archived, too."""

    async def work(services: Services) -> Archiver:
        storage, now = _storage(services), services.clock()
        if missing:
            for output_id in await services.store.read(files.list_missing):
                await services.store.write(partial(lifecycle.fetch_again, output_id=output_id, now=now))
        print_message(f"Files to download: {await services.store.read(files.count_waiting)}")
        archiver = Archiver(services, storage)
        await archiver.sweep(asyncio.Event())
        return archiver

    done = run(work)
    counted = {"stored": done.stored, "failed": done.failed}
    print_result(counted, f"stored {done.stored} failed {done.failed}", as_json=as_json)
    if done.failed:
        raise typer.Exit(1)


def _storage(services: Services) -> Storage:
    if services.storage is None:
        raise ConfigError("RECEIVER_ARCHIVE is off, so there are no archived files; set it to a directory or a bucket.")
    return services.storage


async def _archived(services: Services, storage: Storage, task: TaskDocument, number: int) -> Output:
    """Return an output once it is archived or has failed: fetch it, or wait for whoever does."""

    def query(session: Session) -> Output:
        return reading.outputs(session, [task["id"]])[task["id"]][number]

    output = await services.store.read(query)
    if output.archive != files.STORED and output.id is not None:
        await Archiver(services, storage).fetch_now(output.id)
        output = await services.store.read(query)
    return output


async def _write(storage: Storage, output: Output, directory: Path) -> str:
    """Write a stored file aside, then rename it; returns its path."""
    target = directory / (output.stored or "").rpartition("/")[2]
    aside = target.with_name(f".{target.name}.unfinished")
    try:
        with aside.open("wb") as file:
            async for piece in storage.read(output.stored or "", 0, output.bytes or 0):
                file.write(piece)
            os.fsync(file.fileno())
        aside.rename(target)
    finally:
        aside.unlink(missing_ok=True)
    return str(target)
