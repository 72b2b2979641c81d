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
from receiver.core.links import NOWHERE
from receiver.core.messages import Callback, Event, Evidence, Outcome, Source
from receiver.core.states import FINAL, Via
from receiver.lifecycle import pending
from receiver.lifecycle.apply import apply
from receiver.lifecycle.transition import Context, Row, notice, write
from receiver.providers.base import Provider
from receiver.services import Services
from receiver.store import Transaction, journal, tasks
from receiver.store.tables import as_json
from receiver.tasks.checks import check_now

log = structlog.get_logger()

MAX_HELD = 1000
"""Callbacks to one account that wait for an id that no task has: the latest so many are kept."""
MAX_STORED = 100
"""Deliveries kept of one task; what further ones say still counts, but they are only counted."""
NO_SIGNATURE = Evidence()
ASK = frozenset({Outcome.CONFIRMING, Outcome.UNREADABLE, Outcome.FORGED})


@dataclass(frozen=True, slots=True)
class Address:
    """Whose callback a URL is for: a task's, or an account's, where the body has to name the task."""

    provider: Provider
    task_id: str | None


def address(services: Services, account: str, token: str) -> Address:
    """Read the two parts of a callback URL; raises `NotFound` where they are not one of ours: nothing more is told."""
    provider = services.providers.get(account)
    task_id = services.links.task_of(account, token) if provider else None
    if provider is None or (task_id is None and not services.links.is_account(account, token)):
        raise NotFound(NOWHERE)
    return Address(provider, task_id)


async def receive(services: Services, to: Address, headers: Mapping[str, str], body: bytes) -> Outcome:
    """Take one callback; returns its outcome once it is durable.

    Header names are in lower case. Raises `Forged` (stored all the same), `StoreUnavailable` (nothing was stored),
    and `NotFound` where the task is not in this database.
    """
    context = services.context(to.provider.name)
    callback = Callback(headers, body, context.now)
    said = read_callback(to.provider, callback)
    taken = await _take_in(services, Delivered(to, callback, said, services.settings.confirm, context))
    if taken is None:
        raise NotFound(NOWHERE)
    if taken.due_task is not None:
        services.due_now.tell(to.provider.name, taken.due_task)
    if taken.outcome is Outcome.FORGED:
        raise Forged("The signature is missing, wrong or too old.")
    return taken.outcome


@dataclass(frozen=True, slots=True)
class Said:
    """What a callback says: an event, or none where it is `flawed` (forged or unreadable).

    `fault` names the fault of ours for which it could not be read, if there was one.
    """

    event: Event | None = None
    evidence: Evidence = NO_SIGNATURE
    flaw: Outcome | None = None
    fault: str | None = None


def read_callback(provider: Provider, callback: Callback) -> Said:
    """Check a callback's signature, then read it; raises nothing, whatever the provider's adapter does."""
    try:
        evidence = provider.verify(callback)
        return Said(provider.read(callback), evidence)
    except Forged:
        return Said(flaw=Outcome.FORGED)
    except Unreadable:
        return Said(flaw=Outcome.UNREADABLE)
    except Exception as error:  # noqa: BLE001 - whatever an adapter does, the bytes are stored
        return _unforeseen(provider, error)


def _unforeseen(provider: Provider, error: Exception) -> Said:
    """Take a callback for unreadable for a fault of ours; to be called where that is handled, for its traceback."""
    log.exception("callback_not_read", provider=provider.name)
    return Said(flaw=Outcome.UNREADABLE, fault=type(error).__name__)


async def _take_in(services: Services, delivered: "Delivered") -> "Taken | None":
    """Store a callback and let it change its task; what cannot be applied is stored all the same."""
    try:
        return await services.store.write(delivered.take_in)
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - whatever an adapter made of it, the bytes are stored
        said = _unforeseen(delivered.to.provider, error)
        return await services.store.write(replace(delivered, said=said).take_in)


async def ask(services: Services, task_id: str) -> None:
    """Ask the provider now; where there is nothing to ask about, the task's own time comes."""
    try:
        await check_now(services, task_id)
    except (NotFound, Conflict):
        log.debug("nothing_to_ask", task=task_id)


@dataclass(frozen=True, slots=True)
class Taken:
    """A callback that was stored: its outcome, and its task's id where the provider is to be asked about it now."""

    outcome: Outcome
    due_task: str | None = None


@dataclass(frozen=True, slots=True)
class Delivered:
    """One callback on its way into its task."""

    to: Address
    callback: Callback
    said: Said
    confirm: str
    context: Context

    def take_in(self, tx: Transaction) -> Taken | None:
        """Store the delivery and let what it says change its task.

        Returns None where the task of its URL is not in this database.
        """
        task_id = self.to.task_id or self.named(tx)
        if task_id is None:
            return Taken(self._hold(tx))
        task = tasks.current(tx, task_id)
        if task is None:
            return None
        outcome, planned = self._deliver(tx, task), task["next_check_at"]
        is_due = outcome in ASK and planned is not None and planned <= self.context.now
        return Taken(outcome, task_id if is_due else None)

    def named(self, tx: Transaction) -> str | None:
        """Find the task that a callback to the account names."""
        told = self.said.event.remote_id if self.said.event else None
        return None if told is None else tasks.by_remote(tx, self.to.provider.name, told)

    def _hold(self, tx: Transaction) -> Outcome:
        """Keep a callback to the account that names no task of ours: its id may still be learned."""
        account = self.to.provider.name
        if journal.holding(tx, account) >= MAX_HELD:
            # An account may serve others, too: their news must never keep ours out.
            journal.drop_oldest_held(tx, account)
        waiting = self.waiting()
        self._add(tx, task_id=None, history_id=None, **waiting)
        return Outcome(waiting["outcome"])

    def waiting(self) -> dict[str, Any]:
        """Return the columns of a delivery that no task has: what it says is taken when a task learns its id."""
        event = self.said.event
        final = event is not None and event.state in FINAL
        outcome = self.said.flaw or (Outcome.HELD if event and event.remote_id else Outcome.UNMATCHED)
        return {
            "outcome": outcome.value,
            "remote_id": event.remote_id if event else None,
            "event": as_json(pending.dump(event, self._source(believed=False), self.context.now))
            if event and final
            else None,
        }

    def _deliver(self, tx: Transaction, task: Row) -> Outcome:
        if task["deliveries"] >= MAX_STORED:
            words = f"More than {MAX_STORED} callbacks came; further ones are counted, not kept."
            planned = task["next_check_at"]
            outcome = self.change(tx, task, {"unstored": task["unstored"] + 1} | notice(task, words))
            self._do_not_hurry(tx, task, planned)
            return outcome
        # Its place in the history is before what it changes.
        history_id = journal.note(tx, task["id"], self.context.now, "delivery")
        outcome = self.change(tx, task, {"deliveries": task["deliveries"] + 1})
        if self.said.event is not None and self.said.event.found_at is not None:
            journal.tell(tx, history_id, {"found_at": self.said.event.found_at})
        self._add(tx, task_id=task["id"], history_id=history_id, outcome=outcome.value)
        return outcome

    def _do_not_hurry(self, tx: Transaction, task: Row, planned: int | None) -> None:
        """Leave the next check where it was planned: callbacks beyond the bound cause none at once."""
        made, now = task["next_check_at"], self.context.now
        if made is None or made > now or (planned is not None and planned <= now):
            return
        if planned is None:
            planned = self.context.schedule.next_try(now, now, task["gaps"], self.context.chance)
        write(tx, task, self.context, {"next_check_at": planned})

    def _add(self, tx: Transaction, **values: Any) -> None:
        journal.add_delivery(
            tx,
            provider=self.to.provider.name,
            received_at=self.callback.received_at,
            headers=as_json({name: wire.clean(value) for name, value in self.callback.headers.items()}),
            body=self.callback.body,
            **values,
        )

    def _source(self, *, believed: bool) -> Source:
        return Source(
            Via.CALLBACK,
            believed=believed,
            token=self.to.task_id is not None,
            signature=self.said.evidence.signature,
        )

    def change(self, tx: Transaction, task: Row, facts: dict[str, Any]) -> Outcome:
        """Let what it says change the task; `facts` are written in any case."""
        event = self.said.event
        if event is None:
            if task["remote_id"] is not None:
                facts["next_check_at"] = self.context.now
            if self.said.fault is not None:
                words = f"A callback could not be read, for a fault of this service ({self.said.fault}); it is kept."
                facts |= notice(task | facts, words)
            write(tx, task, self.context, facts)
            return self.said.flaw or Outcome.UNREADABLE
        if _names_another(tx, task, event):
            write(tx, task, self.context, facts)
            return Outcome.UNMATCHED
        weak = self.confirm == "always" or self.to.provider.needs_confirmation or _weak(task, event, self.said.evidence)
        source = self._source(believed=self.confirm == "never" or not weak)
        outcome = apply(tx, task, event, source, self.context, **facts)
        if outcome is Outcome.CONFIRMING and task["remote_id"] is not None and task["next_check_at"] is None:
            write(tx, task, self.context, {"next_check_at": self.context.now})  # a cancelled one is asked about once
        return outcome


def _names_another(tx: Transaction, task: Row, event: Event) -> bool:
    """Tell whether a body names another task: by an id that is not this task's, or that another one holds."""
    if event.remote_id is None:
        return False
    if task["remote_id"] is not None:
        return bool(task["remote_id"] != event.remote_id)
    return tasks.by_remote(tx, task["provider"], event.remote_id) is not None


def _weak(task: Row, event: Event, evidence: Evidence) -> bool:
    """Tell whether the provider should be asked before this counts: see the list in the interface, section 4."""
    contradicts = event.state in FINAL and task["state"] in FINAL and event.state != task["state"]
    return event.empty or contradicts or event.remote_id is None or evidence.signature == "id"
