"""Tasks, history and providers as JSON documents: the same for the API, the command line and the pages. Pure."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from receiver.core.amounts import to_credits
from receiver.core.redaction import Redactor
from receiver.core.states import SETTLED
from receiver.providers.base import Provider
from receiver.store.reading import BODY_BYTES, Truncated
from receiver.store.tables import Attempt, Check, Delivery, History, Output, Task

SHOWN_BYTES = 65_536
"""Bytes of a body that are shown; more is cut, and said so."""

LONGEST_SECRET = BODY_BYTES - SHOWN_BYTES
"""Bytes at the end of a body that was cut; no secret is longer."""

Document = dict[str, Any]


def format_timestamp(milliseconds: int | None) -> str | None:
    """Write Unix milliseconds as ISO 8601 in UTC with milliseconds."""
    if milliseconds is None:
        return None
    written = datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    return written.replace("+00:00", "Z")


def to_json(document: Document) -> str:
    """Write a document as JSON in ASCII. What an earlier release stored that JSON has no number for becomes null."""
    try:
        return json.dumps(document, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(document), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def task_document(task: Task, outputs: Sequence[Output], redactor: Redactor, *, sandbox: bool) -> Document:
    """Show one task as `GET /api/tasks/{id}` gives it. Its URLs are stored as they came, all else without secrets."""
    return {
        "id": task.id,
        "state": task.state.value,
        "provider": task.provider,
        "model": task.model,
        "remote_id": task.remote_id,
        "remote_state": task.remote_state,
        "progress": task.progress,
        "input": task.input,
        "validated": task.validated,
        "metadata": task.meta,
        "outputs": [_output(output, redactor) for output in outputs],
        "result": task.result,
        "error": {"code": task.error_code, "message": task.error_message} if task.error_code else None,
        "credits": {name: _amount(getattr(task, name)) for name in ("estimated", "reserved", "charged")},
        "settled_by": task.settled_by,
        "evidence": {
            "token": task.token_seen,
            "signature": task.signature,
            "confirmed_at": format_timestamp(task.confirmed_at),
        },
        "notices": task.notices,
        "retry_of": task.retry_of,
        "attempts": task.attempts,
        "checks": task.checks,
        "deliveries": task.deliveries,
        "sandbox": sandbox,
        "created_at": format_timestamp(task.created_at),
        "submitted_at": format_timestamp(task.submitted_at),
        "finished_at": format_timestamp(task.finished_at) if task.state in SETTLED else None,
        "updated_at": format_timestamp(task.updated_at),
        "next_check_at": format_timestamp(task.next_check_at),
    }


def _output(output: Output, redactor: Redactor) -> Document:
    return {
        "url": redactor.url(output.url),
        "kind": output.kind,
        "expires_at": format_timestamp(output.expires_at),
        "stored": output.stored,
    }


def _amount(millionths: int | None) -> float | int | None:
    return None if millionths is None else to_credits(millionths)


def history_document(row: History, told: Attempt | Check | Delivery | None, redactor: Redactor) -> Document:
    """Show one thing that happened, with what was sent and received, without secrets."""
    told_of = redactor.value(row.data)
    document: Document = {"id": row.id, "at": format_timestamp(row.at), "kind": row.kind, **told_of}
    if isinstance(told, Attempt):
        document |= _attempt(told, redactor)
    elif isinstance(told, Delivery):
        document |= {"delivery": told.id, "outcome": told.outcome, "headers": redactor.headers(told.headers)}
        document |= _body("body", told.body, redactor)
    elif isinstance(told, Check):
        document |= {"outcome": told.outcome, "asked_at": format_timestamp(told.asked_at), **_answered(told, redactor)}
    return document


def unmatched_document(delivery: Delivery) -> Document:
    """Show one callback that no task has: what it came as, and the provider's id that it names."""
    return {
        "delivery": delivery.id,
        "provider": delivery.provider,
        "received_at": format_timestamp(delivery.received_at),
        "outcome": delivery.outcome,
        "remote_id": delivery.remote_id,
    }


def _attempt(told: Attempt, redactor: Redactor) -> Document:
    return {
        "number": told.number,
        "outcome": told.outcome,
        "departed_at": format_timestamp(told.departed_at),
        "ended_at": format_timestamp(told.ended_at),
        "request": {"method": told.method, "url": redactor.text(told.url), **_body("body", told.body, redactor)},
        **_answered(told, redactor),
    }


def _answered(told: Attempt | Check, redactor: Redactor) -> Document:
    message = redactor.text(told.message) if told.message else None
    document: Document = {"http_status": told.http_status, "message": message, "answer": None}
    return document | (_body("answer", told.answer, redactor) if told.answer is not None else {})


def _body(name: str, body: bytes, redactor: Redactor) -> Document:
    # Redacted before it is cut, so that the cut cannot leave the half of a token standing; where it was cut when it
    # was read, its end is not shown.
    shown = redactor.text(body.decode("utf-8", "replace"))
    cut = isinstance(body, Truncated)
    written = shown.encode()[: -LONGEST_SECRET if cut else None]
    if len(written) <= SHOWN_BYTES and not cut:
        return {name: shown}
    return {name: written[:SHOWN_BYTES].decode("utf-8", "ignore"), "truncated": True}


def provider_document(
    name: str, family: str, provider: Provider | None, models: Mapping[str, Any], *, signed: bool = False
) -> Document:
    """Show one provider account, configured or not, with its models, their inputs and prices."""
    return {
        "name": name,
        "family": family,
        "configured": provider is not None,
        "callbacks": type(provider).takes_callbacks if provider is not None else None,
        "signed": signed,
        "models": [
            {
                "id": model_id,
                "title": model.title,
                "validated": model.validates,
                "input": model.schema(),
                "price": model.price_note or None,
            }
            for model_id, model in models.items()
        ],
    }
