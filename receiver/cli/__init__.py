"""The command line: each command is a few lines over the functions that the API uses, too. Only this package prints.

Exit codes: 0 done, 1 a task did not succeed or something is wrong, 2 usage or settings.
"""

import sys
from typing import NoReturn

from receiver.cli.commands import cli
from receiver.core.errors import ConfigError, Invalid, ReceiverError

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line and exit with its exit code."""
    try:
        cli()
    except ReceiverError as error:
        sys.exit(_explain(error))
    sys.exit(0)


def _explain(error: ReceiverError) -> int:
    """Print an error for people; returns the exit code."""
    from receiver.cli.runtime import print_message  # noqa: PLC0415 - a command ran, and has loaded it
    from receiver.cli.terminal import to_one_line  # noqa: PLC0415 - likewise

    if isinstance(error, ConfigError):
        print_message(str(error))
        return 2
    if isinstance(error, Invalid):
        for fault in error.faults:
            print_message(to_one_line(f"{'.'.join(map(str, fault.loc))}: {fault.msg}"))
        return 2
    print_message(to_one_line(str(error)))
    return 1
