"""The command that copies the database while the service runs."""

from pathlib import Path
from typing import Annotated

import typer

from receiver.cli.runtime import cli, err, give, load_settings, say
from receiver.cli.tasks import AsJson
from receiver.cli.terminal import Bars, one_line
from receiver.config.keys import list_secret_files
from receiver.core.errors import ConfigError
from receiver.store.backup import back_up


@cli.command()
def backup(
    file: Annotated[Path, typer.Argument(help="the file to make")],
    force: Annotated[bool, typer.Option("--force", help="replace the file if it is there already")] = False,
    as_json: AsJson = False,
) -> None:
    """Copy the SQLite database into one file, beside a running service. To restore it, copy it back."""
    settings = load_settings()
    if any(file.exists() and file.samefile(secret) for secret in list_secret_files(settings)):
        raise ConfigError(f"{file} holds secrets of this installation; name another file.")
    with Bars(err) as bars:

        def told(doing: str, share: float) -> None:
            bars.update(one_line(file.name), doing, share)

        made = back_up(settings.database, file, replace=force, told=told)
    document = {"path": str(made.path), "bytes": made.bytes, "tasks": made.tasks, "schema": made.schema}
    give(document, f"{one_line(str(made.path))}\t{made.tasks:,} tasks\t{made.bytes:,} bytes", as_json=as_json)
    files = ", ".join(map(str, list_secret_files(settings))) or "RECEIVER_SECRET_KEYS and RECEIVER_API_TOKENS"
    say(f"Secrets are not in it. Keep these, too, or callbacks to tasks under way are refused: {files}")
