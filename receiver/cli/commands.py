"""The commands by name: the module that has each, imported when the command runs, so that `--help` answers at once."""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command_from_info

from receiver import __version__

COMMANDS = {
    "submit": ("tasks", "Submit a task."),
    "list": ("tasks", "List tasks, newest first."),
    "show": ("tasks", "Show one task and its history."),
    "stats": (
        "tasks",
        "Show tasks by state, and credits spent by account and day.",
    ),
    "wait": ("tasks", "Wait until tasks are settled; the exit code is 1 if one did not succeed."),
    "tail": (
        "tail",
        "Print changes of tasks as they happen, one a line, until Ctrl-C. Each change has a number for --since.",
    ),
    "check": ("tasks", "Check tasks at their providers now."),
    "retry": ("tasks", "Place the same orders again as new tasks: this buys, after showing the price."),
    "cancel": ("tasks", "Cancel tasks that are still queued."),
    "attention": (
        "attention",
        "List the tasks that you should look at, most costly first; the exit code is 1 if there are any.",
    ),
    "adopt": ("tasks", "Resolve an unconfirmed task, or an expired one without remote id, by hand."),
    "track": ("tasks", "Follow a task that was bought elsewhere: only status requests are sent."),
    "download": ("archive", "Write the files of tasks into the working directory, and print their names."),
    "archive": (
        "archive",
        "Download the files that wait to be archived, and with --missing those that are not archived, too.",
    ),
    "backup": (
        "backup",
        "Copy the SQLite database into one file while the service runs. To restore it, see docs/operating.md.",
    ),
    "deliveries": (
        "deliveries",
        "List the latest account callbacks without a task. Pass a number to `receiver replay`.",
    ),
    "doctor": (
        "doctor",
        "Examine settings, disk, database, archive, poller, public URL, keys and clock: one line each, with a remedy.",
    ),
    "notifications": ("notifications", "List messages to your application, newest first, or send one again."),
    "replay": ("replay", "Read a stored callback again, for example after its adapter or secret was fixed."),
    "serve": ("service", "Run the service: callbacks, API, pages and poller. Creates and migrates its database."),
    "poll": (
        "service",
        "Work on all due tasks once, then exit. For cron; safe beside a running service.",
    ),
    "providers": ("service", "List providers, their models and prices."),
    "register": (
        "service",
        "Register the public URL at a provider that has one webhook per account, and store its signing secret.",
    ),
    "balance": ("service", "Show an account's balance at its provider."),
    "upload": (
        "service",
        "Upload a reference file; prints, as JSON, the part of an order's input that refers to it.",
    ),
    "token": (
        "service",
        "Print the API token, which is also the pages' password; it is created on first use.",
    ),
    "migrate": ("service", "Create the database, or migrate it to this release's schema."),
    "mcp": ("mcp", "Serve tools to an assistant over the Model Context Protocol, on standard input and output."),
    "sandbox": ("service", "Run the simulated providers alone, on HOST and PORT."),
}
"""The module of each command in `receiver.cli`, and its summary: the first paragraph of its docstring."""


class LazyGroup(TyperGroup):
    """A group whose commands are imported when they run; its help and its completion need only their summaries."""

    _is_listing = False

    def __init__(self, **attributes: Any) -> None:
        """Begin with the summaries, which help and suggestions need."""
        super().__init__(**attributes)
        self.commands = {name: TyperCommand(name, help=summary) for name, (_, summary) in COMMANDS.items()}

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, imported unless only its summary is wanted; None where there is none of this name."""
        if self._is_listing or cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        return load(cmd_name, COMMANDS[cmd_name][0])

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help with the summaries of all commands."""
        with self._listing():
            super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Return the commands and options that begin like this, with their summaries."""
        with self._listing():
            return super().shell_complete(ctx, incomplete)

    @contextmanager
    def _listing(self) -> Iterator[None]:
        self._is_listing = True
        yield
        self._is_listing = False


cli = typer.Typer(
    cls=LazyGroup,
    help="Submit paid video and image tasks, receive their callbacks, and never lose a task or buy it twice.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def load(name: str, module: str) -> Any:
    """Import the module of a command, which registers it, and return the command.

    Collecting garbage in between would find none, and take a fifth of the time; what was imported stays for good.
    """
    gc.disable()
    import_module(f"receiver.cli.{module}")
    gc.freeze()
    gc.enable()
    registered = {info.name or getattr(info.callback, "__name__", ""): info for info in cli.registered_commands}
    return get_command_from_info(registered[name], pretty_exceptions_short=False, rich_markup_mode=cli.rich_markup_mode)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"receiver {__version__}")
        raise typer.Exit


@cli.callback()
def options(
    version: Annotated[  # noqa: ARG001 - its callback prints and exits
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """Handle the options that belong to no command."""
    from receiver.serving import logs  # noqa: PLC0415 - a command runs, so what it needs is loaded anyway

    logs.configure(logging.WARNING)  # `serve`, `poll` and `sandbox` log more
