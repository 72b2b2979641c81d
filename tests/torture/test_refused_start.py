"""Databases and places that the service cannot use: it says why in one line, ends with 2, and touches nothing."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.rig import Home
from tests.measuring import HANG, Stopwatch
from tests.store.conftest import Mount, mount, remount
from tests.store.rig import outside
from tests.torture.harness import Torture

__all__ = ["mount"]

SECONDS = 5.0
NOBODY = 65534
UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"] if os.geteuid() == 0 else []
"""What makes root a user like any other before files of others, and before modes."""

pytestmark = pytest.mark.skipif(
    bool(UNPRIVILEGED) and shutil.which("setpriv") is None, reason="SKIPPED, NOT TESTED: setpriv is not installed"
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A migrated installation."""
    secrets = {
        "RECEIVER_SECRET_KEYS": "a-key-that-nobody-guesses",
        "RECEIVER_API_TOKENS": "a-token-for-the-tests",
        "RECEIVER_NOTIFY_SECRETS": f"whsec_{'a' * 40}",
    }
    home = Home(tmp_path, {"PORT": "0", "REVID_API_KEY": "a-key", **secrets})
    assert home.run("migrate").code == 0
    return home


def refused(torture: Torture, home: Home, place: Path, *words: str) -> None:
    """Start the service; it ends with 2 and a line with these words, and everything below the place is as it was."""
    before = everything(place)
    watch = Stopwatch()
    done = subprocess.run(  # noqa: S603 - our own command
        [*UNPRIVILEGED, sys.executable, "-m", "receiver", "serve"],
        env=home.environ(),
        cwd=home.directory,
        check=False,
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    took = watch.read()
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    for word in words:
        assert word in line
    torture.within(took, SECONDS)
    assert everything(place) == before
    torture.figures(refused_in_s=took)


def everything(place: Path) -> dict[str, str]:
    """What is there, byte for byte."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "directory"
        for path in sorted(place.rglob("*"))
    }


@pytest.mark.row("A9")
def test_a_directory_that_may_not_be_written_is_named(torture: Torture, home: Home) -> None:
    home.data.chmod(0o500)
    refused(torture, home, home.directory, "RECEIVER_DATA_DIR", str(home.data), "cannot be written")


@pytest.mark.row("A9")
def test_a_directory_that_is_not_there_is_named(torture: Torture, home: Home) -> None:
    file = home.directory / "no such directory" / "receiver.db"
    home.settings["RECEIVER_DATABASE_URL"] = f"sqlite:///{file}"
    refused(torture, home, home.directory, str(file))


@pytest.mark.row("A9")
@pytest.mark.skipif(os.geteuid() != 0, reason="SKIPPED, NOT TESTED: only root gives a file to another")
def test_a_database_of_another_owner_is_named(torture: Torture, home: Home) -> None:
    file = home.data / "receiver.db"
    file.chmod(0o600)
    os.chown(file, NOBODY, NOBODY)
    refused(torture, home, home.directory, str(file), "owner")


@pytest.mark.row("A9")
@pytest.mark.skipif(os.geteuid() != 0, reason="SKIPPED, NOT TESTED: only root gives a file to another")
def test_a_database_of_another_owner_that_may_be_read_is_named_too(torture: Torture, home: Home) -> None:
    file = home.data / "receiver.db"
    file.chmod(0o644)
    os.chown(file, NOBODY, NOBODY)
    refused(torture, home, home.directory, str(file), "owner")


@pytest.mark.row("A9")
@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
def test_a_database_on_a_read_only_disk_is_named(torture: Torture, home: Home, mount: Mount, journal_mode: str) -> None:
    place = mount("size=4m")
    file = place / "receiver.db"
    shutil.copy(home.data / "receiver.db", file)
    with outside(file) as connection:
        connection.execute(f"PRAGMA journal_mode={journal_mode}")
    home.settings["RECEIVER_DATABASE_URL"] = f"sqlite:///{file}"
    remount(place, "ro")
    refused(torture, home, place, str(file))
