"""A PostgreSQL server of the tests' own, where its binaries are installed; it refuses to run as root."""

import atexit
import functools
import getpass
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.measuring import HANG, wait_for
from tests.system.processes import free_port


def binaries() -> Path | None:
    """Find the folder of the newest server's binaries."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    data: Path
    _control: Callable[..., None]

    def die_and_return(self) -> None:
        """Let it end at once, as a crash would, and start it again."""
        self._control("-m", "immediate", "restart")

    def killed_and_back(self) -> None:
        """Kill its first process with -9, which takes all others with it, and start it again."""
        first = int((self.data / "postmaster.pid").read_text().split()[0])
        os.kill(first, signal.SIGKILL)

        def is_back() -> bool:
            try:
                self._control("start")
            except subprocess.CalledProcessError:  # its other processes are still about to notice, and keep its port
                return False
            return True

        wait_for(is_back)


@contextmanager
def running(*settings: str) -> Iterator[Server]:
    """Run a server on a new database, in a directory that another user may enter; settings are `name=value`."""
    folder = binaries()
    if folder is None:
        raise AssertionError("no PostgreSQL binaries")
    port, data = free_port(), _new_directory()

    def control(*words: str) -> None:
        # With a log of its own: otherwise the server keeps our pipe open, and nobody sees the command's end.
        _run(str(folder / "pg_ctl"), "-D", str(data), "-w", "-t", f"{HANG:.0f}", "-l", str(data / "log"), *words)

    _run("cp", "-a", f"{_made_once(folder)}/.", str(data))
    kept = [f"port={port}", f"unix_socket_directories={data}", "listen_addresses=127.0.0.1", *settings]
    with (data / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, _, value in (setting.partition("=") for setting in kept))
    control("start")
    try:
        yield Server(f"postgres://postgres@127.0.0.1:{port}/postgres", data, control)
    finally:
        control("-m", "immediate", "stop")
        shutil.rmtree(data)


def _new_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="receiver-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(directory, _user())
    return directory


def _user() -> str:
    return "nobody" if os.geteuid() == 0 else getpass.getuser()


def _run(*command: str) -> None:
    allowed = ["runuser", "-u", _user(), "--", *command] if os.geteuid() == 0 else list(command)
    subprocess.run(allowed, check=True, capture_output=True, cwd="/")  # noqa: S603 - PostgreSQL's own tools


@functools.cache
def _made_once(folder: Path) -> Path:
    """Make an empty cluster, which each server of this process gets a copy of: to make one takes ten times longer."""
    made = _new_directory()
    atexit.register(shutil.rmtree, made)
    _run(str(folder / "initdb"), "-D", str(made), "-A", "trust", "-U", "postgres")
    return made


@contextmanager
def server() -> Iterator[str]:
    """Run a server; gives its URL."""
    with running() as one:
        yield one.url
