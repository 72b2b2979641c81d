"""What the page of one task shows besides its row: what may be done to it, its files, and how its end is known.

`pages` calls it. It changes nothing; whether an action is allowed is asked of the same rules that guard the action.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from receiver.config.settings import Settings
from receiver.core.redaction import Redactor
from receiver.core.states import State, Via, may_move
from receiver.core.times import absolute
from receiver.lifecycle.transition import deadline_counts_from
from receiver.services import Services
from receiver.store.tables import History, Output, Task
from receiver.tasks.adoption import is_unclear
from receiver.tasks.submission import RETRYABLE
from receiver.web.pages.wording import MEANINGS, NEVER_TAKEN, SETTLED_BY, Meaning

PLAYED = frozenset({"video", "audio"})


@dataclass(frozen=True, slots=True)
class Actions:
    """What may be done to a task now, and whether its account is configured; `price` estimates ordering it again."""

    configured: bool
    check: bool
    cancel: bool
    retry: bool
    adopt: bool
    price: float | None


@dataclass(frozen=True, slots=True)
class File:
    """One produced file: whether its URL may be a link, how it can be played, and whether it has expired."""

    url: str
    kind: str
    link: bool
    player: str | None
    expires_at: int | None
    stored: str | None


def actions(services: Services, task: Task) -> Actions:
    """Say what may be done to a task in its state."""
    provider = services.providers.get(task.provider)
    model = provider.models.get(task.model) if provider else None
    news = any(may_move(task.state, target, Via.CHECK) for target in State)
    return Actions(
        configured=provider is not None,
        check=provider is not None and task.remote_id is not None and news,
        cancel=may_move(task.state, State.CANCELLED, Via.HAND),
        retry=provider is not None and task.state in RETRYABLE,
        adopt=is_unclear(task.state, task.remote_id),
        price=model.estimate(task.input) if model else None,
    )


def meaning(task: Task, history: Sequence[History]) -> Meaning:
    """Say what a task's state means; a task that expired in the queue was never taken."""
    moves = [row.data for row in history if row.kind == "move"]
    unsent = task.state is State.EXPIRED and bool(moves) and moves[-1].get("from") == State.QUEUED
    return NEVER_TAKEN if unsent else MEANINGS[task.state]


def deadline(services: Services, task: Task) -> int:
    """Return when a task expires if no end is heard of."""
    return services.context(task.provider).schedule.due(deadline_counts_from(task))


def evidence(task: Task) -> list[str]:
    """Say in sentences who told the end of a task and why that is believed."""
    if task.settled_by is None:
        return []
    sentences = [f"{SETTLED_BY.get(task.settled_by, task.settled_by)} settled it."]
    if task.token_seen:
        sentences.append("It came to this task's own signed address.")
    if task.signature:
        covered = {"body": "the whole body", "id": "the provider's id, not the body"}.get(task.signature)
        sentences.append(f"Its signature is valid and covers {covered or task.signature}.")
    if task.confirmed_at is not None and task.settled_by == Via.CALLBACK:
        sentences.append(f"The provider confirmed it when asked, {absolute(task.confirmed_at)}.")
    return sentences


def files(settings: Settings, outputs: Sequence[Output], redactor: Redactor) -> list[File]:
    """Say how each produced file may be shown."""
    return [
        File(
            url := redactor.redact_url(output.url),
            output.kind,
            link=is_web_address(url),
            player=output.kind if output.kind in PLAYED and _may_play(settings, url) else None,
            expires_at=output.expires_at,
            stored=output.stored,
        )
        for output in outputs
    ]


def is_web_address(url: str) -> bool:
    """Tell whether a stranger's URL may be a link: http or https to a host, and nothing unseen in it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable() and " " not in url


def _may_play(settings: Settings, url: str) -> bool:
    """Allow https; in the sandbox also its own address, which is plain http."""
    own = settings.sandbox and url.startswith(f"{settings.public_url}/")
    return is_web_address(url) and (own or url.lower().startswith("https://"))


def pretty(value: Any) -> str:
    """Write a JSON value for reading."""
    return json.dumps(value, indent=2, ensure_ascii=False)
