"""The command line: each command is a few lines over the functions that the API uses, too. Only this package prints.

Exit codes: 0 done, 1 a task did not succeed or something is wrong, 2 usage or settings.
"""

import logging
import sys
from typing import NoReturn

from receiver.cli import backup, deliveries, doctor, replay, service, tasks
from receiver.cli.runtime import cli, print_message
from receiver.cli.terminal import to_one_line
from receiver.core.errors import ConfigError, Invalid, ReceiverError
from receiver.serving import logs

__all__ = ["backup", "deliveries", "doctor", "main", "replay", "service", "tasks"]


def main() -> NoReturn:
    """Run the command line and exit with its exit code."""
    logs.configure(logging.WARNING)  # `serve`, `poll` and `sandbox` log more
    try:
        cli()
    except ConfigError as error:
        print_message(str(error))
        sys.exit(2)
    except Invalid as error:
        for fault in error.faults:
            print_message(to_one_line(f"{'.'.join(map(str, fault.loc))}: {fault.msg}"))
        sys.exit(2)
    except ReceiverError as error:
        print_message(to_one_line(str(error)))
        sys.exit(1)
    sys.exit(0)
