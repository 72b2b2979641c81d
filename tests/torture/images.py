"""The disks that a power cut could have left, made from a trace: what was not synced is there, gone, torn or late.

Only the database and its WAL are files in this sense; the index beside them (`-shm`) is memory, and lost with it.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.trace import SYNCS, WRITES, Call

SECTOR = 512
FILES = ("", "-wal")
"""What a database consists of on the disk, as endings of its path."""
KINDS = ("nothing of it", "all of it", "some of it", "some of it, torn", "in another order")
"""What is left of the writes that were not synced."""


@dataclass
class File:
    """One file: what is surely on the disk, and what was written since."""

    durable: bytearray
    pending: list[Call] = field(default_factory=list)

    def sync(self) -> None:
        """Everything that was written is on the disk now."""
        for call in self.pending:
            _apply(self.durable, call, len(call.data))
        self.pending.clear()

    def left(self, kind: str, chance: random.Random) -> bytes:
        """Say what a power cut at this moment leaves."""
        content = bytearray(self.durable)
        calls = list(self.pending)
        if kind == "nothing of it":
            calls = []
        elif kind in {"some of it", "some of it, torn"}:
            calls = [call for call in calls if chance.random() < 0.5]
        elif kind == "in another order":
            chance.shuffle(calls)
            calls = calls[: chance.randint(0, len(calls))]
        for call in calls:
            whole = len(call.data)
            torn = kind == "some of it, torn" and whole > SECTOR and chance.random() < 0.5
            _apply(content, call, SECTOR * chance.randint(1, whole // SECTOR) if torn else whole)
        return bytes(content)


def _apply(content: bytearray, call: Call, length: int) -> None:
    if call.name == "ftruncate":
        del content[call.offset :]
        content.extend(bytes(call.offset - len(content)))
        return
    content.extend(bytes(max(0, call.offset - len(content))))
    content[call.offset : call.offset + length] = call.data[:length]


def images(
    traced: Sequence[Call], base: dict[str, bytes], cuts: set[int], chance: random.Random
) -> Iterator[tuple[int, str, dict[str, bytes]]]:
    """Cut the power before each of these calls; gives the trace's line, the kind, and the files by their ending.

    `base` is how the files stood, synced, before the trace began.
    """
    files = {ending: File(bytearray(base[ending])) for ending in FILES}
    for number, call in enumerate(traced):
        if number in cuts:
            for kind in KINDS:
                yield call.begin, kind, {ending: file.left(kind, chance) for ending, file in files.items()}
        ending = _ending(call.path)
        if ending is None or call.result < 0:
            continue
        if call.name in SYNCS:
            files[ending].sync()
        elif call.name in WRITES or call.name == "ftruncate":
            files[ending].pending.append(call)


def _ending(path: str) -> str | None:
    return next((ending for ending in reversed(FILES) if path.endswith(f".db{ending}")), None)


def lay_out(files: dict[str, bytes], database: Path) -> None:
    """Write an image to where it can be opened."""
    for old in database.parent.glob(f"{database.name}*"):
        old.unlink()
    for ending, content in files.items():
        database.with_name(database.name + ending).write_bytes(content)
