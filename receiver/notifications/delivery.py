"""One try to deliver a claimed message: body kept -> signed -> posted -> recorded.

`sender` calls it for what is due, `resending` for what a person sends again. The body is on disk before it first
leaves, so that every repeat sends the same bytes under the same id.
"""

import asyncio
from dataclasses import dataclass

import structlog

from receiver.core.attention import Reason
from receiver.core.errors import StoreUnavailable
from receiver.core.signatures import parse_webhook_secret, sign_standard_webhook
from receiver.documents import format_timestamp, show, to_json
from receiver.notifications.retries import next_delay
from receiver.outbound.guard import ForbiddenLink
from receiver.outbound.webhooks import SEND_SECONDS, Undelivered, check_receiver
from receiver.services import LEASE_MARGIN_SECONDS, Services
from receiver.store import Transaction, Unit, attention, notifications
from receiver.store.notifications import Message

log = structlog.get_logger()

GONE = 410
STOPPED = "the service stopped before the receiver answered"


@dataclass(frozen=True, slots=True)
class Result:
    """How a try ended: the receiver's status, if it answered, and what was wrong, if anything."""

    status: int | None = None
    problem: str | None = None
    retry_after: float | None = None


def new_lease_end(services: Services) -> int:
    """Return when a lease on a message that is taken now ends: after the longest try."""
    return services.clock() + round((SEND_SECONDS + LEASE_MARGIN_SECONDS) * 1000)


async def deliver(services: Services, message: Message, until: int) -> None:
    """Try to deliver a message whose lease ends at `until`, and record what came of it."""
    delivery = _Delivery(services, message, until)
    try:
        await delivery.run()
    except StoreUnavailable:
        services.background.start(services.write_until_deadline(delivery.give_back))
        raise
    except asyncio.CancelledError:
        await asyncio.shield(services.store.write(delivery.give_back))
        raise


@dataclass(slots=True)
class _Delivery:
    """One try, from before the body is kept until its result is recorded."""

    services: Services
    message: Message
    until: int
    sent_at: int | None = None

    async def run(self) -> None:
        """Send the message and record how that ended; whatever goes wrong with it counts as a failed try."""
        try:
            body = self.message.body or await self._keep_body()
            if body is None:
                return
            self.sent_at = self.services.clock()
            if self.sent_at >= self.until:  # somebody else may be sending it by now
                self.sent_at = None
                await self.services.store.write(self.give_back)
                return
            result = await self._send(body, self.sent_at)
        except StoreUnavailable:
            raise
        except Exception as fault:  # it would be tried again without an end
            log.exception("notification_fault", id=self.message.webhook_id)
            result = Result(problem=f"an unexpected error ({type(fault).__name__}); the log has the details")
        await self.services.write_until_deadline(self._recording(result))
        log.info("notification", id=self.message.webhook_id, status=result.status, problem=result.problem)

    async def _keep_body(self) -> bytes | None:
        """Return the body, once it is on disk; None if somebody else has claimed the message."""
        services, message = self.services, self.message
        document = {
            "type": message.type,
            "timestamp": format_timestamp(message.created_at),
            "data": await show(services, message.task_id),
        }
        body = to_json(document).encode("ascii")
        return await services.store.write(lambda tx: notifications.keep_body(tx, message, body))

    async def _send(self, body: bytes, now: int) -> Result:
        services, message = self.services, self.message
        keys = [parse_webhook_secret(secret.get_secret_value()) for secret in services.settings.notify_secrets]
        headers = sign_standard_webhook(message.webhook_id, now // 1000, body, keys)
        try:
            guarded = message.own_url and check_receiver(message.url, services.settings.notify_hosts)
            answer = await services.webhooks.post(message.url, headers, body, guarded=guarded, now=now)
        except (ForbiddenLink, Undelivered) as error:
            return Result(problem=services.redactor.redact_text(str(error)))
        if 200 <= answer.status < 300:
            return Result(answer.status)
        return Result(answer.status, _describe(answer.status), answer.retry_after)

    def _recording(self, result: Result) -> Unit[None]:
        """Return the unit that records a try: delivered, to be tried again, or given up."""
        services, message = self.services, self.message
        delay = next_delay(message.tries + 1, services.chance(), result.retry_after)
        sent_at = self.sent_at or services.clock()

        def record(tx: Transaction) -> None:
            now = services.clock()
            notifications.add_try(tx, message, sent_at, result.status, result.problem)
            if result.problem is None:
                notifications.mark_delivered(tx, message, now)
            elif delay is not None and result.status != GONE:
                notifications.try_later(tx, message, now, now + round(delay * 1000))
            elif notifications.mark_failed(tx, message, now):
                attention.raise_reason(
                    tx, message.task_id, Reason.NOTIFICATION_FAILED, now, f"{message.type}: {result.problem}"
                )

        return record

    def give_back(self, tx: Transaction) -> None:
        """Give the lease back: the message is due at once, for whoever looks next."""
        now = self.services.clock()
        if self.sent_at is not None:
            notifications.add_try(tx, self.message, self.sent_at, None, STOPPED)
        notifications.try_later(tx, self.message, now, now, failed=False)


def _describe(status: int) -> str:
    if status == GONE:
        return "the receiver answered 410: it wants no more tries"
    redirected = ": redirects are not followed" if 300 <= status < 400 else ""
    return f"the receiver answered {status}{redirected}"
