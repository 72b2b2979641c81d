"""What every command stands in: settings, an open database, and the two ways to say something."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer
from dotenv import dotenv_values
from rich.console import Console, RenderableType

from receiver import __version__
from receiver.cli.terminal import one_line
from receiver.config.keys import list_secrets, list_weak_secrets, with_generated_secrets
from receiver.config.settings import Settings
from receiver.core.redaction import Redactor
from receiver.documents import to_json
from receiver.providers import CONFIG_TYPES
from receiver.services import Services
from receiver.serving import logs
from receiver.store import schema
from receiver.store.engine import require_database

T = TypeVar("T")

cli = typer.Typer(
    help="Submits video and image tasks, hears back, and never loses or buys one twice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
IN_A_PIPE = 100_000
"""Columns where nobody looks: nothing is cut there."""
out = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else IN_A_PIPE)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def read_settings(**changes: str) -> Settings:
    """Read the settings from the environment, then from a `.env` file."""
    file = {name: value for name, value in dotenv_values(".env").items() if value is not None}
    return Settings.load({**file, **os.environ, **changes}, CONFIG_TYPES)


def load_settings(**changes: str) -> Settings:
    """Read the settings; unknown variables and weak secrets are named on standard error."""
    settings = read_settings(**changes)
    for sentence in (*settings.warnings, *list_weak_secrets(settings)):
        say(sentence)
    return settings


def guarded(settings: Settings) -> Settings:
    """Return settings with all secrets set; from now on the log shows none of them."""
    settings = with_generated_secrets(settings)
    logs.set_redaction(Redactor(list_secrets(settings)).redact_text)
    return settings


def run(work: Callable[[Services], Awaitable[T]]) -> T:
    """Do one command's work on the existing, current database; raises `ConfigError` naming what is missing."""
    settings = load_settings()
    require_database(settings.database)
    schema.require_current(settings.database)
    settings = guarded(settings)

    async def go() -> T:
        services = Services.open(settings)
        try:
            return await work(services)
        finally:
            await services.close(settings.timeout)

    return asyncio.run(go())


def say(words: str) -> None:
    """Tell people something that is not the result."""
    err.print("\n".join(map(one_line, words.split("\n"))), markup=False)


def give(document: Any, shown: RenderableType, *, as_json: bool) -> None:
    """Print a result: JSON for machines, otherwise what people read."""
    if as_json:
        typer.echo(to_json(document))  # ASCII: an input may hold what no terminal takes
    else:
        out.print(shown, markup=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"receiver {__version__}")
        raise typer.Exit


@cli.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """Handle the options that belong to no command."""
