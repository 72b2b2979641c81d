"""The command that copies the database while the service runs."""

from pathlib import Path
from typing import Annotated

import typer

from receiver.cli.commands import cli
from receiver.cli.runtime import err, load_settings, print_message, print_result
from receiver.cli.tasks import JsonFlag
from receiver.cli.terminal import ProgressBars, to_one_line
from receiver.config.keys import list_secret_files
from receiver.core.errors import ConfigError
from receiver.store.backup import back_up


@cli.command()
def backup(
    file: Annotated[Path, typer.Argument(help="the file to create")],
    force: Annotated[bool, typer.Option("--force", help="replace the file if it exists")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Copy the SQLite database into one file while the service runs. To restore it, see docs/operating.md."""
    settings = load_settings()
    if any(file.exists() and file.samefile(secret) for secret in list_secret_files(settings)):
        raise ConfigError(f"{file} holds secrets of this installation; name another file.")
    with ProgressBars(err) as bars:

        def show_progress(step: str, share: float) -> None:
            bars.update(to_one_line(file.name), step, share)

        made = back_up(settings.database, file, replace=force, on_progress=show_progress)
    document = {"path": str(made.path), "bytes": made.bytes, "tasks": made.tasks, "schema": made.schema}
    print_result(
        document, f"{to_one_line(str(made.path))}\t{made.tasks:,} tasks\t{made.bytes:,} bytes", as_json=as_json
    )
    files = ", ".join(map(str, list_secret_files(settings))) or "RECEIVER_SECRET_KEYS and RECEIVER_API_TOKENS"
    print_message(f"It does not contain the secrets. Keep them, too, or callbacks of open tasks are refused: {files}")
