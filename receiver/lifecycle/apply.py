"""`apply`, by which whatever a provider says changes a task: submissions, callbacks, checks and people all end here.

It runs inside a transaction and sends nothing. `_learn` collects what an event fills in whatever becomes of the state;
one function for each thing that an event can be then decides, and returns all columns that it writes as a `Decision`.
That an event does not fit is an outcome, never an error.
"""

from dataclasses import dataclass, replace
from typing import Any

from receiver.core.amounts import to_millionths
from receiver.core.attention import Reason
from receiver.core.messages import Event, Outcome, Source
from receiver.core.states import FINAL, SETTLED, State, Via, may_move
from receiver.lifecycle.files import file_columns, relink
from receiver.lifecycle.measuring import measure_end
from receiver.lifecycle.pending import Pending, came_during, read_pending
from receiver.lifecycle.plans import NEWS, plan_first_check, plan_for_missing_result
from receiver.lifecycle.schedule import Plan
from receiver.lifecycle.transition import (
    Context,
    add_notices,
    deadline_counts_from,
    remove_notice,
    transition,
    write_changes,
)
from receiver.providers.results import drop_inputs
from receiver.store import Transaction, attention, journal, measured, tasks
from receiver.store.task_row import TaskChanges, TaskRow

MAX_EMPTY_SUCCESSES = 5
"""Status answers that say "done" and bring nothing, after which a task counts as succeeded without a result."""
NO_RESULT = "The provider reported success without a result."
LINKS_RENEWED = "The provider named new links, and the files are downloaded from them."
CLOCK_SLACK = 3_600_000
"""Milliseconds by which a provider's clock may be behind ours before its time of the end is disbelieved."""

OutputRow = dict[str, Any]
NOT_YET_ACCEPTED = frozenset({State.QUEUED, State.SUBMITTING, State.UNCONFIRMED})


def apply(
    tx: Transaction,
    task: TaskRow,
    event: Event,
    source: Source,
    context: Context,
    *,
    changes: TaskChanges | None = None,
) -> Outcome:
    """Change a task by one event, as far as the state machine allows; returns the outcome.

    `task` is the row as `store.tasks.current` gave it in this transaction; it is kept up to date. `changes` are
    written whatever becomes of the state.
    """
    if event.found_at is not None and event.outputs:
        event = drop_inputs(event, tasks.ordered_with(tx, task.id))
    if names_other_task(task, event):
        words = f"The provider reported a second id, {event.remote_id}. The task keeps {task.remote_id}."
        write_changes(tx, task, context, (changes or {}) | add_notices(task.notices, words))
        if source.via is not Via.SUBMISSION:
            return Outcome.UNMATCHED
        event, changes = replace(event, remote_id=None), None  # the answer to our own submission still counts
    report = _Report(tx, task, event, source, context, changes or {})
    report.facts = _learn(report)
    decides = task.state in FINAL and task.pending is not None and _answers_pending(report)
    decision = _decide(report)
    if decides and event.state in (task.state, decision.target):  # the provider decided between two ends
        decision = replace(decision, cleared=decision.cleared or Reason.CONTRADICTION)
    return _carry_out(report, decision)


def names_other_task(task: TaskRow, event: Event) -> bool:
    """Return whether an event brings another id than the one that its task has."""
    return task.remote_id is not None and event.remote_id is not None and event.remote_id != task.remote_id


@dataclass(slots=True)
class _Report:
    """One event about one task. `facts` are the columns that it writes whatever becomes of the state."""

    tx: Transaction
    task: TaskRow
    event: Event
    source: Source
    context: Context
    facts: TaskChanges

    @property
    def remote_id(self) -> str | None:
        """Return the provider's id, if it is known by now."""
        return self.facts.get("remote_id") or self.task.remote_id

    @property
    def pending(self) -> dict[str, Any] | None:
        """Return the column `pending` as this event leaves it."""
        return self.facts.get("pending", self.task.pending)

    @property
    def is_trusted(self) -> bool:
        """Return whether a final state counts without a confirmation: its evidence is good, or the deadline is over
        and there is no id to ask about."""
        return self.source.trusted or (self.task.state in SETTLED and not self.remote_id)

    @property
    def is_behind(self) -> bool:
        """Return whether it tells of less progress than is known."""
        known, told = self.task.progress, self.event.progress
        return known is not None and told is not None and told < known

    @property
    def deadline(self) -> int:
        """Return the task's deadline."""
        return self.context.schedule.due(deadline_counts_from(self.task))

    def notices(self, *sentences: str) -> TaskChanges:
        """Return the change that adds sentences to the notices as this event leaves them."""
        return add_notices(self.facts.get("notices", self.task.notices), *sentences)

    def check_now(self) -> TaskChanges:
        """Return the change that makes the task due at once, if there is an id and an answer could change something."""
        may_ask = self.remote_id and self.task.state is not State.CANCELLED
        return Plan(self.context.now, NEWS).changes() if may_ask else {}


@dataclass(frozen=True, slots=True)
class _Decision:
    """What becomes of an event: its outcome, every column that it writes, the state that its task moves to, and why a
    person should look at it now, or need not any more."""

    outcome: Outcome
    changes: TaskChanges
    target: State | None = None
    outputs: tuple[OutputRow, ...] = ()
    fresh_links: tuple[OutputRow, ...] = ()
    note: str | None = None
    raised: Reason | None = None
    cleared: Reason | None = None


# --- what an event fills in, also a late one


def _learn(report: _Report) -> TaskChanges:
    """Return the columns that any event may fill while they are empty, also a late callback.

    These are remote_id, may_have_cost, deliveries, pending, next_check_at, next_check_because and notices, and from a
    trusted source reserved and charged. After the end, `_told_again` also writes result, outputs and empties.
    """
    task, event = report.task, report.event
    facts: TaskChanges = report.facts | _learn_id(report)
    if _answers_pending(report) and event.state in FINAL and not event.is_empty_success:
        facts["pending"] = None
    if report.source.trusted:  # it counts against the limit of the day
        if event.reserved is not None and task.reserved is None:
            facts["reserved"] = to_millionths(event.reserved)
        if event.charged is not None and task.charged is None:
            facts["charged"] = to_millionths(event.charged)
    return facts | add_notices(facts.get("notices", task.notices), *event.notices)


def _learn_id(report: _Report) -> TaskChanges:
    """Return the changes for an id that the task lacks and no other task holds, with the callbacks held for it."""
    task, remote_id, now = report.task, report.event.remote_id, report.context.now
    if remote_id is None or task.remote_id is not None:
        return {}
    holder = tasks.by_remote(report.tx, task.provider, remote_id)
    if holder is not None:
        return report.notices(f"The provider reported the id {remote_id}, which belongs to {holder}. It was ignored.")
    changes: TaskChanges = {"remote_id": remote_id, "may_have_cost": True}
    held = journal.take_held(report.tx, task.provider, remote_id, task.id, now)
    if held:
        changes["deliveries"] = report.facts.get("deliveries", task.deliveries) + len(held)
    if final := [event for event in held if event is not None]:
        changes["pending"] = final[-1]
    awaits_check = changes.get("pending", report.pending) is not None or task.state is State.EXPIRED
    if held or awaits_check or task.deliveries:  # which brought no id: now there is something to ask about
        changes |= Plan(now, NEWS).changes()
    return changes


def _answers_pending(report: _Report) -> bool:
    """Return whether this answers a check that began after the pending event came."""
    return report.source.via is Via.CHECK and not came_during(report.task, report.source.claim)


# --- what an event is


def _decide(report: _Report) -> _Decision:
    state, told = report.task.state, report.event.state
    if told is None:
        return _without_state(report)
    if report.event.is_empty_success and state not in FINAL:
        return _success_without_result(report)
    if told is state:
        return _told_again(report) if told in FINAL else _still_under_way(report)
    if told in FINAL and not report.is_trusted:
        return _await_confirmation(report)
    if report.event.is_empty_success and state is State.FAILED:
        return _late(report)
    return _moved(report, told)


def _without_state(report: _Report) -> _Decision:
    """Ask the provider after an event without a state; an id in it proves that the task was accepted."""
    task, event, facts = report.task, report.event, report.facts
    if event.remote_state is not None and task.remote_state is None:
        facts = facts | {"remote_state": event.remote_state}
    target = State.SUBMITTED if report.facts.get("remote_id") and task.state in NOT_YET_ACCEPTED else None
    return _needs_check(replace(report, facts=facts), target)


def _success_without_result(report: _Report) -> _Decision:
    """Keep a success that brings nothing running and ask again; at last believe it, with a notice."""
    task = report.task
    # Callbacks may come many times over; only answers to our own requests are counted one by one.
    empties = max(task.empties, 1) if report.source.via is Via.CALLBACK else task.empties + 1
    report = replace(report, facts=report.facts | {"empties": empties})
    if not report.is_trusted:
        return _await_confirmation(report, State.RUNNING)
    if empties >= MAX_EMPTY_SUCCESSES or report.context.now >= report.deadline:
        return _succeed_at_last(report)
    if task.state is not State.RUNNING:
        return _moved(report, State.RUNNING)
    return _Decision(Outcome.APPLIED, report.facts | _progress(report))


def _succeed_at_last(report: _Report) -> _Decision:
    """Believe a success without a result; a pending callback may have brought the result."""
    pending = read_pending(report.pending)
    if pending is not None and pending.event.state is State.SUCCEEDED and not pending.event.is_empty_success:
        report = replace(report, event=pending.event)
    else:
        report = replace(report, facts=report.facts | report.notices(NO_RESULT))
    return _moved(report, State.SUCCEEDED)


def _await_confirmation(report: _Report, meanwhile: State = State.SUBMITTED) -> _Decision:
    """Keep a final state of weak evidence until the provider confirms it, and make the task due at once.

    A task that was not known to be accepted is now, so that it is never sent again.
    """
    task, state = report.task, report.task.state
    pending = Pending(report.event, report.source, report.context.now, task.claim)
    facts: TaskChanges = report.facts | {"pending": pending.as_column()}
    contradicts: TaskChanges = {}
    if state in FINAL and state is not report.event.state:
        contradicts = report.notices(_contradiction(report, "the task is checked"))
    accepts = state in NOT_YET_ACCEPTED or (meanwhile is State.RUNNING and state is State.SUBMITTED)
    decision = _needs_check(replace(report, facts=facts | contradicts), meanwhile if accepts else None)
    return replace(decision, raised=Reason.CONTRADICTION if contradicts else None)


def _needs_check(report: _Report, target: State | None) -> _Decision:
    """Ask the provider at once, and move the task on where that is possible."""
    if target is None or not may_move(report.task.state, target, report.source.via):
        return _Decision(Outcome.CONFIRMING, report.facts | report.check_now())
    moved = _moved(report, target)
    return replace(moved, outcome=Outcome.CONFIRMING, changes=moved.changes | report.check_now())


def _still_under_way(report: _Report) -> _Decision:
    """Write newer progress of a task that is in this state already."""
    if report.is_behind:
        return _Decision(Outcome.LATE, report.facts)
    progress = _progress(report)
    return _Decision(Outcome.APPLIED if progress else Outcome.REPEATED, report.facts | progress)


def _told_again(report: _Report) -> _Decision:
    """Fill what the first event of an end left empty; a second result beside a first one leaves a notice."""
    tx, task_id, event, facts = report.tx, report.task.id, report.event, report.facts
    urls = [output.url for output in event.outputs]
    known = tasks.output_urls(tx, task_id) if urls else []
    brings_files = bool(urls) and not known
    brings_result = event.result is not None and not tasks.has_result(tx, task_id)
    if not brings_files and not brings_result:
        if _is_asked_for_links(report):
            facts = facts | {"fresh_links_until": None}
            if len(urls) == len(known):
                return _Decision(Outcome.APPLIED, facts, fresh_links=_output_rows(report), note=LINKS_RENEWED)
        if urls and urls != known:
            facts = facts | report.notices(
                "The provider reported success again with different URLs. The first ones are kept."
            )
        return _Decision(Outcome.REPEATED, facts)
    if not report.is_trusted:
        return _await_confirmation(report)
    facts = facts | {"empties": 0, "pending": None, "next_check_at": None, "next_check_because": None}
    facts |= remove_notice(facts.get("notices", report.task.notices), NO_RESULT)
    if brings_result:
        facts["result"] = event.result
    return _Decision(
        Outcome.APPLIED,
        facts,
        outputs=_output_rows(report) if brings_files else (),
        note="The result arrived after the task had settled.",
        cleared=Reason.PAID_WITHOUT_RESULT,
    )


def _is_asked_for_links(report: _Report) -> bool:
    """Return whether this answers our question for new links of files that are not stored yet."""
    return report.task.fresh_links_until is not None and report.source.via is Via.CHECK and bool(report.event.outputs)


def _late(report: _Report) -> _Decision:
    """Write only what was empty; a final state that contradicts the one we have leaves a notice."""
    contradicts: TaskChanges = {}
    if report.event.state in FINAL and report.task.state in FINAL:
        contradicts = report.notices(_contradiction(report, "nothing was changed"))
    raised = Reason.CONTRADICTION if contradicts else None
    return _Decision(Outcome.LATE, report.facts | contradicts, raised=raised)


def _moved(report: _Report, target: State) -> _Decision:
    """Move the task to the state that the event tells of; it is late where the state machine does not allow that."""
    task = report.task
    if not may_move(task.state, target, report.source.via):
        return _late(report)
    changes: TaskChanges = report.facts | _progress(report)
    if task.state is State.QUEUED or (task.attempts and target is not State.FAILED):
        changes["may_have_cost"] = True  # it had arrived after all
    if target not in FINAL:
        return _Decision(Outcome.APPLIED, changes | _first_check(report), target)
    changes.pop("next_check_at", None)
    changes.pop("next_check_because", None)
    changes |= _settled_by(report, target)
    if report.event.charged is not None:
        changes["charged"] = to_millionths(report.event.charged)
    if target is State.SUCCEEDED:
        changes |= {"progress": 1.0, "result": report.event.result}
        if not report.event.is_empty_success:
            changes["empties"] = 0
        elif report.remote_id is not None:
            changes |= plan_for_missing_result(report.tx, task, report.context)
    outputs = _output_rows(report) if target is State.SUCCEEDED else ()
    contradicts = _contradicting_end(report, target)
    raised = Reason.CONTRADICTION if contradicts else None
    if target is State.SUCCEEDED and report.event.is_empty_success:
        raised = Reason.PAID_WITHOUT_RESULT
    return _Decision(Outcome.APPLIED, changes | contradicts, target, outputs, raised=raised)


# --- parts of these


def _progress(report: _Report) -> TaskChanges:
    task, event, changes = report.task, report.event, TaskChanges()
    if event.progress is not None and event.progress != task.progress and not report.is_behind:
        changes["progress"] = event.progress
    if event.remote_state is not None and event.remote_state != task.remote_state:
        changes["remote_state"] = event.remote_state
    return changes


def _first_check(report: _Report) -> TaskChanges:
    """Schedule the first check of a task that was accepted; one that is scheduled earlier stays."""
    facts = report.facts
    scheduled = Plan.of(facts.get("next_check_at"), facts.get("next_check_because"))
    from_submission = report.source.via is Via.SUBMISSION
    return plan_first_check(report.tx, report.task, report.context, scheduled, from_submission=from_submission)


def _settled_by(report: _Report, target: State) -> TaskChanges:
    """Return who brought the end and why it is believed; a callback that a check confirms keeps the credit."""
    source, confirmed_at = report.source, None
    if source.via is Via.CHECK:
        confirmed_at = report.context.now
        pending = read_pending(report.task.pending)
        if pending is not None and pending.event.state is target:
            source = pending.source
    return {
        "settled_by": source.via.value,
        "token_seen": source.token,
        "signature": source.signature,
        "confirmed_at": confirmed_at,
    }


def _contradicting_end(report: _Report, target: State) -> TaskChanges:
    """Go on awaiting the confirmation of another end than the one told now, unless a check tells it."""
    pending = read_pending(report.pending)
    if pending is None or pending.event.state is target or _answers_pending(report):
        return {}
    words = f"A callback that awaits confirmation says {pending.event.state}; the task is checked."
    kept: TaskChanges = {"pending": report.pending}
    return kept | report.check_now() | report.notices(words)


def _contradiction(report: _Report, what_then: str) -> str:
    whence = "A status answer" if report.source.via is Via.CHECK else "A callback"
    return f"{whence} says {report.event.state}, although the task is {report.task.state}; {what_then}."


def _output_rows(report: _Report) -> tuple[OutputRow, ...]:
    """Return the rows of the event's files; their links live from the provider's own time of the end, if it can be."""
    context, expires, ended = report.context, None, report.event.ended_at
    if context.output_ttl_seconds is not None:
        if ended is None or not report.task.created_at - CLOCK_SLACK <= ended <= context.now:
            ended = context.now
        expires = ended + round(context.output_ttl_seconds * 1000)
    return tuple(file_columns(output, expires, context) for output in report.event.outputs)


# --- writing it


def _carry_out(report: _Report, decision: _Decision) -> Outcome:
    """Write what was decided: the state and the columns, then what belongs to them."""
    tx, task, context = report.tx, report.task, report.context
    if decision.target is not None:
        why = report.event.error if decision.target is State.FAILED else None
        ended = measure_end(tx, task, report.event, report.source, context.now)
        if not transition(tx, task, decision.target, report.source.via, context, changes=decision.changes, why=why):
            return Outcome.LATE
        if ended is not None:
            measured.add(tx, ended)
    elif decision.changes:
        write_changes(tx, task, context, decision.changes)
    tasks.insert_outputs(tx, task.id, decision.outputs)
    relink(tx, task.id, decision.fresh_links, context)
    if decision.note is not None:
        journal.note(tx, task.id, context.now, "note", {"text": decision.note})
    _change_attention(report, decision)
    return decision.outcome


def _change_attention(report: _Report, decision: _Decision) -> None:
    """Put the task on the attention list, or take it off; what happens usually needs neither."""
    tx, task, now = report.tx, report.task, report.context.now
    if decision.cleared is not None:
        attention.clear(tx, task.id, decision.cleared)
    if decision.raised is not None:
        attention.raise_reason(tx, task.id, decision.raised, now)
    is_new = decision.target is State.FAILED or "charged" in decision.changes
    if task.state is State.FAILED and is_new and (task.charged or 0) > 0:
        attention.raise_reason(tx, task.id, Reason.CHARGED_BUT_FAILED, now)
