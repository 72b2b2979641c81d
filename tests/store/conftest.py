"""A migrated database in a temporary file, and a store on it."""

import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from receiver.store import Store, schema

from .rig import url_of

Mount = Callable[[str], Path]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a migrated, closed database."""
    file = tmp_path_factory.mktemp("schema") / "migrated.db"
    schema.migrate(url_of(file))
    return file.read_bytes()


@pytest.fixture
def file(tmp_path: Path, migrated: bytes) -> Path:
    file = tmp_path / "receiver.db"
    file.write_bytes(migrated)
    return file


@pytest.fixture
async def store(file: Path) -> AsyncIterator[Store]:
    store = Store(url_of(file))
    yield store
    with contextlib.suppress(RuntimeError):  # a test may have closed it
        await store.close()


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts small file systems with given options; skips where that is not allowed."""
    mounted: list[Path] = []

    def mount_one(options: str) -> Path:
        place = tmp_path / f"mount{len(mounted)}"
        place.mkdir()
        if os.geteuid() != 0 or _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)) != 0:
            pytest.skip("SKIPPED, NOT TESTED: a file system can only be mounted as root")
        mounted.append(place)
        return place

    yield mount_one
    for place in mounted:
        _run("umount", "-l", str(place))


def remount(place: Path, options: str) -> None:
    """Change a mounted file system's options."""
    assert _run("mount", "-o", f"remount,{options}", str(place)) == 0


def _run(*command: str) -> int:
    return subprocess.run(command, check=False, capture_output=True).returncode  # noqa: S603 - mount and umount
