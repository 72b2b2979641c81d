"""What a running service asks of the kernel, as `strace` writes it down: writes, syncs, what it reads and sends.

The service is watched from outside, so nothing of it can say that something is on the disk that is not.
"""

import itertools
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

MISSING = "strace is not installed" if shutil.which("strace") is None else ""
WATCHED = "pwrite64,write,pwritev,writev,fdatasync,fsync,ftruncate,sendto,sendmsg,recvfrom,read"
LONGEST = 70_000
"""Bytes of a call's data that are written down: more than a page, or a request."""
SYNCS = frozenset({"fsync", "fdatasync"})
WRITES = frozenset({"pwrite64", "write", "pwritev", "writev"})
FRAME_HEAD = 24
"""Bytes before each page in the WAL; the second four are not zero where the frame ends a commit."""
MARK = re.compile(rb'"mark": "([^"]+)"')
_BEGUN = re.compile(r"(\d+) +(\w+)\((.*)")
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)")
_WHOLE = re.compile(r'(\d+)<([^>]*)>(?:, "([^"]*)")?(.*)\) += (-?\d+)')
_UNFINISHED = " <unfinished ...>"


@dataclass(frozen=True)
class Call:
    """One system call on a file or a socket; `begin` and `end` are lines of the trace, and so its order."""

    name: str
    handle: int
    path: str
    data: bytes
    rest: str
    result: int
    begin: int
    end: int

    @property
    def offset(self) -> int:
        """Where a `pwrite64` writes, or to what length a file is cut."""
        return int(self.rest.rpartition(",")[2])

    @property
    def is_wal(self) -> bool:
        return self.path.endswith("-wal")


@contextmanager
def watching(pid: int, file: Path) -> Iterator[None]:
    """Watch a process and all its threads while this is open."""
    command = ["strace", "-f", "-y", "-xx", "-s", str(LONGEST), "-e", f"trace={WATCHED}", "-o", str(file)]
    tracer = subprocess.Popen([*command, "-p", str(pid)], stderr=subprocess.PIPE, text=True)  # noqa: S603 - fixed words
    try:
        assert tracer.stderr is not None
        first = tracer.stderr.readline()
        if "attached" not in first:
            pytest.skip(f"strace may not watch another process here: {first.strip()}")
        yield
    finally:
        tracer.terminate()
        tracer.communicate()


def calls(file: Path) -> list[Call]:
    """Read a trace; calls that were cut in two by those of other threads are whole again."""
    found: list[Call | None] = []
    open_calls: dict[tuple[str, str], tuple[int, str]] = {}
    with file.open() as lines:
        for number, line in enumerate(lines):
            text = line.rstrip("\n")
            if resumed := _RESUMED.match(text):
                begun = open_calls.pop((resumed[1], resumed[2]), None)
                if begun is not None:
                    found.append(_call(resumed[2], begun[1] + resumed[3], begun[0], number))
            elif begun_now := _BEGUN.match(text):
                thread, name, words = begun_now.groups()
                if words.endswith(_UNFINISHED):
                    open_calls[thread, name] = (number, words.removesuffix(_UNFINISHED))
                else:
                    found.append(_call(name, words, number, number))
    return sorted((call for call in found if call is not None), key=lambda call: call.begin)


def _call(name: str, words: str, begin: int, end: int) -> Call | None:
    whole = _WHOLE.match(words)
    if whole is None:
        return None
    handle, path, data, rest, result = whole.groups()
    return Call(name, int(handle), _bytes(path).decode(), _bytes(data or ""), rest, int(result), begin, end)


def _bytes(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", "")) if escaped.startswith("\\x") else escaped.encode()


@dataclass(frozen=True)
class Answer:
    """An answer 200 to a callback: its mark, when the request had arrived, and when the answer was sent."""

    mark: str
    arrived: int
    sent: int


def answers(traced: Sequence[Call]) -> list[Answer]:
    """Find every 200 with the callback that it answers, connection by connection."""
    received: dict[int, tuple[bytes, int]] = {}
    found = []
    for call in traced:
        if call.name in {"recvfrom", "read"} and call.path.startswith("socket:") and call.result > 0:
            received[call.handle] = received.get(call.handle, (b"", 0))[0] + call.data, call.end
        elif call.name in {"sendto", "sendmsg", "write"} and call.data.startswith(b"HTTP/1.1 "):
            request, arrived = received.pop(call.handle, (b"", 0))
            mark = MARK.search(request)
            if mark and call.data.startswith(b"HTTP/1.1 200"):
                found.append(Answer(mark[1].decode(), arrived, call.begin))
    return found


def too_early(traced: Sequence[Call]) -> list[str]:
    """Name every answer 200 that was sent before its callback's commit was on the disk.

    That is: the page with the callback was written to the WAL, then the frame that ends its commit, then a sync of the
    WAL ended well, and only then the answer began to be sent.
    """
    wal = [call for call in traced if call.is_wal and call.name in WRITES]
    syncs = [call for call in traced if call.is_wal and call.name in SYNCS and call.result == 0]
    written: dict[str, int] = {}
    for number, call in enumerate(wal):
        for mark in MARK.findall(call.data):
            written.setdefault(mark.decode(), number)
    faults = []
    for answer in answers(traced):
        if answer.mark not in written or wal[written[answer.mark]].begin > answer.sent:
            faults.append(f"{answer.mark}: answered before it was written")
            continue
        last = _commit_after(wal, written[answer.mark])
        if not any(last.end < sync.begin and sync.end < answer.sent for sync in syncs):
            faults.append(f"{answer.mark}: answered before its commit was synced")
    return faults


def _commit_after(wal: Sequence[Call], number: int) -> Call:
    """Find the last write of the commit that a write belongs to: the page after the head that says so."""
    for head, page in itertools.pairwise(wal[max(number - 1, 0) :]):
        if len(head.data) == FRAME_HEAD and any(head.data[4:8]):
            return page
    return wal[-1]
