"""`receiver mcp`: serves the tools of `mcp_tools` to the assistant that started it.

Unlike the other commands it speaks to the running service and leaves the database alone. It lives for as long as the
program that started it, which may end it at any moment: what the service has in hand is not lost then, and a database
that is migrated or replaced meanwhile does not matter. Standard output carries nothing but the protocol.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Annotated

import anyio
import typer

from receiver.cli.commands import cli
from receiver.cli.runtime import find_service, load_settings
from receiver.client import AsyncClient
from receiver.config.keys import with_generated_secrets
from receiver.config.settings import Settings
from receiver.core.errors import ConfigError
from receiver.store.engine import require_database

PATIENCE = 5.0
"""Seconds for which a service that does not answer is tried again: somebody waits for the tool's answer."""


@cli.command()
def mcp(
    url: Annotated[
        str | None,
        typer.Option(
            help="a service elsewhere, whose API token is in RECEIVER_API_TOKENS",
            show_default="the service of this data directory",
        ),
    ] = None,
) -> None:
    """Serve tools to an assistant over the Model Context Protocol, on standard input and output."""
    if find_spec("mcp") is None:
        raise ConfigError('The package "mcp" is not installed. Install it with: pip install "receiver[mcp]"')
    settings = load_settings()
    connect = _connect_here(settings) if url is None else _connect_elsewhere(settings, url)
    from receiver.cli.mcp_tools import make_server  # noqa: PLC0415 - an extra, and slow to import

    anyio.run(make_server(connect).run_stdio_async)


def _connect_here(settings: Settings) -> Callable[[], AsyncClient]:
    """Return how to connect to the service of this data directory, wherever it listens by then."""
    require_database(settings.database)
    settings = with_generated_secrets(settings)
    return lambda: _client(find_service(settings).local_url, settings)


def _connect_elsewhere(settings: Settings, url: str) -> Callable[[], AsyncClient]:
    """Return how to connect to the service at this URL. Raises `ConfigError` for a wrong URL, and without a token."""
    if not settings.api_tokens:
        raise ConfigError(
            "RECEIVER_API_TOKENS: needed with --url, for example the one that `receiver token` prints on that machine"
        )
    try:
        _client(url, settings)
    except ValueError as error:
        raise ConfigError(f"--{error}") from error
    return lambda: _client(url, settings)


def _client(url: str, settings: Settings) -> AsyncClient:
    return AsyncClient(url, settings.api_tokens[0].get_secret_value(), patience=PATIENCE)
