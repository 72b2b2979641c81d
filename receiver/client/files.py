"""Downloading archived files: written aside, checked, and renamed, so that a file that has its name is whole.

A name that the service sends never leads out of the directory, and no file of another content is overwritten.
"""

import hashlib
import os
import re
import uuid
from email.message import Message
from functools import partial
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import BinaryIO

import httpx

from receiver.client.errors import BrokenDownload, NotFound
from receiver.client.results import Task
from receiver.client.steps import Outage, Pause, Read, Request, Steps, Work, exchange, unreachable
from receiver.client.tasks import fetch_task, path_of, wait_for

ARCHIVE_PAUSE = 1.0
"""Seconds between two looks at a task whose outputs are being archived."""
LONGEST_NAME = 200
"""Bytes of a file's name; file systems take 255."""
BLOCK = 1 << 20
TRIES = 2
"""How often a file may arrive with a wrong checksum."""
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, and those that turn a name's direction around."""


class PartFile:
    """A file that is being written under a hidden name; unless it was kept, it is removed at the end."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / f".{uuid.uuid4().hex}.part"
        self._file: BinaryIO | None = None
        self._sum = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> "PartFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
            self._path.unlink(missing_ok=True)

    @property
    def sha256(self) -> str:
        """The checksum of what was written."""
        return self._sum.hexdigest()

    def write(self, piece: bytes) -> None:
        """Append bytes."""
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("xb")
        self._file.write(piece)
        self._sum.update(piece)
        self.size += len(piece)

    def clear(self) -> None:
        """Begin again with nothing."""
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()
        self._sum, self.size = hashlib.sha256(), 0

    def keep(self, name: str) -> Path:
        """Give it its name, or another one if a file of this name has another content; returns the path."""
        self.write(b"")  # an empty file exists, too
        assert self._file is not None  # noqa: S101 - `write` has opened it
        self._file.flush()
        os.fsync(self._file.fileno())
        target = free_name(self._path.parent, name, self.sha256)
        self._path.rename(target)
        self._file.close()
        self._file = None
        return target


def free_name(directory: Path, name: str, sha256: str) -> Path:
    """Return a path at which there is no file, or one of this content."""
    stem, dot, suffix = name.rpartition(".") if "." in name else (name, "", "")
    number = 1
    while True:
        target = directory / (name if number == 1 else f"{stem}-{number}{dot}{suffix}")
        if not os.path.lexists(target) or has_content(target, sha256):
            return target
        number += 1


def has_content(path: Path, sha256: str) -> bool:
    """Return whether there is a regular file with this checksum."""
    if path.is_symlink() or not path.is_file():
        return False
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            found.update(block)
    return found.hexdigest() == sha256


def safe_name(disposition: str | None, fallback: str) -> str:
    """Return the name in a `Content-Disposition` header as one that is safe in a directory."""
    message = Message()
    message["Content-Disposition"] = _UNSAFE.sub("", disposition or "")
    given = message.get_filename("")
    name = _UNSAFE.sub("", re.split(r"[/\\]", given)[-1]).strip().lstrip(".-").strip()
    if len(name.encode()) > LONGEST_NAME:
        stem, _, suffix = name.rpartition(".")
        ending = f".{suffix}" if stem and len(suffix.encode()) <= 10 else ""
        most = LONGEST_NAME - len(ending.encode())
        name = (stem if ending else name).encode()[:most].decode("utf-8", "ignore") + ending
    return name or fallback


def download(task: str | Task, directory: Path, seconds: float | None, patience: float) -> Steps[list[Path]]:
    """Write the archived files of a task into a directory, and return their paths; waits until they are archived.

    All that can be had are written; then the first `NotFound` of the others is raised.
    """
    found = yield from _archived(task, seconds, patience)
    paths: list[Path] = []
    missing: NotFound | None = None
    for number in range(len(found["outputs"])):
        try:
            paths.append((yield from _download_one(found, number, directory, patience)))
        except NotFound as error:
            missing = missing or error
    if missing is not None:
        raise missing
    return paths


def _archived(task: str | Task, seconds: float | None, patience: float) -> Steps[Task]:
    """Return a task when it is settled and no output is still waiting for its archive."""
    end = float("inf") if seconds is None else monotonic() + seconds
    found = yield from wait_for(task, seconds, patience)
    while monotonic() < end and any(output.get("archive") == "waiting" for output in found["outputs"]):
        yield Pause(min(ARCHIVE_PAUSE, max(end - monotonic(), 0.0)))
        found = yield from fetch_task(Request("GET", path_of(task)), patience)
    return found


def _download_one(task: Task, number: int, directory: Path, patience: float) -> Steps[Path]:
    """Write one file; a connection that breaks is continued where it broke."""
    stored = task["outputs"][number].get("stored")
    expected = stored.get("sha256") if isinstance(stored, dict) else None
    with PartFile(directory) as part:
        for _ in range(TRIES):
            response = yield from _receive(path_of(task, "outputs", number), part, patience)
            if expected is None or part.sha256 == expected:
                fallback = re.sub(r"[^0-9A-Za-z_]", "_", task["id"])
                name = safe_name(response.headers.get("content-disposition"), f"{fallback}-{number}")
                path: Path = yield Work(partial(part.keep, name))
                return path
            part.clear()
    raise BrokenDownload(f"Output {number} of {task['id']} arrived with another checksum than the task names.")


def _receive(path: str, part: PartFile, patience: float) -> Steps[httpx.Response]:
    """Write all of a file; returns the last answer, whose headers describe it."""
    outage, etag, farthest = Outage(patience), None, 0
    while True:
        headers = {"Accept-Encoding": "identity"}
        if part.size and etag is not None:
            headers |= {"Range": f"bytes={part.size}-", "If-Range": etag}
        request = Request("GET", path, (("download", "1"),), headers=headers, stream=True)
        response = yield from exchange(request, outage)
        if response.status_code != 206 or not continues(response, part.size):
            part.clear()
        etag = strong_etag(response)
        try:
            while (piece := (yield Read())) is not None:
                yield Work(partial(part.write, piece))
                if part.size > farthest:
                    farthest = part.size
                    outage.end()
        except httpx.TransportError as error:
            yield outage.pause(unreachable(error))
        else:
            return response


def continues(response: httpx.Response, size: int) -> bool:
    """Return whether a partial answer begins where we stopped."""
    given: str = response.headers.get("content-range", "")
    return given.startswith(f"bytes {size}-")


def strong_etag(response: httpx.Response) -> str | None:
    """Return the tag by which the service knows that a file is still the same; a weak one does not say so."""
    etag: str | None = response.headers.get("etag")
    return None if etag is None or etag.startswith("W/") else etag
