"""What the page of one task shows besides its row: the allowed actions, its files, and the evidence for its end.

`routes` calls it. It changes nothing; whether an action is allowed follows the rules that guard the action itself.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from receiver.config.settings import Settings
from receiver.core.states import State, Via, may_move
from receiver.core.times import format_absolute
from receiver.documents import OutputDocument, StoredDocument, output_path
from receiver.lifecycle.transition import deadline_counts_from
from receiver.services import Services
from receiver.store.tables import History, Output, Task
from receiver.tasks.adoption import is_unclear
from receiver.tasks.submission import RETRYABLE
from receiver.web.pages.wording import MEANINGS, NEVER_ACCEPTED, SETTLED_BY, Meaning

PLAYABLE = frozenset({"video", "audio"})
SHOWN = PLAYABLE | {"image"}
"""What is shown of the archive; of another host nothing is loaded before somebody presses play."""


@dataclass(frozen=True, slots=True)
class Actions:
    """The allowed actions, and whether the account is configured; `price` is the estimate for ordering again."""

    configured: bool
    check: bool
    cancel: bool
    retry: bool
    adopt: bool
    price: float | None


@dataclass(frozen=True, slots=True)
class File:
    """One produced file: its URL and whether that may be a link, its player, and when it expires."""

    url: str
    kind: str
    is_link: bool
    player: str | None
    expires_at: int | None
    archive: str
    problem: str | None
    source: str
    """What a player loads: the copy in the archive, else the provider's link."""
    stored: StoredDocument | None


def actions(services: Services, task: Task) -> Actions:
    """Return what may be done to a task in its state."""
    provider = services.providers.get(task.provider)
    model = provider.models.get(task.model) if provider else None
    can_change = any(may_move(task.state, target, Via.CHECK) for target in State)
    return Actions(
        configured=provider is not None,
        check=provider is not None and task.remote_id is not None and can_change,
        cancel=may_move(task.state, State.CANCELLED, Via.HAND),
        retry=provider is not None and task.state in RETRYABLE,
        adopt=is_unclear(task.state, task.remote_id),
        price=model.estimate(task.input) if model else None,
    )


def meaning(task: Task, history: Sequence[History]) -> Meaning:
    """Return what a task's state means; a task that expired in the queue was never accepted."""
    moves = [row.data for row in history if row.kind == "move"]
    was_queued = task.state is State.EXPIRED and bool(moves) and moves[-1].get("from") == State.QUEUED
    return NEVER_ACCEPTED if was_queued else MEANINGS[task.state]


def deadline(services: Services, task: Task) -> int:
    """Return when a task expires if no result arrives."""
    return services.context(task.provider).schedule.due(deadline_counts_from(task))


def evidence(task: Task) -> list[str]:
    """Return sentences about what settled a task and why that is believed."""
    if task.settled_by is None:
        return []
    sentences = [f"{SETTLED_BY.get(task.settled_by, task.settled_by)} settled it."]
    if task.token_seen:
        sentences.append("It came to this task's own signed URL.")
    if task.signature:
        covered = {"body": "the whole body", "id": "the provider's id, not the body"}.get(task.signature)
        sentences.append(f"Its signature is valid and covers {covered or task.signature}.")
    if task.confirmed_at is not None and task.settled_by == Via.CALLBACK:
        sentences.append(f"A status check confirmed it at {format_absolute(task.confirmed_at)}.")
    return sentences


def files(settings: Settings, outputs: Sequence[Output], documents: Sequence[OutputDocument]) -> list[File]:
    """Return the produced files, each with how it may be shown."""
    return [_file(settings, output, document) for output, document in zip(outputs, documents, strict=True)]


def _file(settings: Settings, output: Output, document: OutputDocument) -> File:
    url, stored = document["url"], document["stored"]
    kind = stored["media_type"].partition("/")[0] if stored else document["kind"]
    shown = SHOWN if stored else PLAYABLE
    return File(
        url,
        document["kind"],
        is_link=is_web_address(url),
        player=kind if kind in shown and (stored or _may_play(settings, url)) else None,
        expires_at=output.expires_at,
        archive=document["archive"],
        problem=document["problem"],
        source=f"{settings.path_prefix}{output_path(output)}" if stored else url,
        stored=stored,
    )


def is_web_address(url: str) -> bool:
    """Return whether an untrusted URL may be a link: http or https, with a host, without invisible characters."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable() and " " not in url


def _may_play(settings: Settings, url: str) -> bool:
    """Return whether a URL may be played: https, or the sandbox's own address, which is plain http."""
    own = settings.sandbox and url.startswith(f"{settings.public_url}/")
    return is_web_address(url) and (own or url.lower().startswith("https://"))


def pretty(value: Any) -> str:
    """Return a JSON value as indented text."""
    return json.dumps(value, indent=2, ensure_ascii=False)
