"""A callback's way in: token -> signature -> store the bytes -> read -> apply -> the task is due where that is to ask.

`web.callbacks` calls it, and `replay` takes what is stored the same way. What it returns was stored durably; it never
calls out on a callback's word, and what a callback says is only applied to the task whose token it came with.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from receiver.core import wire
from receiver.core.errors import Conflict, Forged, NotFound, StoreUnavailable, Unreadable
from receiver.core.links import NOT_FOUND
from receiver.core.messages import Callback, Event, Evidence, Outcome, Source
from receiver.core.states import FINAL, Via
from receiver.lifecycle.apply import apply, names_other_task
from receiver.lifecycle.pending import Pending
from receiver.lifecycle.plans import NEWS
from receiver.lifecycle.schedule import Plan
from receiver.lifecycle.transition import Context, add_notices, write_changes
from receiver.providers.base import Provider
from receiver.services import Services
from receiver.store import Transaction, journal, tasks
from receiver.store.tables import as_json
from receiver.store.task_row import TaskChanges, TaskRow
from receiver.tasks.checks import check_now

log = structlog.get_logger()

MAX_HELD_DELIVERIES = 1000
"""Callbacks to one account that wait for an id that no task has: the latest so many are kept."""
MAX_KEPT_DELIVERIES = 100
"""Deliveries kept of one task; what further ones say still counts, but they are only counted."""
UNHURRIED = f"More than {MAX_KEPT_DELIVERIES} callbacks came, so that further ones cause no check at once."
NO_SIGNATURE = Evidence()
NEEDS_CHECK = frozenset({Outcome.CONFIRMING, Outcome.UNREADABLE, Outcome.FORGED})


@dataclass(frozen=True, slots=True)
class Address:
    """Whose callback a URL is for: a task's, or an account's, where the body has to name the task."""

    provider: Provider
    task_id: str | None


def address(services: Services, account: str, token: str) -> Address:
    """Read the two parts of a callback URL; raises `NotFound` where they are not one of ours: nothing more is told."""
    provider = services.providers.get(account)
    task_id = services.links.read_task_id(account, token) if provider else None
    if provider is None or (task_id is None and not services.links.is_account_token(account, token)):
        raise NotFound(NOT_FOUND)
    return Address(provider, task_id)


async def receive(services: Services, to: Address, headers: Mapping[str, str], body: bytes) -> Outcome:
    """Store one callback and let it change its task; returns its outcome once it is durable.

    Header names are in lower case. Raises `Forged` (stored all the same), `StoreUnavailable` (nothing was stored),
    and `NotFound` where the task is not in this database.
    """
    context = services.context(to.provider.name)
    callback = Callback(headers, body, context.now)
    parsed = parse_callback(to.provider, callback)
    stored = await _store(services, IncomingDelivery(to, callback, parsed, services.settings.confirm, context))
    if stored is None:
        raise NotFound(NOT_FOUND)
    if stored.due_task is not None:
        services.due_now.notify(to.provider.name, stored.due_task)
    if stored.outcome is Outcome.FORGED:
        raise Forged("The signature is missing, wrong or too old.")
    return stored.outcome


@dataclass(frozen=True, slots=True)
class ParsedCallback:
    """What a callback says: an event, or why there is none (`rejection`: forged or unreadable).

    `fault` names the fault of ours for which it could not be read, if there was one.
    """

    event: Event | None = None
    evidence: Evidence = NO_SIGNATURE
    rejection: Outcome | None = None
    fault: str | None = None


def parse_callback(provider: Provider, callback: Callback) -> ParsedCallback:
    """Check a callback's signature, then read it; raises nothing, whatever the provider's adapter does."""
    try:
        evidence = provider.verify(callback)
        return ParsedCallback(provider.read(callback), evidence)
    except Forged:
        return ParsedCallback(rejection=Outcome.FORGED)
    except Unreadable:
        return ParsedCallback(rejection=Outcome.UNREADABLE)
    except Exception as error:  # noqa: BLE001 - whatever an adapter does, the bytes are stored
        return _adapter_failed(provider, error)


def _adapter_failed(provider: Provider, error: Exception) -> ParsedCallback:
    """Return that a callback is unreadable for a fault of ours; called where that is handled, for its traceback."""
    log.exception("callback_not_read", provider=provider.name)
    return ParsedCallback(rejection=Outcome.UNREADABLE, fault=type(error).__name__)


async def _store(services: Services, delivery: "IncomingDelivery") -> "StoredDelivery | None":
    """Store a callback and let it change its task; what cannot be applied is stored all the same."""
    try:
        return await services.store.write(delivery.store)
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - whatever an adapter made of it, the bytes are stored
        parsed = _adapter_failed(delivery.to.provider, error)
        return await services.store.write(replace(delivery, parsed=parsed).store)


@dataclass(frozen=True, slots=True)
class StoredDelivery:
    """A callback that was stored: its outcome, and its task's id where the provider is to be asked about it now."""

    outcome: Outcome
    due_task: str | None = None


@dataclass(frozen=True, slots=True)
class IncomingDelivery:
    """One callback on its way into its task. `confirm` is the setting `RECEIVER_CONFIRM`."""

    to: Address
    callback: Callback
    parsed: ParsedCallback
    confirm: str
    context: Context

    def store(self, tx: Transaction) -> StoredDelivery | None:
        """Store the delivery and let what it says change its task.

        Returns None where the task of its URL is not in this database.
        """
        task_id = self.to.task_id or self.find_task(tx)
        if task_id is None:
            return StoredDelivery(self._hold(tx))
        task = tasks.current(tx, task_id)
        if task is None:
            return None
        outcome = self._store_for_task(tx, task)
        is_due = task.next_check_at is not None and task.next_check_at <= self.context.now
        return StoredDelivery(outcome, task_id if is_due and outcome in NEEDS_CHECK else None)

    def find_task(self, tx: Transaction) -> str | None:
        """Return the id of the task that a callback to the account names, if any."""
        event = self.parsed.event
        if event is None or event.remote_id is None:
            return None
        return tasks.by_remote(tx, self.to.provider.name, event.remote_id)

    def _hold(self, tx: Transaction) -> Outcome:
        """Keep a callback to the account that names no task of ours: its id may still be learned."""
        account = self.to.provider.name
        if journal.count_held(tx, account) >= MAX_HELD_DELIVERIES:
            # An account may serve others, too: their callbacks must never keep ours out.
            journal.drop_oldest_held(tx, account)
        columns = self.held_columns()
        self._add_delivery(tx, task_id=None, history_id=None, **columns)
        return Outcome(columns["outcome"])

    def held_columns(self) -> dict[str, Any]:
        """Return the columns of a delivery that no task has yet; its event is applied when a task learns its id."""
        event = self.parsed.event
        held = Outcome.HELD if event is not None and event.remote_id else Outcome.UNMATCHED
        is_final = event is not None and event.state in FINAL
        pending = Pending(event, self._source(believed=False), self.context.now) if event and is_final else None
        return {
            "outcome": (self.parsed.rejection or held).value,
            "remote_id": event.remote_id if event else None,
            "event": as_json(pending.as_column()) if pending else None,
        }

    def _store_for_task(self, tx: Transaction, task: TaskRow) -> Outcome:
        if task.deliveries >= MAX_KEPT_DELIVERIES:
            return self._count(tx, task)
        # Its place in the history is before what it changes.
        history_id = journal.note(tx, task.id, self.context.now, "delivery")
        outcome = self.change_task(tx, task, {"deliveries": task.deliveries + 1})
        if self.parsed.event is not None and self.parsed.event.found_at is not None:
            journal.complete_note(tx, history_id, {"found_at": self.parsed.event.found_at})
        self._add_delivery(tx, task_id=task.id, history_id=history_id, outcome=outcome.value)
        return outcome

    def _count(self, tx: Transaction, task: TaskRow) -> Outcome:
        """Let a callback beyond the bound change its task, without keeping it; it makes no check due at once."""
        words = (
            f"More than {MAX_KEPT_DELIVERIES} callbacks arrived. Later ones are applied and counted, but not stored."
        )
        scheduled, why, now = task.next_check_at, task.next_check_because, self.context.now
        changes: TaskChanges = {"unstored": task.unstored + 1}
        outcome = self.change_task(tx, task, changes | add_notices(task.notices, words))
        was_due = scheduled is not None and scheduled <= now
        if task.next_check_at is not None and task.next_check_at <= now and not was_due:
            pause = self.context.schedule.growing_pause(task.gaps, self.context.chance)
            plan = (
                Plan(now + round(pause * 1000), UNHURRIED) if scheduled is None else Plan(scheduled, why or UNHURRIED)
            )
            write_changes(tx, task, self.context, plan.changes())
        return outcome

    def _add_delivery(self, tx: Transaction, **values: Any) -> None:
        journal.add_delivery(
            tx,
            provider=self.to.provider.name,
            received_at=self.callback.received_at,
            headers=as_json({name: wire.clean_text(value) for name, value in self.callback.headers.items()}),
            body=self.callback.body,
            **values,
        )

    def _source(self, *, believed: bool) -> Source:
        return Source(
            Via.CALLBACK,
            trusted=believed,
            token=self.to.task_id is not None,
            signature=self.parsed.evidence.signature,
            heard_at=self.callback.received_at,
        )

    def change_task(self, tx: Transaction, task: TaskRow, changes: TaskChanges) -> Outcome:
        """Let the callback change the task; `changes` are written in any case."""
        event = self.parsed.event
        if event is None:
            write_changes(tx, task, self.context, changes | self._unread(task, changes))
            return self.parsed.rejection or Outcome.UNREADABLE
        if _is_of_other_task(tx, task, event):
            write_changes(tx, task, self.context, changes)
            return Outcome.UNMATCHED
        source = self._source(believed=self.confirm == "never" or not self._is_weak(task, event))
        outcome = apply(tx, task, event, source, self.context, changes=changes)
        if outcome is Outcome.CONFIRMING and task.remote_id is not None and task.next_check_at is None:
            # A cancelled task is asked about once.
            write_changes(tx, task, self.context, Plan(self.context.now, NEWS).changes())
        return outcome

    def _unread(self, task: TaskRow, changes: TaskChanges) -> TaskChanges:
        """Return what a callback without an event changes: the provider is asked instead."""
        more: TaskChanges = {}
        if task.remote_id is not None:
            more |= Plan(self.context.now, NEWS).changes()
        if self.parsed.fault is None:
            return more
        words = (
            f"A callback could not be read because of an error in this service ({self.parsed.fault})."
            " It is stored; replay it after the fix."
        )
        return more | add_notices(changes.get("notices", task.notices), words)

    def _is_weak(self, task: TaskRow, event: Event) -> bool:
        """Return whether the provider should confirm this before it counts."""
        contradicts = event.state in FINAL and task.state in FINAL and event.state is not task.state
        return (
            self.confirm == "always"
            or self.to.provider.needs_confirmation
            or event.is_empty_success
            or contradicts
            or event.remote_id is None
            or self.parsed.evidence.signature == "id"
        )


def _is_of_other_task(tx: Transaction, task: TaskRow, event: Event) -> bool:
    """Return whether a body names another task: by an id that is not this task's, or that another one holds."""
    if event.remote_id is None or task.remote_id is not None:
        return names_other_task(task, event)
    return tasks.by_remote(tx, task.provider, event.remote_id) is not None


async def check_after_delivery(services: Services, task_id: str) -> None:
    """Ask the provider now; where there is nothing to ask about, the task's own time comes."""
    try:
        await check_now(services, task_id)
    except (NotFound, Conflict):
        log.debug("nothing_to_ask", task=task_id)
