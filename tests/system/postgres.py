"""A PostgreSQL server of the tests' own, where its binaries are installed; it refuses to run as root."""

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.system.processes import free_port


def binaries() -> Path | None:
    """Find the folder of the newest server's binaries."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


@contextmanager
def server() -> Iterator[str]:
    """Run a server on a new database, in a directory that another user may enter; gives its URL."""
    folder = binaries()
    if folder is None:
        raise AssertionError("no PostgreSQL binaries")
    port, data = free_port(), Path(tempfile.mkdtemp(prefix="receiver-postgres-"))
    user = getpass.getuser()
    if os.geteuid() == 0:
        user = "nobody"
        shutil.chown(data, user)

    def run(*command: str) -> None:
        allowed = ["runuser", "-u", user, "--", *command] if os.geteuid() == 0 else list(command)
        subprocess.run(allowed, check=True, capture_output=True, cwd="/")  # noqa: S603 - PostgreSQL's own tools

    control = [str(folder / "pg_ctl"), "-D", str(data), "-w"]
    run(str(folder / "initdb"), "-D", str(data), "-A", "trust", "-U", "postgres")
    options = f"-p {port} -k {data} -c listen_addresses=127.0.0.1"
    run(*control, "-o", options, "-l", str(data / "log"), "start")
    try:
        yield f"postgres://postgres@127.0.0.1:{port}/postgres"
    finally:
        run(*control, "-m", "immediate", "stop")
        shutil.rmtree(data)
