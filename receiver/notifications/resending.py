"""Messages as documents, and sending one again: what the API and the command line show and do."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

from pydantic import WithJsonSchema
from typing_extensions import TypedDict  # pydantic reads that of `typing` only from Python 3.12 on

from receiver.core.attention import Reason
from receiver.core.errors import NotFound
from receiver.core.redaction import Redactor
from receiver.documents import Timestamp, format_timestamp
from receiver.lifecycle.messages import host_of
from receiver.notifications.delivery import deliver, new_lease_end
from receiver.services import Services
from receiver.store import Session, Transaction, attention, notifications
from receiver.store.notifications import Message, MessageFilter
from receiver.store.tables import Notification, NotificationTry


class TryDocument(TypedDict):
    """One try to deliver a message."""

    at: Timestamp
    status: int | None
    problem: str | None


class NotificationDocument(TypedDict):
    """One message to the user's application. `id` is its `webhook-id`."""

    id: str
    task: str
    type: str
    url: str
    state: Annotated[str, WithJsonSchema({"enum": list(notifications.STATES)})]
    tries: list[TryDocument]
    created_at: Timestamp
    next_try_at: Timestamp


async def show_notification(services: Services, webhook_id: str) -> NotificationDocument:
    """Return a message's document; raises `NotFound`."""
    found = await services.store.read(
        lambda session: [
            notification_document(message, notifications.tries_of(session, [message]), services.redactor)
            for message in (notifications.find_message(session, webhook_id),)
            if message is not None
        ]
    )
    if not found:
        raise NotFound(f"There is no notification {webhook_id[:60]}.")
    return found[0]


async def list_notifications(
    services: Services, wanted: MessageFilter
) -> tuple[list[NotificationDocument], str | None]:
    """Return the documents of the messages that a filter lets through, and the cursor to what follows, if any."""

    def query(session: Session) -> Sequence[NotificationDocument]:
        found = notifications.list_messages(session, wanted)
        tries = notifications.tries_of(session, found)
        return [notification_document(message, tries, services.redactor) for message in found]

    listed = list(await services.store.read(query))
    return listed, listed[-1]["id"] if len(listed) == wanted.limit else None


async def send_again(services: Services, webhook_id: str) -> None:
    """Send a message now, whatever became of it, unless it is being sent; raises `NotFound`.

    If that fails, the schedule begins anew. The try goes on even if its caller is cancelled.
    """
    await show_notification(services, webhook_id)
    until = new_lease_end(services)

    def claim(tx: Transaction) -> Message | None:
        url = services.settings.notify_url
        if url is not None:
            notifications.redirect_one(tx, webhook_id, url, host_of(url))
        message = notifications.claim_one(tx, webhook_id, services.clock(), until)
        if message is not None and not notifications.has_failed_message(tx, message.task_id):
            attention.clear(tx, message.task_id, Reason.NOTIFICATION_FAILED)
        return message

    message = await services.store.write(claim)
    if message is not None:
        await asyncio.shield(services.background.start(deliver(services, message, until)))


def notification_document(
    message: Notification, tries: dict[int, list[NotificationTry]], redactor: Redactor
) -> NotificationDocument:
    """Return the document of one message, its URL without secrets of ours."""
    return {
        "id": message.webhook_id,
        "task": message.task_id,
        "type": message.type,
        "url": redactor.redact_url(message.url),
        "state": message.state,
        "tries": [
            {"at": format_timestamp(one.at), "status": one.status, "problem": one.problem}
            for one in tries.get(message.id or 0, [])
        ],
        "created_at": format_timestamp(message.created_at),
        "next_try_at": format_timestamp(message.next_try_at),
    }
