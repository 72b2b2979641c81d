"""The history of a task as steps of a timeline, each with a headline, an explanation, facts and bodies. Pure.

`routes` calls `build_timeline` with the rows of `store.reading.history`. Bodies and headers come redacted from
`documents.history_document`; everything else is redacted here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from receiver.core import wire
from receiver.core.messages import Outcome
from receiver.core.redaction import Redactor
from receiver.core.times import format_elapsed
from receiver.documents import Document, history_document
from receiver.store.tables import Attempt, Check, Delivery, History
from receiver.web.pages.task import pretty
from receiver.web.pages.wording import ATTEMPTS, CHECKS, DELIVERIES, VIA

Detail = Attempt | Check | Delivery | None

NOTHING_NEW = frozenset({Outcome.REPEATED.value, "failed"})
FOLD_FROM = 3
"""So many unremarkable checks in a row are folded into one step."""


@dataclass(frozen=True, slots=True)
class Body:
    """A body that was sent or received, or its headers; `truncated` where not all of it is shown."""

    label: str
    text: str
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One event. `tone` is the CSS class of its colour; `state` is the state that a move led to."""

    id: int
    at: int
    kind: str
    headline: str
    text: str = ""
    tone: str = "plain"
    state: str | None = None
    facts: tuple[str, ...] = ()
    bodies: tuple[Body, ...] = ()
    folded: tuple["Step", ...] = field(default=())


def build_timeline(rows: Iterable[tuple[History, Detail]], redactor: Redactor) -> list[Step]:
    """Return a task's events in order; runs of checks that found nothing new are folded into one step."""
    steps: list[Step] = []
    unremarkable: list[Step] = []
    for row, detail in rows:
        step = _build_step(row.at, history_document(row, detail, redactor), redactor)
        if isinstance(detail, Check) and detail.outcome in NOTHING_NEW:
            unremarkable.append(step)
            continue
        steps += _fold(unremarkable)
        unremarkable = []
        steps.append(step)
    return steps + _fold(unremarkable)


def _fold(unremarkable: list[Step]) -> list[Step]:
    if len(unremarkable) < FOLD_FROM:
        return unremarkable
    first = unremarkable[0]
    headline = f"{len(unremarkable)} checks found nothing new"
    return [Step(first.id, first.at, "check", headline, folded=tuple(unremarkable))]


def _build_step(at: int, document: Document, redactor: Redactor) -> Step:
    kind = str(document["kind"])
    make = _STEPS.get(kind)
    if make is None or (kind != "move" and "outcome" not in document):
        rest = {name: value for name, value in document.items() if name not in ("id", "at", "kind")}
        return Step(document["id"], at, kind, kind.capitalize(), redactor.redact_text(pretty(rest)) if rest else "")
    return make(at, document, redactor)


def _move(at: int, document: Document, redactor: Redactor) -> Step:
    error = wire.as_mapping(document.get("error"))
    text = f"{error.get('code')}: {error.get('message')}" if error else ""
    target = str(document.get("to"))
    headline = f"{document.get('from')} → {target}, {VIA.get(str(document.get('via')), 'by an unknown cause')}"
    return Step(document["id"], at, "move", headline, redactor.redact_text(text), state=target)


def _attempt(at: int, document: Document, _redactor: Redactor) -> Step:
    request = document["request"]
    facts = [f"{request['method']} {request['url']}", *_answer_facts(document)]
    departed, ended = wire.parse_timestamp(document["departed_at"]), wire.parse_timestamp(document["ended_at"])
    if departed is not None and ended is not None:
        facts.append(f"ended after {format_elapsed(ended - departed)}")
    outcome = document["outcome"]
    return Step(
        document["id"],
        at,
        "attempt",
        f"Attempt {document['number']}: {(outcome or 'in progress').replace('_', ' ')}",
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
    sent_at, tone = (
        wire.parse_timestamp(document["asked_at"]),
        {"applied": "good", "failed": "warn"}.get(outcome, "plain"),
    )
    facts = [*_answer_facts(document), *([f"took {format_elapsed(at - sent_at)}"] if sent_at is not None else [])]
    text = CHECKS.get(outcome, "")
    return Step(
        document["id"],
        at,
        "check",
        f"Status check: {outcome}",
        text,
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
