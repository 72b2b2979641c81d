"""The history of a task as steps of a timeline, each with a headline, an explanation, facts and bodies. Pure.

`pages` calls `timeline` with what `store.reading.history` gave. Bodies and headers come redacted from
`documents.history_document`; everything else is redacted here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from receiver.core import wire
from receiver.core.messages import Outcome
from receiver.core.redaction import Redactor
from receiver.core.times import took
from receiver.documents import Document, history_document
from receiver.store.tables import Attempt, Check, Delivery, History
from receiver.web.pages.task import pretty
from receiver.web.pages.wording import ATTEMPTS, CHECKS, DELIVERIES, VIA

Told = Attempt | Check | Delivery | None

DULL = frozenset({Outcome.REPEATED.value, "failed"})
RUN = 3
"""So many dull checks in a row are folded into one step."""


@dataclass(frozen=True, slots=True)
class Body:
    """Something that was sent or received, or its headers; `truncated` where not all of it is shown."""

    label: str
    text: str
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened. `tone` is the class that colours it; `state` the state that a move led to."""

    id: int
    at: int
    kind: str
    headline: str
    says: str = ""
    tone: str = "plain"
    state: str | None = None
    facts: tuple[str, ...] = ()
    bodies: tuple[Body, ...] = ()
    folded: tuple["Step", ...] = field(default=())


def timeline(rows: Iterable[tuple[History, Told]], redactor: Redactor) -> list[Step]:
    """Tell what happened to a task, in order; runs of checks that brought nothing new are folded."""
    steps: list[Step] = []
    dull: list[Step] = []
    for row, told in rows:
        step = _step(row.at, history_document(row, told, redactor), redactor)
        if isinstance(told, Check) and told.outcome in DULL:
            dull.append(step)
            continue
        steps += _folded(dull)
        dull = []
        steps.append(step)
    return steps + _folded(dull)


def _folded(dull: list[Step]) -> list[Step]:
    if len(dull) < RUN:
        return dull
    first = dull[0]
    words = f"{len(dull)} checks brought nothing new"
    return [Step(first.id, first.at, "check", words, folded=tuple(dull))]


def _step(at: int, document: Document, redactor: Redactor) -> Step:
    kind = str(document["kind"])
    make = _STEPS.get(kind)
    if make is None or (kind != "move" and "outcome" not in document):
        rest = {name: value for name, value in document.items() if name not in ("id", "at", "kind")}
        return Step(document["id"], at, kind, kind.capitalize(), redactor.redact_text(pretty(rest)) if rest else "")
    return make(at, document, redactor)


def _move(at: int, document: Document, redactor: Redactor) -> Step:
    error = wire.as_mapping(document.get("error"))
    says = f"{error.get('code')}: {error.get('message')}" if error else ""
    target = str(document.get("to"))
    headline = f"{document.get('from')} → {target}, {VIA.get(str(document.get('via')), 'by something unknown')}"
    return Step(document["id"], at, "move", headline, redactor.redact_text(says), state=target)


def _attempt(at: int, document: Document, _redactor: Redactor) -> Step:
    request = document["request"]
    facts = [f"{request['method']} {request['url']}", *_answer_facts(document)]
    departed, ended = wire.parse_timestamp(document["departed_at"]), wire.parse_timestamp(document["ended_at"])
    if departed is not None and ended is not None:
        facts.append(f"ended after {took(ended - departed)}")
    outcome = document["outcome"]
    return Step(
        document["id"],
        at,
        "attempt",
        f"Attempt {document['number']}: {(outcome or 'under way').replace('_', ' ')}",
        ATTEMPTS.get(outcome, ""),
        tone={"accepted": "good", "refused": "bad", "unconfirmed": "warn"}.get(outcome, "plain"),
        facts=tuple(facts),
        bodies=(_body("Request body", "body", request), *_answer(document)),
    )


def _delivery(at: int, document: Document, _redactor: Redactor) -> Step:
    outcome = document["outcome"]
    headers = "\n".join(f"{name}: {value}" for name, value in document["headers"].items())
    return Step(
        document["id"],
        at,
        "delivery",
        f"Callback: {outcome}",
        DELIVERIES.get(outcome, ""),
        tone={"applied": "good", "forged": "bad", "unreadable": "warn", "unmatched": "warn"}.get(outcome, "plain"),
        facts=(f"delivery {document['delivery']}",),
        bodies=(Body("Headers", headers), _body("Raw body", "body", document)),
    )


def _note(at: int, document: Document, redactor: Redactor) -> Step:
    tone = {"applied": "good", "forged": "bad"}.get(document["outcome"], "plain")
    return Step(document["id"], at, "note", redactor.redact_text(str(document.get("text"))), tone=tone)


def _check(at: int, document: Document, _redactor: Redactor) -> Step:
    outcome = document["outcome"]
    asked, tone = (
        wire.parse_timestamp(document["asked_at"]),
        {"applied": "good", "failed": "warn"}.get(outcome, "plain"),
    )
    facts = [*_answer_facts(document), *([f"took {took(at - asked)}"] if asked is not None else [])]
    says = CHECKS.get(outcome, "")
    return Step(
        document["id"],
        at,
        "check",
        f"Status check: {outcome}",
        says,
        tone,
        facts=tuple(facts),
        bodies=_answer(document),
    )


def _answer_facts(document: Mapping[str, Any]) -> list[str]:
    status, message = document["http_status"], document["message"]
    return [*([f"HTTP {status}"] if status is not None else []), *([message] if message else [])]


def _answer(document: Mapping[str, Any]) -> tuple[Body, ...]:
    return (_body("Answer body", "answer", document),) if document["answer"] is not None else ()


def _body(label: str, name: str, document: Mapping[str, Any]) -> Body:
    return Body(label, document[name], bool(document.get("truncated")))


_STEPS = {"move": _move, "attempt": _attempt, "delivery": _delivery, "check": _check, "note": _note}
