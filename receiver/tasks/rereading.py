"""Reads a whole history again after an adapter was mended: stored callbacks, and stored answers of our own requests.

`receiver replay --all` calls it. What would change is found out by letting it happen in a transaction that is then
rolled back, so that nothing but the one way in decides what a message means.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from functools import partial

import httpx

from receiver.core.errors import Invalid, NotFound, ProviderError, Refused, Unreadable
from receiver.core.messages import Callback, Event, Order, Outcome, Problem, Remote, Source
from receiver.core.states import FINAL, State, Via
from receiver.documents import format_timestamp
from receiver.lifecycle.apply import apply
from receiver.providers.base import Flow, Provider
from receiver.services import Services
from receiver.store import Session, Transaction, journal, reading, stored_messages, tasks
from receiver.store.stored_messages import StoredMessage
from receiver.store.tables import Attempt, Check, Delivery, Task
from receiver.store.task_row import TaskChanges, TaskRow
from receiver.tasks.inbox import parse_callback
from receiver.tasks.replay import Replayed, replay, replay_unit

PAGE = 200
"""Task ids that are read at a time."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The part of a task that reading a message again may change."""

    state: State
    remote_id: str | None
    outputs: tuple[str, ...]
    has_result: bool
    error: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """What reading one stored message again changes of its task. `asks`: its provider is asked before that counts."""

    heard: StoredMessage
    task_id: str | None
    before: Snapshot | None
    after: Snapshot | None
    asks: bool = False


class _PreviewError(Exception):
    """Rolls back a preview, and carries what it would change."""

    def __init__(self, change: Change | None) -> None:
        super().__init__("nothing of this is stored")
        self.change = change


async def preview(services: Services, since: int) -> list[Change]:
    """Return what would change if the messages since a time (Unix milliseconds) were read again. Changes nothing."""
    found = [await _preview_one(services, heard) async for heard in _messages_worth_reading(services, since)]
    return [change for change in found if change is not None]


async def carry_out(services: Services, changes: list[Change]) -> list[Change]:
    """Read the messages of these changes again and keep the result; returns what changed."""
    done = []
    for change in changes:
        if change.heard.kind == "delivery":
            done.append(await _replay(services, change))
            continue
        unit = await _unit(services, change.heard)
        if unit is not None and (made := await services.store.write(unit)) is not None:
            done.append(made)
    return done


async def _replay(services: Services, change: Change) -> Change:
    replayed = await replay(services, change.heard.id)
    after = None if replayed.task_id is None else await services.store.read(_snapshot_of(replayed.task_id))
    return replace(change, task_id=replayed.task_id, after=after)


async def _preview_one(services: Services, heard: StoredMessage) -> Change | None:
    unit = await _unit(services, heard)
    if unit is None:
        return None

    def roll_back(tx: Transaction) -> None:
        raise _PreviewError(unit(tx))

    try:
        await services.store.write(roll_back)
    except _PreviewError as previewed:
        return previewed.change
    except NotFound:
        return None
    raise AssertionError("a preview is always rolled back")


async def _messages_worth_reading(services: Services, since: int) -> AsyncIterator[StoredMessage]:
    """Yield the messages that may bring a task what it lacks: for each task at most the latest that reports an end."""
    page = await services.store.read(
        partial(stored_messages.list_tasks_with_messages, since=since, after="", limit=PAGE)
    )
    while page:
        for task_id in page:
            if (heard := await _latest_end(services, task_id, since)) is not None:
                yield heard
        page = await services.store.read(
            partial(stored_messages.list_tasks_with_messages, since=since, after=page[-1], limit=PAGE)
        )
    for delivery_id in await services.store.read(
        lambda session: stored_messages.list_unassigned_deliveries(session, since)
    ):
        yield StoredMessage("delivery", delivery_id)


async def _latest_end(services: Services, task_id: str, since: int) -> StoredMessage | None:
    task, stored = await services.store.read(
        lambda session: (reading.task(session, task_id), stored_messages.list_messages(session, task_id, since))
    )
    if task is None or await _lacks_nothing(services, task):
        return None
    for heard in stored:
        event = await _read(services, task, heard)
        if event is None or (heard.kind == "attempt" and task.state not in (State.UNCONFIRMED, State.EXPIRED)):
            continue
        if (event.state in FINAL and not event.is_empty_success) or (
            heard.kind == "attempt" and event.remote_id is not None
        ):
            return heard
    return None


def _is_unclear(row: TaskRow) -> bool:
    """Return whether the answer to a task's order still decides about it: nobody has told better since."""
    return row.state in (State.UNCONFIRMED, State.EXPIRED) and row.remote_id is None


async def _lacks_nothing(services: Services, task: Task) -> bool:
    if task.state is not State.SUCCEEDED:
        return task.state is State.CANCELLED
    files = await services.store.read(lambda session: reading.outputs(session, [task.id]))
    return bool(files[task.id]) or task.result is not None


async def _read(services: Services, task: Task, heard: StoredMessage) -> Event | None:
    """Read one stored message with the adapter of today; None where it tells nothing, or was not kept whole."""
    provider = services.providers.get(task.provider)
    row = await services.store.read(lambda session: stored_messages.read_row(session, heard))
    if provider is None or row is None:
        return None
    if isinstance(row, Delivery):
        return parse_callback(provider, Callback(row.headers, row.body, row.received_at)).event
    return _answer_again(provider, task, row)


def _answer_again(provider: Provider, task: Task, row: Attempt | Check) -> Event | None:
    """Give a provider the answer that came to its request once more."""
    if row.answer is None or row.http_status is None or len(row.answer) >= journal.KEPT_BYTES:
        return None
    flow: Flow[Event]
    if isinstance(row, Attempt):
        flow = provider.submit(Order(task.id, task.model, task.input, fill_defaults=task.validated), None, row.key)
    else:
        flow = provider.status(Remote(task.remote_id or "", task.model))
    try:
        next(flow)
        flow.send(httpx.Response(row.http_status, content=row.answer))
    except StopIteration as done:
        told: Event = done.value
        return told
    except Refused as error:
        return Event(State.FAILED, error=Problem(error.code, error.message)) if isinstance(row, Attempt) else None
    except (ProviderError, Unreadable):
        return None
    finally:
        flow.close()
    return None  # it would ask on


async def _unit(services: Services, heard: StoredMessage) -> Callable[[Transaction], Change | None] | None:
    """Return the unit that reads one stored message again and returns what it changed."""
    if heard.kind == "delivery":
        try:
            read_again = await replay_unit(services, heard.id)
        except (NotFound, Invalid):
            return None
        return lambda tx: _of_delivery(tx, heard, read_again)
    task = await services.store.read(lambda session: stored_messages.read_task(session, heard))
    event = await _read(services, task, heard) if task is not None else None
    if task is None or event is None:
        return None
    via = Via.SUBMISSION if heard.kind == "attempt" else Via.CHECK

    def apply_again(tx: Transaction) -> Change | None:
        row = tasks.current(tx, task.id)
        if row is None or (heard.kind == "attempt" and not _is_unclear(row)):
            return None
        context = services.context(task.provider)
        before = _snapshot(tx, row)
        facts: TaskChanges = {}
        if heard.kind == "attempt" and event.state is State.FAILED:
            if (purchase := journal.purchase(tx, task.id)) is None or purchase.id != heard.id:
                return None  # another try may have bought it
            journal.end_attempt(tx, heard.id, may_have_bought=False, outcome="refused")
            facts["may_have_cost"] = False
        place = journal.note(tx, task.id, context.now, "note")
        outcome = apply(tx, row, event, Source(via, heard_at=heard.at), context, changes=facts)
        what = "The answer to a submission" if heard.kind == "attempt" else "The answer to a check"
        words = f"{what}, of {format_timestamp(heard.at)}, was read again: {outcome}."
        journal.complete_note(tx, place, {"text": words, heard.kind: heard.id, "outcome": outcome.value})
        return _changed(tx, heard, row, before)

    return apply_again


def _of_delivery(tx: Transaction, heard: StoredMessage, read_again: Callable[[Transaction], Replayed]) -> Change | None:
    known = tasks.of_delivery(tx, heard.id)
    row = tasks.current(tx, known) if known else None
    before = _snapshot(tx, row) if row else None
    replayed = read_again(tx)
    if replayed.task_id is None:
        return None
    row = tasks.current(tx, replayed.task_id)
    if row is None:
        return None
    if before is None:
        return Change(heard, replayed.task_id, None, _snapshot(tx, row), asks=replayed.outcome is Outcome.CONFIRMING)
    return _changed(tx, heard, row, before, asks=replayed.outcome is Outcome.CONFIRMING)


def _changed(
    tx: Transaction, heard: StoredMessage, row: TaskRow, before: Snapshot, *, asks: bool = False
) -> Change | None:
    after = _snapshot(tx, row)
    return Change(heard, row.id, before, after, asks) if after != before or asks else None


def _snapshot_of(task_id: str) -> Callable[[Session], Snapshot | None]:
    def read(session: Session) -> Snapshot | None:
        task = reading.task(session, task_id)
        if task is None:
            return None
        urls = tuple(output.url for output in reading.outputs(session, [task_id])[task_id])
        return Snapshot(task.state, task.remote_id, urls, task.result is not None, task.error_message)

    return read


def _snapshot(tx: Transaction, row: TaskRow) -> Snapshot:
    urls, has_result = tuple(tasks.output_urls(tx, row.id)), tasks.has_result(tx, row.id)
    return Snapshot(row.state, row.remote_id, urls, has_result, row.error_message)
