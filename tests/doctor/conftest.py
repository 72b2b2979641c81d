"""One running installation for each module, on its own provider, with a path in its public URL."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from receiver.store.engine import sqlite_module
from tests.measuring import LOOP, wait_for
from tests.system.processes import free_port, provider, service


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return LOOP


@dataclass(frozen=True)
class Installation:
    """A running service, and the variables that it and its command line read."""

    environ: dict[str, str]
    url: str
    """Where it listens."""

    @property
    def keys(self) -> str:
        return (Path(self.environ["RECEIVER_DATA_DIR"]) / "secret_keys").read_text().strip()


def has_polled(file: Path) -> bool:
    """Whether the service's poller has been at work."""
    connection = sqlite_module().connect(str(file))
    try:
        return bool(connection.execute("SELECT 1 FROM heartbeat WHERE name = 'poller'").fetchone())
    finally:
        connection.close()


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The service whose command line is tried."""
    directory, port, provider_port = tmp_path_factory.mktemp("installation"), free_port(), free_port()
    selling = provider(directory, provider_port)
    serving = service(directory, port, provider_port, RECEIVER_PUBLIC_URL=f"http://127.0.0.1:{port}/in")
    selling.start()
    serving.start()
    wait_for(lambda: has_polled(directory / "data" / "receiver.db"))
    yield Installation(dict(serving.environ), f"http://127.0.0.1:{port}")
    serving.kill()
    selling.kill()


@pytest.fixture(scope="module")
def neighbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of another installation's service."""
    directory, port = tmp_path_factory.mktemp("neighbour"), free_port()
    serving = service(directory, port, 9)
    serving.start()
    yield f"http://127.0.0.1:{port}"
    serving.kill()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that nobody vouches for, with its key."""
    file = tmp_path_factory.mktemp("tls") / "self-signed.pem"
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    subprocess.run(  # noqa: S603 - a fixed command
        [*words.split(), "-keyout", str(file), "-out", f"{file}.crt"], check=True, capture_output=True
    )
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    return file
