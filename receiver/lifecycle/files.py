"""What becomes of a produced file: stored, tried again, its link asked for anew, or given up.

`archive` calls these inside transactions. They change the file's row and what follows from it for its task; a task's
state never depends on its files.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from receiver.core.attention import Reason
from receiver.core.errors import DownloadBroken, DownloadError, LinkDead, LinkRefused
from receiver.core.message_types import MessageType
from receiver.core.messages import Output
from receiver.lifecycle.messages import add_message
from receiver.lifecycle.schedule import Plan, delay
from receiver.lifecycle.transition import Context, write_changes
from receiver.store import Transaction, attention, files, journal, tasks
from receiver.store.files import FileRow
from receiver.store.task_row import TaskChanges

FIRST_PAUSE = 3.0
LONGEST_PAUSE = 600.0
"""Seconds between two tries of a download."""
OF_STORAGE = "RECEIVER_ARCHIVE"
"""What every problem of our own storage names."""
FULL_PAUSE = 60.0
"""Seconds until a storage without room is looked at again."""
FRESH_LINK_SECONDS = 120.0
"""For how long the provider is asked for a new link before the old one is tried once more."""
TRIES_BEFORE_ATTENTION = 10
"""Failed tries of one download after which a person should look: by then it has failed for ten minutes."""
UNKNOWN_END = 72 * 3600.0
"""Seconds for which a link is tried whose end no document gives."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What was stored: under which name, how much, and what it is."""

    name: str
    size: int
    sha256: str
    media_type: str


def file_columns(output: Output, expires_at: int | None, context: Context) -> dict[str, Any]:
    """Return the columns of a new file's row: it is downloaded at once, unless there is no archive."""
    columns = {"url": output.url, "kind": output.kind, "expires_at": expires_at}
    if not context.archives:
        return columns
    return columns | {"archive": files.WAITING, "host": _host(output.url), "fetch_at": context.now}


def relink(tx: Transaction, task_id: str, outputs: tuple[dict[str, Any], ...], context: Context) -> None:
    """Give the files of a task that are not stored the links that the provider named now."""
    for position, columns in enumerate(outputs):
        fresh = {"url": columns["url"], "expires_at": columns["expires_at"], "host": _host(columns["url"])}
        files.relink(tx, task_id, position, **fresh, link_refreshed=True, fetch_at=context.now, fetch_leased_until=None)


def fetch_again(tx: Transaction, output_id: int, now: int) -> bool:
    """Let a file be downloaded that failed or was never to be; returns False where it waits already, or is stored."""
    row = files.current(tx, output_id)
    return row is not None and files.fetch_again(tx, row, _host(row.url), now)


def file_stored(tx: Transaction, row: FileRow, found: StoredFile, context: Context) -> bool:
    """Record that a file is stored, and tell of it once all files of its task are; returns False where somebody else
    has claimed it since."""
    task = tasks.current(tx, row.task_id)  # first: of two files stored at once, the later one has to see the other
    stored = files.change(
        tx,
        row,
        archive=files.STORED,
        problem=None,
        stored=found.name,
        bytes=found.size,
        sha256=found.sha256,
        media_type=found.media_type,
        stored_at=context.now,
        fetch_at=None,
        fetch_leased_until=None,
    )
    if stored:
        attention.clear(tx, row.task_id, *_reasons_over(tx, row.task_id))
        words = f"Output {row.position} was stored: {found.size:,} bytes, {found.media_type}."
        journal.note(tx, row.task_id, context.now, "note", {"text": words})
        if task is not None and set(files.states(tx, row.task_id)) == {files.STORED}:
            add_message(tx, task, MessageType.STORED, context)
    return stored


def storage_failed(tx: Transaction, row: FileRow, problem: str, context: Context) -> None:
    """Record that a file could not be stored because of our own storage: it is tried again, and that is no try."""
    if context.now >= _end(row):
        _give_up(tx, row, f"{problem} Until its link ended, it could not be stored.", context)
        return
    later = min(context.now + round(FULL_PAUSE * 1000), _end(row))
    is_news = OF_STORAGE not in (row.problem or "")
    if files.change(tx, row, problem=problem, fetch_at=later, fetch_leased_until=None) and is_news:
        attention.raise_reason(tx, row.task_id, Reason.NOT_ARCHIVED, context.now, problem)


def download_failed(tx: Transaction, row: FileRow, error: DownloadError, context: Context) -> tuple[bool, bool]:
    """Record that a download failed, and plan what comes next.

    Returns whether the provider is to be asked now, and whether the file was given up.
    """
    words = context.redact(f"{error}.")
    if isinstance(error, LinkRefused) or (isinstance(error, LinkDead) and row.link_refreshed):
        return False, _give_up(tx, row, words, context)
    if isinstance(error, LinkDead) and _ask_for_fresh_links(tx, row, words, context):
        return True, False
    if context.now >= _end(row):
        return False, _give_up(tx, row, words, context)
    asked = error.retry_after if isinstance(error, DownloadBroken) else None
    grown = delay(row.fetch_tries, FIRST_PAUSE, LONGEST_PAUSE, context.chance)
    _retry(tx, row, words, min(context.now + round(1000 * (asked or grown)), _end(row)))
    return False, False


def _ask_for_fresh_links(tx: Transaction, row: FileRow, words: str, context: Context) -> bool:
    """Make the task due for one check, which may bring new links; the old one is tried again if it does not."""
    task = tasks.current(tx, row.task_id)
    if task is None or task.remote_id is None:
        return False
    until = context.now + round(FRESH_LINK_SECONDS * 1000)
    if not _retry(tx, row, words, until, link_refreshed=True):
        return False
    plan = Plan(context.now, "A link to its result is dead; the provider is asked for a new one.")
    return write_changes(tx, task, context, plan.changes() | TaskChanges(fresh_links_until=until))


def _retry(tx: Transaction, row: FileRow, words: str, at: int, **values: Any) -> bool:
    tried = row.fetch_tries + 1
    if not files.change(tx, row, problem=words, fetch_at=at, fetch_tries=tried, fetch_leased_until=None, **values):
        return False
    if tried == TRIES_BEFORE_ATTENTION:
        attention.raise_reason(tx, row.task_id, Reason.NOT_ARCHIVED, at, words)
    return True


def _give_up(tx: Transaction, row: FileRow, words: str, context: Context) -> bool:
    failed = files.change(
        tx, row, archive=files.FAILED, problem=words, stored=None, fetch_at=None, fetch_leased_until=None
    )
    if failed:
        text = f"Output {row.position} was not stored: {words}"
        journal.note(tx, row.task_id, context.now, "note", {"text": text})
        attention.clear(tx, row.task_id, Reason.NOT_ARCHIVED)
        attention.raise_reason(tx, row.task_id, Reason.RESULT_LOST, context.now, words)
    return failed


def _reasons_over(tx: Transaction, task_id: str) -> list[str]:
    """Return the reasons to look at a task that a file which is stored now has ended, unless another file has them."""
    left = files.states(tx, task_id)
    ended = {Reason.NOT_ARCHIVED: files.WAITING, Reason.RESULT_LOST: files.FAILED}
    return [reason for reason, state in ended.items() if state not in left]


def _end(row: FileRow) -> int:
    """Return until when a file is tried: its link's end, where that is known."""
    if row.expires_at is not None:
        return row.expires_at
    return (row.finished_at or row.created_at) + round(UNKNOWN_END * 1000)


def _host(url: str) -> str:
    """Return the host of a link, for sharing out downloads; what is no URL is refused when it is downloaded."""
    try:
        return (urlsplit(url).netloc.rpartition("@")[2] or "-").lower()[:255]
    except ValueError:
        return "-"
