"""What becomes of a data directory is told by where it is, and who else may read it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.doctor.findings import Finding, Verdict
from receiver.doctor.storage import Machine, Mount, examine, mount_of

from .rig import load

DISK = "/dev/vda / ext4 rw 0 0"
LOCAL = Machine("/dev/vda / ext4 rw 0 0\n/dev/vdb /tmp ext4 rw 0 0\n/dev/vdc /var ext4 rw 0 0", container=False)
POSTGRES = "postgresql://somebody@127.0.0.1:1/nothing"
AGAIN = {"RECEIVER_SECRET_KEYS": "k" * 32, "RECEIVER_API_TOKENS": "t" * 32}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    return directory


def found(data: Path, machine: Machine, **more: str) -> list[Finding]:
    return examine(load({"REVID_API_KEY": "a-key", "RECEIVER_DATA_DIR": str(data), **more}), machine)


def on(kind: str, data: Path, *, container: bool = False) -> Machine:
    """A machine where the directory is a mount of this type."""
    return Machine(f"{DISK}\nsomething {data.resolve()} {kind} rw 0 0", container=container)


def test_the_mount_of_a_path_is_the_nearest_and_of_two_at_one_place_the_later() -> None:
    table = "\n".join(
        [DISK, "tmpfs /var/lib tmpfs rw 0 0", r"x /var/lib/with\040blank nfs4 rw 0 0", "/dev/vdb /var/lib xfs rw 0 0"]
    )
    assert mount_of(Path("/var/lib/receiver"), table) == Mount(Path("/var/lib"), "xfs")
    assert mount_of(Path("/var/lib/with blank/data"), table) == Mount(Path("/var/lib/with blank"), "nfs4")
    assert mount_of(Path("/var/library"), table) == Mount(Path("/"), "ext4")
    assert mount_of(Path("/var"), "") is None


def test_a_directory_on_a_disk_of_its_own_is_fine(data: Path) -> None:
    (finding,) = found(data, on("ext4", data, container=True))
    assert (finding.verdict, finding.remedy) == (Verdict.OK, None)
    assert str(data) in finding.message


@pytest.mark.parametrize("kind", ["tmpfs", "ramfs", "overlay", "aufs"])
def test_a_directory_lost_with_machine_or_container_is_warned_about(kind: str, data: Path) -> None:
    (finding,) = found(data, on(kind, data))
    assert (finding.verdict, finding.subject) == (Verdict.WARNING, "data directory")
    assert kind in finding.message
    for word in ("volume", "RECEIVER_DATABASE_URL", "RECEIVER_SECRET_KEYS", "RECEIVER_API_TOKENS"):
        assert word in (finding.remedy or "")


def test_the_root_of_a_container_is_its_own_on_any_file_system(data: Path) -> None:
    (finding,) = found(data, Machine("/dev/vda / btrfs rw 0 0", container=True))
    assert "in the container itself" in finding.message
    (finding,) = found(data, Machine("/dev/vda / btrfs rw 0 0", container=False))
    assert "delete old files" in finding.message, "only that it is below /tmp"


def test_where_everything_is_kept_elsewhere_nothing_need_survive(data: Path) -> None:
    kept_elsewhere = {"RECEIVER_DATABASE_URL": POSTGRES, **AGAIN}
    for kind in ("tmpfs", "nfs4"):
        (finding,) = found(data, on(kind, data), **kept_elsewhere)
        assert finding.verdict is Verdict.OK
    (finding,) = found(data, on("tmpfs", data), **kept_elsewhere | {"RECEIVER_SECRET_KEYS": ""})
    assert finding.verdict is Verdict.WARNING, "the keys that were made are in it"


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "9p", "fuse.sshfs"])
def test_sqlite_on_a_network_file_system_is_wrong(kind: str, data: Path, tmp_path: Path) -> None:
    (finding,) = found(data, on(kind, data))
    assert finding.verdict is Verdict.WRONG
    assert "local disk" in (finding.remedy or "")
    place = tmp_path / "elsewhere"
    place.mkdir(mode=0o700)
    url = f"sqlite:///{place}/receiver.db"
    finding = found(data, on(kind, place), RECEIVER_DATABASE_URL=url)[-1]
    assert (finding.verdict, finding.subject) == (Verdict.WRONG, "database's place")


def test_a_directory_open_to_others_and_readable_secrets_are_reported(data: Path) -> None:
    data.chmod(0o755)
    for name in ("secret_keys", "rivya_webhook_secret", "api_tokens"):
        (data / name).write_text("x")
        (data / name).chmod(0o600)
    told = [finding.remedy for finding in found(data, LOCAL) if "open to other" in finding.message]
    assert told == [f"chmod 700 {data}"]
    (data / "secret_keys").chmod(0o640)
    (data / "rivya_webhook_secret").chmod(0o604)
    open_secrets = [finding for finding in found(data, LOCAL) if finding.subject == "secrets"]
    assert [finding.remedy for finding in open_secrets] == [
        f"chmod 600 {data}/secret_keys",
        f"chmod 600 {data}/rivya_webhook_secret",
    ]
    assert {finding.verdict for finding in open_secrets} == {Verdict.WRONG}


def test_a_missing_directory_is_reported_and_not_created(tmp_path: Path) -> None:
    (finding,) = found(tmp_path / "nowhere", LOCAL)
    assert (finding.verdict, "receiver serve" in (finding.remedy or "")) == (Verdict.WRONG, True)
    assert not (tmp_path / "nowhere").exists()


# --- with file systems of their own


def run(*command: str) -> None:
    subprocess.run(command, check=True)  # noqa: S603 - the system's own tools


@pytest.fixture
def mounted(data: Path) -> Iterator[Path]:
    """A data directory that is a small file system in memory."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a file system")
    run("mount", "-t", "tmpfs", "-o", "size=80m,mode=0700", "tmpfs", str(data))
    try:
        yield data
    finally:
        run("umount", str(data))


def test_this_machines_own_mounts_are_read(mounted: Path) -> None:
    words = [finding.message for finding in found(mounted, Machine.here())]
    assert any("in memory (tmpfs)" in each for each in words), words


def test_a_disk_that_runs_full_is_warned_about_and_one_that_is_nearly_full_is_wrong(mounted: Path) -> None:
    def room() -> list[Finding]:
        return [finding for finding in found(mounted, LOCAL) if "MB left" in finding.message]

    assert [finding.verdict for finding in room()] == [Verdict.WARNING]
    (mounted / "fill").write_bytes(bytes(40 * 1024 * 1024))
    (finding,) = room()
    assert finding.verdict is Verdict.WRONG
    assert "free some space" in (finding.remedy or "")


def test_a_directory_that_cannot_be_written_is_wrong(mounted: Path) -> None:
    run("mount", "-o", "remount,ro", str(mounted))
    (finding,) = found(mounted, LOCAL)
    assert (finding.verdict, "cannot be written" in finding.message) == (Verdict.WRONG, True)
    assert "mount it writable" in (finding.remedy or "")


def test_a_directory_of_another_user_is_warned_about(data: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    os.chown(data, 65534, -1)
    words = [finding.message for finding in found(data, LOCAL) if finding.verdict is Verdict.WARNING]
    assert any("belongs to uid 65534" in each for each in words)
