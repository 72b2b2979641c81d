"""What every command needs: settings, an open database, and the two ways to print."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import typer
from dotenv import dotenv_values
from rich.console import Console, RenderableType

from receiver.cli.terminal import to_one_line
from receiver.config.keys import list_secrets, list_weak_secrets, with_generated_secrets
from receiver.config.port_file import read_port
from receiver.config.settings import Settings
from receiver.core.redaction import Redactor
from receiver.documents import to_json
from receiver.providers import CONFIG_TYPES
from receiver.services import Services
from receiver.serving import logs
from receiver.store import schema
from receiver.store.engine import require_database

T = TypeVar("T")

CLOUDS = ("AWS_", "AZURE_", "GOOGLE_")
"""How the variables with credentials for object stores begin."""
PIPE_WIDTH = 100_000
"""Columns in a pipe, where nothing is cut."""
out = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def read_settings(**changes: str) -> Settings:
    """Return the settings from the environment, then from a `.env` file."""
    file = {name: value for name, value in dotenv_values(".env").items() if value is not None}
    for name, value in file.items():
        if name.startswith(CLOUDS):  # the object stores' own library reads them
            os.environ.setdefault(name, value)
    return Settings.load({**file, **os.environ, **changes}, CONFIG_TYPES)


def load_settings(**changes: str) -> Settings:
    """Return the settings; warnings about unknown variables and weak secrets are printed."""
    settings = read_settings(**changes)
    for sentence in (*settings.warnings, *list_weak_secrets(settings)):
        print_message(sentence)
    return settings


def find_service(settings: Settings) -> Settings:
    """Return settings with the port of the service that runs on this data directory, unless `PORT` names one."""
    port = None if "PORT" in {**dotenv_values(".env"), **os.environ} else read_port(settings.data_dir)
    return settings if port is None else settings.with_port(port)


def prepare_secrets(settings: Settings) -> Settings:
    """Return settings with all secrets set; from now on the log shows none of them."""
    settings = with_generated_secrets(settings)
    logs.set_redaction(Redactor(list_secrets(settings)).redact_text)
    return settings


def run(work: Callable[[Services], Awaitable[T]]) -> T:
    """Return what a command's work returns on the existing, current database; raises `ConfigError` if there is none."""
    settings = find_service(load_settings())
    require_database(settings.database)
    schema.require_current(settings.database)
    settings = prepare_secrets(settings)

    async def go() -> T:
        services = Services.open(settings)
        try:
            return await work(services)
        finally:
            await services.close(settings.timeout)

    return asyncio.run(go())


def stop_on_signal() -> asyncio.Event:
    """Return an event that the first SIGTERM or SIGINT sets, so that open requests finish; a second one ends it all."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def first() -> None:
        stop.set()
        for number in numbers:
            loop.remove_signal_handler(number)

    for number in numbers:
        loop.add_signal_handler(number, first)
    return stop


def print_message(text: str) -> None:
    """Print what is not part of the result, on standard error."""
    err.print("\n".join(map(to_one_line, text.split("\n"))), markup=False)


def print_result(document: Any, shown: RenderableType, *, as_json: bool) -> None:
    """Print a result: JSON for scripts, or else what people read."""
    if as_json:
        typer.echo(to_json(document))  # ASCII: an input may hold characters that a terminal cannot print
    else:
        out.print(shown, markup=False)
