"""The port of the service that runs on a data directory: a file that it keeps while it runs.

The command line reads it, so that it finds the running service and its simulated providers whatever their port.
"""

from contextlib import suppress
from pathlib import Path

NAME = "port"


def write_port(data_dir: Path, port: int) -> None:
    """Write down where the service listens. A directory that cannot be written is told of elsewhere."""
    with suppress(OSError):
        (data_dir / NAME).write_text(f"{port}\n")


def remove_port(data_dir: Path, port: int) -> None:
    """Remove what the service on this port wrote; what another one wrote since stays."""
    if read_port(data_dir) == port:
        with suppress(OSError):
            (data_dir / NAME).unlink(missing_ok=True)


def read_port(data_dir: Path) -> int | None:
    """Return the port of the running service; None where none runs, or its file is not readable."""
    try:
        port = int((data_dir / NAME).read_text())
    except (OSError, ValueError):
        return None
    return port if 0 < port <= 65535 else None
