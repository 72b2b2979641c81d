"""Whether what is kept on the disk survives: file systems, free space, and who else may read it. Changes nothing."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from receiver.doctor.findings import Finding, ok, warning, wrong
from receiver.keys import FILES
from receiver.settings import Settings
from receiver.store.engine import database_file

MOUNTS = Path("/proc/mounts")
CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
IN_MEMORY = frozenset({"tmpfs", "ramfs"})
LAYERED = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs"})
"""What the throw-away layer of a container is mostly made of."""
NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "ncpfs"})
NETWORK_FUSE = re.compile(r"fuse\.(sshfs|s3fs|gcsfuse|rclone|glusterfs|ceph|juicefs|blobfuse2?|davfs)")
CLEARED = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - looked for, not used
LITTLE, TOO_LITTLE = 512 * 1024 * 1024, 64 * 1024 * 1024
"""Free bytes; SQLite's log alone may take the latter."""
KEEP = "mount a volume there, or set RECEIVER_DATABASE_URL to PostgreSQL, RECEIVER_SECRET_KEYS and RECEIVER_API_TOKENS"


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system: where, and of which type."""

    point: Path
    kind: str


def mount_of(path: Path, table: str) -> Mount | None:
    """Find the file system of an absolute path in a table as `/proc/mounts` has it; of two at one place the later."""
    found = None
    for line in table.splitlines():
        parts = line.split(" ")
        if len(parts) < 3:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), parts[1]))
        if path.is_relative_to(point) and (found is None or len(point.parts) >= len(found.point.parts)):
            found = Mount(point, parts[2])
    return found


def examine(settings: Settings) -> list[Finding]:
    """Look at the data directory, and at the database's own one where that is another."""
    data = settings.data_dir.absolute()
    file = database_file(settings.database)
    findings = _directory("data directory", data, kept=file is not None or not _told(settings))
    if file is not None and file.absolute().parent != data:
        findings += _directory("database's place", file.absolute().parent, kept=True)
    return findings + list(_readable_secrets(data))


def _told(settings: Settings) -> bool:
    """Whether all secrets come from the settings, so that none need be kept."""
    return bool(settings.secret_keys and settings.api_tokens)


def _directory(subject: str, directory: Path, *, kept: bool) -> list[Finding]:
    if not directory.is_dir():
        words = f"{directory} is not there" if not directory.exists() else f"{directory} is no directory"
        return [wrong(subject, words, "`receiver serve` makes it; or set RECEIVER_DATA_DIR to the one in use")]
    if not os.access(directory, os.W_OK | os.X_OK):
        return [
            wrong(
                subject,
                f"{directory} cannot be written",
                f"chown {_user()} {directory}, if the service runs as this user",
            )
        ]
    mount = mount_of(directory.resolve(), MOUNTS.read_text()) if MOUNTS.exists() else None
    found = [*_survival(subject, directory, mount, kept=kept), *_room(subject, directory)]
    mode = directory.stat().st_mode & 0o777
    if mode & 0o077:
        found.append(warning(subject, f"{directory} is open to other users ({mode:04o})", f"chmod 700 {directory}"))
    if (owner := directory.stat().st_uid) != _user():
        words = (
            f"{directory} belongs to uid {owner}, and this is uid {_user()}, whose new files may lock the service out"
        )
        found.append(warning(subject, words, f"run `receiver` as uid {owner}"))
    kind = f" ({mount.kind})" if mount else ""
    return found or [ok(subject, f"{directory}{kind}, {shutil.disk_usage(directory).free // 1024**2:,} MB free")]


def _survival(subject: str, directory: Path, mount: Mount | None, *, kept: bool) -> Iterator[Finding]:
    resolved = directory.resolve()
    if mount is not None and (mount.kind in NETWORK or NETWORK_FUSE.fullmatch(mount.kind)):
        words = f"{directory} is on a network file system ({mount.kind}), where SQLite loses data"
        yield wrong(subject, words, "move it to a local disk, or set RECEIVER_DATABASE_URL to PostgreSQL")
    elif not kept:
        return
    elif mount is not None and mount.kind in IN_MEMORY:
        yield warning(subject, f"{directory} is in memory ({mount.kind}) and ends with the machine", KEEP)
    elif mount is not None and (mount.kind in LAYERED or (mount.point == Path("/") and in_a_container())):
        yield warning(subject, f"{directory} is in the container itself ({mount.kind}) and ends with it", KEEP)
    elif any(resolved.is_relative_to(place) for place in CLEARED):
        yield warning(subject, f"{directory} is where systems clear away old files", "set RECEIVER_DATA_DIR elsewhere")


def in_a_container() -> bool:
    """Tell whether this machine is a container, by what its makers leave there."""
    return any(mark.exists() for mark in CONTAINER_MARKS) or "KUBERNETES_SERVICE_HOST" in os.environ


def _room(subject: str, directory: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(directory).free
    if free < LITTLE:
        judge = wrong if free < TOO_LITTLE else warning
        yield judge(subject, f"{directory} has {free // 1024**2:,} MB left", "make room, or move it to a larger disk")


def _readable_secrets(data: Path) -> Iterator[Finding]:
    files = [data / name for name in FILES.values()]
    for file in [*files, *sorted(data.glob("*_webhook_secret"))]:
        if file.is_file() and (mode := file.stat().st_mode & 0o777) & 0o077:
            yield wrong("secrets", f"{file} may be read by other users ({mode:04o})", f"chmod 600 {file}")


def _user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0  # where Windows says that everything belongs to
