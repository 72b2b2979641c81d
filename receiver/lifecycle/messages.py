"""Messages to the user's application: `add_message` writes one in the transaction of the change that it tells of.

`transition` calls it, and `archive` when all files of a task are stored. Nothing is sent from here: that is
`notifications`.
"""

from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from receiver.core.ids import new_message_id
from receiver.core.message_types import MessageType
from receiver.store import Transaction, notifications
from receiver.store.task_row import TaskRow


@dataclass(frozen=True, slots=True)
class MessageSettings:
    """Where messages go unless a task names its own URL, and which of them are sent."""

    url: str | None = None
    types: frozenset[MessageType] = frozenset(MessageType)


FOR_OWN_URLS = MessageSettings()
"""Only tasks with their own URL are told of."""


class MessageContext(Protocol):
    """What a message depends on besides its task."""

    @property
    def now(self) -> int:
        """Return the time in Unix milliseconds."""

    @property
    def messages(self) -> MessageSettings:
        """Return where messages go."""


def add_message(tx: Transaction, task: TaskRow, told: MessageType, context: MessageContext) -> None:
    """Write a message about a task, due at once, where somebody wants it.

    That all files are stored is told only once for each task.
    """
    url = task.notify_url or context.messages.url
    if url is None or told not in context.messages.types:
        return
    if told is MessageType.STORED and notifications.has_message(tx, task.id, told):
        return
    notifications.insert_message(
        tx,
        webhook_id=new_message_id(context.now),
        task_id=task.id,
        type=told.value,
        url=url,
        host=host_of(url),
        own_url=task.notify_url is not None,
        created_at=context.now,
        updated_at=context.now,
        next_try_at=context.now,
    )


def host_of(url: str) -> str:
    """Return the host of a URL with its port, as messages are counted by it."""
    return urlsplit(url).netloc.lower()
