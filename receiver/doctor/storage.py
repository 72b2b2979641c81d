"""Whether data on disk is safe: file systems, free space, and who else may read it. Changes nothing."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from receiver.config.keys import FILES
from receiver.config.settings import Settings
from receiver.doctor.findings import Finding, ok, warning, wrong
from receiver.store.engine import database_file

MOUNTS = Path("/proc/mounts")
CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
IN_MEMORY = frozenset({"tmpfs", "ramfs"})
CONTAINER_LAYERS = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs"})
"""File systems of a container's own layer, which is deleted with the container."""
NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "ncpfs"})
NETWORK_FUSE = re.compile(r"fuse\.(sshfs|s3fs|gcsfuse|rclone|glusterfs|ceph|juicefs|blobfuse2?|davfs)")
TEMPORARY_PLACES = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - recognised, not used
LOW_SPACE, MIN_SPACE = 512 * 1024 * 1024, 64 * 1024 * 1024
"""Free bytes; SQLite's write-ahead log alone may need the latter."""
PERSIST = (
    "mount a volume there, or set RECEIVER_DATABASE_URL to PostgreSQL, RECEIVER_SECRET_KEYS and RECEIVER_API_TOKENS"
)


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system: where, and of which type."""

    point: Path
    kind: str


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts about the machine: the text of `/proc/mounts`, and whether it is a container."""

    mounts: str
    container: bool

    @classmethod
    def here(cls) -> "Machine":
        """Return the facts about this machine."""
        marked = any(mark.exists() for mark in CONTAINER_MARKS) or "KUBERNETES_SERVICE_HOST" in os.environ
        return cls(MOUNTS.read_text() if MOUNTS.exists() else "", marked)


def mount_of(path: Path, table: str) -> Mount | None:
    """Return the mount that holds an absolute path, from a table like `/proc/mounts`; of two at one place the later."""
    found = None
    for line in table.splitlines():
        parts = line.split(" ")
        if len(parts) < 3:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), parts[1]))
        if path.is_relative_to(point) and (found is None or len(point.parts) >= len(found.point.parts)):
            found = Mount(point, parts[2])
    return found


def examine(settings: Settings, machine: Machine) -> list[Finding]:
    """Return findings about the data directory, and about the database's directory if that is another one."""
    data, file = settings.data_dir.absolute(), database_file(settings.database)
    place = file.absolute().parent if file is not None else None
    has_configured_secrets = bool(settings.secret_keys and settings.api_tokens)
    must_survive = place == data or not has_configured_secrets
    uses = {data: _Use("data directory", must_survive=must_survive, has_sqlite=place == data)}
    if place is not None:
        uses.setdefault(place, _Use("database's place", must_survive=True, has_sqlite=True))
    found = [finding for directory, use in uses.items() for finding in _directory(directory, use, machine)]
    return [*found, *_readable_secrets(data)]


@dataclass(frozen=True, slots=True)
class _Use:
    """What a directory is used for: whether its files must survive, and whether SQLite writes there."""

    subject: str
    must_survive: bool
    has_sqlite: bool


def _directory(directory: Path, use: _Use, machine: Machine) -> list[Finding]:
    subject = use.subject
    if not directory.is_dir():
        message = f"{directory} does not exist" if not directory.exists() else f"{directory} is not a directory"
        return [wrong(subject, message, "`receiver serve` creates it; or set RECEIVER_DATA_DIR to the one in use")]
    if not os.access(directory, os.W_OK | os.X_OK):
        owner = directory.stat().st_uid
        remedy = (
            f"chmod 700 {directory}, and mount it writable" if owner == _user() else f"run `receiver` as uid {owner}"
        )
        return [wrong(subject, f"{directory} cannot be written", remedy)]
    mount = mount_of(directory.resolve(), machine.mounts)
    found = [
        *_survival(directory, use, mount, machine),
        *_free_space(subject, directory),
        *_other_users(subject, directory),
    ]
    kind = f" ({mount.kind})" if mount else ""
    return found or [ok(subject, f"{directory}{kind}, {shutil.disk_usage(directory).free // 1024**2:,} MB free")]


def _survival(directory: Path, use: _Use, mount: Mount | None, machine: Machine) -> Iterator[Finding]:
    kind = mount.kind if mount else ""
    if use.has_sqlite and (kind in NETWORK or NETWORK_FUSE.fullmatch(kind)):
        message = f"{directory} is on a network file system ({kind}), where SQLite loses data"
        yield wrong(use.subject, message, "move it to a local disk, or set RECEIVER_DATABASE_URL to PostgreSQL")
    elif not use.must_survive:
        return
    elif kind in IN_MEMORY:
        yield warning(use.subject, f"{directory} is in memory ({kind}) and is lost when the machine restarts", PERSIST)
    elif kind in CONTAINER_LAYERS or (mount is not None and mount.point == Path("/") and machine.container):
        yield warning(use.subject, f"{directory} is in the container itself ({kind}) and is deleted with it", PERSIST)
    elif any(_is_temporary(directory.resolve(), place, mount) for place in TEMPORARY_PLACES):
        message = f"{directory} is in a place where systems delete old files"
        yield warning(use.subject, message, "set RECEIVER_DATA_DIR to a permanent place, such as /var/lib/receiver")


def _is_temporary(directory: Path, place: Path, mount: Mount | None) -> bool:
    """Return whether a directory is below this place, and not on a volume that is mounted there."""
    is_own_volume = mount is not None and place in mount.point.parents
    return directory.is_relative_to(place) and not is_own_volume


def _other_users(subject: str, directory: Path) -> Iterator[Finding]:
    status = directory.stat()
    if (mode := status.st_mode & 0o777) & 0o077:
        yield warning(subject, f"{directory} is open to other users ({mode:04o})", f"chmod 700 {directory}")
    if status.st_uid != _user():
        message = f"{directory} belongs to uid {status.st_uid}; files created by uid {_user()} may lock the service out"
        yield warning(subject, message, f"run `receiver` as uid {status.st_uid}")


def _free_space(subject: str, directory: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(directory).free
    if free < LOW_SPACE:
        judge = wrong if free < MIN_SPACE else warning
        yield judge(
            subject, f"{directory} has {free // 1024**2:,} MB left", "free some space, or move it to a larger disk"
        )


def _readable_secrets(data: Path) -> Iterator[Finding]:
    if not os.access(data, os.R_OK | os.X_OK):
        return
    files = [data / name for name in FILES.values()]
    for file in [*files, *sorted(data.glob("*_webhook_secret"))]:
        if file.is_file() and (mode := file.stat().st_mode & 0o777) & 0o077:
            yield wrong("secrets", f"{file} can be read by other users ({mode:04o})", f"chmod 600 {file}")


def _user() -> int:
    return os.geteuid()
