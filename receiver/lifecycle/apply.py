"""Apply an `Event` to a task: the one function that changes a state, its history row, and what follows from it.

Submission, inbox, checks and the clock all end here, inside a unit of `Store.write`. It sends nothing and decides
only by `states.MOVES`; that news does not fit is an outcome, never an error.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from receiver.core.amounts import to_millionths
from receiver.core.messages import Event, Outcome, Output, Source
from receiver.core.states import FINAL, SETTLED, State, Via, may_move
from receiver.lifecycle import pending
from receiver.lifecycle.transition import Context, Row, departed, move, notice, without_notice, write
from receiver.providers.results import without_inputs
from receiver.store import Transaction, journal, tasks
from receiver.store.tables import as_json

MAX_EMPTIES = 5
"""Answers that say "done" and bring nothing, after which a task counts as succeeded without a result."""
NO_RESULT = "The provider says that it is done and gave no result."
CLOCK_SLACK = 3_600_000
"""Milliseconds by which a provider's clock may be behind ours before its time of the end is disbelieved."""

NOT_YET_TAKEN = frozenset({State.QUEUED, State.SUBMITTING, State.UNCONFIRMED})


def apply(tx: Transaction, task: Row, event: Event, source: Source, context: Context, **facts: Any) -> Outcome:
    """Let one piece of news change a task, as far as the state machine allows.

    `task` is the row as `store.tasks.current` gave it in this transaction; it is kept up to date. `facts` are columns
    that are written whatever becomes of the state.
    """
    if event.found_at is not None and event.outputs:
        event = without_inputs(event, tasks.ordered_with(tx, task["id"]))
    return _News(tx, task, event, source, context, facts).apply()


@dataclass(slots=True)
class _News:
    """One event on its way into one task. `facts` collects what it fills in, whatever becomes of the state."""

    tx: Transaction
    task: Row
    event: Event
    source: Source
    context: Context
    facts: dict[str, Any] = field(default_factory=dict)

    def apply(self) -> Outcome:  # noqa: PLR0911 - one line for each thing that news can be
        if self._names_another():
            return self._keep_first_id()
        self._collect_facts()
        state, told = State(self.task["state"]), self.event.state
        if told is None:
            return self._ask()
        if self.event.empty and state not in FINAL:
            return self._done_without_result()
        if told is state:
            return self._same_state()
        if told in FINAL and not self._counts():
            return self._keep_aside()
        if may_move(state, told, self.source.via) and not (self.event.empty and state is State.FAILED):
            return self._move(told)
        return self._too_late()

    def _counts(self) -> bool:
        """Tell whether a final state counts as it is: its evidence is good, or the deadline is over and there is
        nothing to ask about."""
        return self.source.believed or (self.task["state"] in SETTLED and not self._known_id())

    def _known_id(self) -> str | None:
        known: str | None = self.facts.get("remote_id") or self.task["remote_id"]
        return known

    def _names_another(self) -> bool:
        known, told = self.task["remote_id"], self.event.remote_id
        return known is not None and told is not None and known != told

    def _keep_first_id(self) -> Outcome:
        """Keep the first of two remote ids; only the answer to our own submission still counts as news."""
        words = f"The provider also named the id {self.event.remote_id}; {self.task['remote_id']}, known first, stays."
        write(self.tx, self.task, self.context, self.facts | notice(self.task, words))
        if self.source.via is not Via.SUBMISSION:
            return Outcome.UNMATCHED
        return apply(self.tx, self.task, replace(self.event, remote_id=None), self.source, self.context)

    def _collect_facts(self) -> None:
        """Collect facts that are still empty, which even late news may fill."""
        self._learn_id()
        if self._answers_what_awaits() and self.event.state in FINAL and not self.event.empty:
            self.facts["pending"] = None
        for name in ("reserved", "charged"):
            value = getattr(self.event, name) if self.source.believed else None  # it counts against the day's limit
            if value is not None and self.task[name] is None:
                self.facts[name] = to_millionths(value)
        if self.event.notices:
            self._notice(*self.event.notices)

    def _answers_what_awaits(self) -> bool:
        """Return whether this is the answer to a check that was begun after whatever awaits its confirmation came."""
        return self.source.via is Via.CHECK and not pending.came_under(self.task["pending"], self.source.claim)

    def _learn_id(self) -> None:
        """Take a remote id that this task lacks and no other task holds."""
        told = self.event.remote_id
        if told is None or self.task["remote_id"] is not None:
            return
        holder = tasks.by_remote(self.tx, self.task["provider"], told)
        if holder is None:
            self.facts |= {"remote_id": told, "may_have_cost": True}
            self._take_held(told)
            awaits = self.facts.get("pending", self.task["pending"]) is not None or self.task["state"] == State.EXPIRED
            if awaits or self.task["deliveries"]:  # which told no id: now there is something to ask about
                self.facts["next_check_at"] = self.context.now
        else:
            self._notice(f"The provider gave the id {told}, which {holder} already holds; it was not taken.")

    def _take_held(self, told: str) -> None:
        """Take callbacks to the account that came before the id was known; the last final one awaits confirmation."""
        held = journal.take_held(self.tx, self.task["provider"], told, self.task["id"], self.context.now)
        if held:
            kept: int = self.facts["deliveries"] if "deliveries" in self.facts else self.task["deliveries"]
            self.facts["deliveries"] = kept + len(held)
            self.facts["next_check_at"] = self.context.now
        if final := [event for event in held if event is not None]:
            self.facts["pending"] = final[-1]

    def _notice(self, *sentences: str) -> None:
        self.facts |= notice(self.task | self.facts, *sentences)

    def _ask(self) -> Outcome:
        """Take news without a state as a reason to ask; an id in it proves that the task was taken."""
        if self.event.remote_state is not None and self.task["remote_state"] is None:
            self.facts["remote_state"] = self.event.remote_state
        if self.facts.get("remote_id") and self.task["state"] in NOT_YET_TAKEN:
            self._move(State.SUBMITTED)
        self._write(self._due_now())
        return Outcome.CONFIRMING

    def _due_now(self) -> dict[str, Any]:
        """Make the task due at once, if there is an id to ask about and an answer could change something."""
        may_ask = self._known_id() and self.task["state"] != State.CANCELLED
        return {"next_check_at": self.context.now} if may_ask else {}

    def _done_without_result(self) -> Outcome:
        """Keep a success that brings nothing running and ask again; at last believe it, with a notice."""
        # Callbacks may come many times over; only answers to our own requests are counted one by one.
        told_by_callback = self.source.via is Via.CALLBACK
        self.facts["empties"] = max(self.task["empties"], 1) if told_by_callback else self.task["empties"] + 1
        if not self._counts():
            return self._keep_aside(State.RUNNING)
        over = self.context.now >= self.context.schedule.due(departed(self.task))
        if self.facts["empties"] >= MAX_EMPTIES or over:
            return self._succeed_without_result()
        if self.task["state"] != State.RUNNING:
            return self._move(State.RUNNING)
        self._write(self._newer())
        return Outcome.APPLIED

    def _succeed_without_result(self) -> Outcome:
        """Believe it at last; a callback that awaits its confirmation may have brought the result."""
        awaited = pending.load(self.facts.get("pending", self.task["pending"]))
        if awaited is not None and awaited[0].state is State.SUCCEEDED and not awaited[0].empty:
            self.event = awaited[0]
        else:
            self._notice(NO_RESULT)
        return self._move(State.SUCCEEDED)

    def _keep_aside(self, meanwhile: State = State.SUBMITTED) -> Outcome:
        """Keep a final state of weak evidence until the provider confirms it, and make the task due at once.

        A task that was not known to be taken is now, so that it is never sent again.
        """
        state = State(self.task["state"])
        self.facts["pending"] = as_json(pending.dump(self.event, self.source, self.context.now, self.task["claim"]))
        if state in FINAL and state is not self.event.state:
            self._notice(self._contradiction("the provider is asked"))
        elif state in NOT_YET_TAKEN or (meanwhile is State.RUNNING and state is State.SUBMITTED):
            self._move(meanwhile)
        self._write(self._due_now())
        return Outcome.CONFIRMING

    def _same_state(self) -> Outcome:
        """Take newer progress; tell a repetition from a second result."""
        if self.event.state in FINAL:
            return self._told_again()
        if self._is_behind():
            self._write()
            return Outcome.LATE
        newer = self._newer()
        self._write(newer)
        return Outcome.APPLIED if newer else Outcome.REPEATED

    def _told_again(self) -> Outcome:
        """Fill what the first news of an end left empty; a second result beside a first one leaves a notice."""
        task_id, urls = self.task["id"], [output.url for output in self.event.outputs]
        known = tasks.output_urls(self.tx, task_id) if urls else []
        brings_files = bool(urls) and not known
        brings_result = self.event.result is not None and not tasks.has_result(self.tx, task_id)
        if not brings_files and not brings_result:
            if urls and urls != known:
                self._notice("The provider reported success again with other URLs; the first stay.")
            self._write()
            return Outcome.REPEATED
        if not self._counts():
            return self._keep_aside()
        if brings_files:
            tasks.insert_outputs(self.tx, task_id, map(self._output_row, self.event.outputs))
        if brings_result:
            self.facts["result"] = as_json(self.event.result)
        self.facts |= {"empties": 0, "pending": None, "next_check_at": None}
        self.facts |= without_notice(self.task | self.facts, NO_RESULT)
        journal.note(self.tx, task_id, self.context.now, "note", {"text": "The result came after the end."})
        self._write()
        return Outcome.APPLIED

    def _is_behind(self) -> bool:
        known, told = self.task["progress"], self.event.progress
        return known is not None and told is not None and told < known

    def _newer(self) -> dict[str, Any]:
        newer: dict[str, Any] = {}
        if self.event.progress is not None and self.event.progress != self.task["progress"] and not self._is_behind():
            newer["progress"] = self.event.progress
        if self.event.remote_state is not None and self.event.remote_state != self.task["remote_state"]:
            newer["remote_state"] = self.event.remote_state
        return newer

    def _move(self, target: State) -> Outcome:
        """Make the move that the event tells of."""
        values = self.facts | self._newer()
        if self.task["state"] == State.QUEUED or (self.task["attempts"] and target is not State.FAILED):
            values["may_have_cost"] = True  # it had arrived after all
        if target in FINAL:
            values = {name: value for name, value in values.items() if name != "next_check_at"} | self._settled(target)
        else:
            values |= self._going_on()
        why = self.event.error if target is State.FAILED else None
        if not move(self.tx, self.task, target, self.source.via, self.context, why=why, **values):
            return Outcome.LATE
        if target is State.SUCCEEDED:
            tasks.insert_outputs(self.tx, self.task["id"], map(self._output_row, self.event.outputs))
        return Outcome.APPLIED

    def _settled(self, target: State) -> dict[str, Any]:
        """Say who brought the news and why it is believed; a check that confirms a callback leaves it the merit."""
        source, confirmed = self.source, None
        if source.via is Via.CHECK:
            confirmed = self.context.now
            awaited = pending.load(self.task["pending"])
            if awaited is not None and awaited[0].state is target:
                source = awaited[1]
        values: dict[str, Any] = {
            "settled_by": source.via.value,
            "token_seen": source.token,
            "signature": source.signature,
            "confirmed_at": confirmed,
        }
        if target is State.SUCCEEDED:
            values |= {"progress": 1.0, "result": None if self.event.result is None else as_json(self.event.result)}
            values |= self._go_on_asking() if self.event.empty else {"empties": 0}
        values |= self._keep_contradiction(target)
        if self.event.charged is not None:
            values["charged"] = to_millionths(self.event.charged)
        return values

    def _go_on_asking(self) -> dict[str, Any]:
        """Plan the next check of a success without a result, up to its deadline."""
        due = self.context.schedule.due(departed(self.task))
        if self._known_id() is None or self.context.now >= due:
            return {}
        gaps = self.task["gaps"]
        later = self.context.schedule.next_try(self.context.now, departed(self.task), gaps, self.context.chance)
        return {"next_check_at": later, "gaps": gaps + 1}

    def _keep_contradiction(self, target: State) -> dict[str, Any]:
        """Keep awaiting the confirmation of another end than the one told now, unless a check tells it."""
        kept = self.facts.get("pending", self.task["pending"])
        awaited = pending.load(kept)
        if awaited is None or awaited[0].state is target or self._answers_what_awaits():
            return {}
        words = f"A callback that awaits its confirmation says {awaited[0].state}; the provider is asked."
        return {"pending": kept} | self._due_now() | notice(self.task | self.facts, words)

    def _going_on(self) -> dict[str, Any]:
        since = min(departed(self.task), self.context.now) if self.source.via is Via.SUBMISSION else self.context.now
        first = self.context.schedule.first_check(since, departed(self.task), callback=bool(self.task["callback_url"]))
        planned = self.facts.get("next_check_at")
        if planned is None and self.task["state"] == State.SUBMITTED:
            planned = self.task["next_check_at"]
        return {"next_check_at": first if planned is None else min(first, planned), "gaps": 0}

    def _output_row(self, output: Output) -> dict[str, Any]:
        expires, now = None, self.context.now
        if self.context.output_ttl_seconds is not None:
            ended = self.event.ended_at
            if ended is None or not self.task["created_at"] - CLOCK_SLACK <= ended <= now:
                ended = now
            expires = ended + round(self.context.output_ttl_seconds * 1000)
        return {"url": output.url, "kind": output.kind, "expires_at": expires}

    def _too_late(self) -> Outcome:
        """Keep the facts of late news; a final state that contradicts the one we have leaves a notice."""
        if self.event.state in FINAL and self.task["state"] in FINAL:
            self._notice(self._contradiction("nothing was changed"))
        self._write()
        return Outcome.LATE

    def _contradiction(self, what_then: str) -> str:
        whence = "A status answer" if self.source.via is Via.CHECK else "A callback"
        return f"{whence} says {self.event.state}, although the task is {self.task['state']}; {what_then}."

    def _write(self, values: dict[str, Any] | None = None) -> None:
        if changes := self.facts | (values or {}):
            write(self.tx, self.task, self.context, changes)
