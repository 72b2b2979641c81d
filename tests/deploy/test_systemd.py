"""The unit files, checked with systemd-analyze, and the two scripts beside them."""

import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli.rig import Home
from tests.deploy.rig import DEPLOY, replaced
from tests.measuring import HANG

SYSTEMD = DEPLOY / "systemd"
UNITS = sorted(path.name for path in SYSTEMD.iterdir() if path.suffix in (".service", ".timer"))
SERVICES = [name for name in UNITS if name.endswith(".service")]
MOST_EXPOSED = 20
"""The exposure level that `systemd-analyze security` may report, times ten. Each service has 1.2 today."""
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed: apt-get install systemd"
)
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")


def run(*command: str | Path, environ: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a command; its standard error is part of its output."""
    return subprocess.run(  # noqa: S603 - our own commands
        list(map(str, command)),
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=HANG,
        env=environ,
    )


@needs_systemd
def test_the_units_pass_systemd_analyze_verify(tmp_path: Path) -> None:
    for name in UNITS:
        # The programs are not installed on this machine.
        text = (SYSTEMD / name).read_text().replace("ExecStart=/opt/receiver/", f"ExecStart={tmp_path}/")
        (tmp_path / name).write_text(text)
    for program in ("bin/receiver", "libexec/receiver-backup"):
        (tmp_path / program).parent.mkdir()
        shutil.copy("/bin/true", tmp_path / program)
    done = run("systemd-analyze", "verify", "--recursive-errors=no", "--man=no", *(tmp_path / name for name in UNITS))
    assert (done.returncode, done.stdout) == (0, "")


@needs_systemd
@pytest.mark.parametrize("name", SERVICES)
def test_the_services_are_hardened(name: str) -> None:
    done = run("systemd-analyze", "security", "--offline=yes", f"--threshold={MOST_EXPOSED}", SYSTEMD / name)
    assert done.returncode == 0, done.stdout


def test_every_timer_has_its_service() -> None:
    timers = [name for name in UNITS if name.endswith(".timer")]
    assert timers
    assert {name.replace(".timer", ".service") for name in timers} < set(SERVICES)


def script(name: str, place: Path, changes: Mapping[str, str]) -> Path:
    """Copy a script with its fixed paths replaced."""
    file = place / name
    file.write_text(replaced((SYSTEMD / name).read_text(), changes))
    file.chmod(0o755)
    return file


@needs_root
def test_the_command_runs_as_the_services_user_with_its_settings(tmp_path: Path) -> None:
    settings = tmp_path / "receiver.env"
    settings.write_text("# a comment\nREVID_API_KEY='a $HOME \"key\" #1'\nPORT=8001\n")
    changes = {
        "/etc/receiver/receiver.env": str(settings),
        "-u receiver": "-u nobody",
        "/opt/receiver/bin/receiver": "/bin/sh",
    }
    command = script("receiver", tmp_path, changes)
    shown = 'id -un; echo "$REVID_API_KEY"; echo "$RECEIVER_DATA_DIR $HOST $PORT $1"'
    done = run(command, "-c", shown, "sh", "an argument", environ={"PATH": os.environ["PATH"]})
    assert done.stdout.splitlines() == [
        "nobody",
        'a $HOME "key" #1',
        "/var/lib/receiver 127.0.0.1 8001 an argument",
    ]


SECRETS = ("secret_keys", "api_tokens", "rivya_webhook_secret")
RECEIVER = Path(sys.executable).with_name("receiver")


def backed_up(home: Home, directory: Path, receiver: Path = RECEIVER) -> "subprocess.CompletedProcess[str]":
    return run(SYSTEMD / "receiver-backup", directory, environ=home.environ(RECEIVER=str(receiver)))


def test_a_backup_restores_the_installation_and_old_backups_are_removed(tmp_path: Path) -> None:
    home, directory = Home(tmp_path), tmp_path / "backups"
    directory.mkdir()
    assert home.run("migrate").code == 0
    for name in SECRETS:
        (home.data / name).write_text(f"made-up {name}\n")
    names = ["receiver-20260101T000000Z.db", "receiver-20260101T000000Z.secrets.tar", "of-somebody-else.db"]
    long_ago = time.time() - 16 * 86400
    for name in names:
        (directory / name).touch()
        os.utime(directory / name, (long_ago, long_ago))

    done = backed_up(home, directory)

    assert done.returncode == 0, done.stdout
    (database,) = directory.glob("receiver-*.db")
    (secrets,) = directory.glob("receiver-*.secrets.tar")
    assert database.name not in names
    assert secrets.stem == f"{database.stem}.secrets"
    assert (directory / "of-somebody-else.db").exists()
    assert database.stat().st_mode & 0o777 == secrets.stat().st_mode & 0o777 == 0o600
    with tarfile.open(secrets) as packed:
        assert sorted(packed.getnames()) == sorted(SECRETS)

    # Restored into an empty data directory, it is the same installation.
    restored = Home(tmp_path / "restored")
    restored.data.mkdir(parents=True)
    shutil.copy(database, restored.database)
    with tarfile.open(secrets) as packed:
        packed.extractall(restored.data, filter="data")
    assert restored.token() == home.token()
    assert restored.run("list").code == 0


def test_a_backup_that_fails_removes_nothing(tmp_path: Path) -> None:
    home, directory = Home(tmp_path), tmp_path / "backups"
    directory.mkdir()
    old = directory / "receiver-20260101T000000Z.db"
    old.touch()
    os.utime(old, (0, 0))
    assert backed_up(home, directory, Path("/bin/false")).returncode == 1
    assert old.exists()
