"""Tasks, history, providers and statistics as JSON documents: the same for the API, the command line and the pages.

`TaskDocument` is the one description of a task: the schema in `/openapi.json` is made of it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, cast

from pydantic import Field, WithJsonSchema
from typing_extensions import TypedDict  # pydantic reads that of `typing` only from Python 3.12 on

from receiver.config.settings import Settings
from receiver.core.amounts import to_credits
from receiver.core.attention import advise
from receiver.core.errors import NotFound
from receiver.core.redaction import Redactor
from receiver.core.states import SETTLED, State
from receiver.providers import FAMILIES
from receiver.providers.base import Provider
from receiver.services import Services
from receiver.store import Session, attention, files, reading, spending
from receiver.store.counts import Counts, count_all
from receiver.store.reading import BODY_BYTES, Filter, Truncated
from receiver.store.spending import Spent
from receiver.store.tables import Attempt, Check, Delivery, History, Output, Task
from receiver.tasks.replay import Replayed

SHOWN_BYTES = 65_536
"""Bytes of a body that are shown; more is cut, and said so."""

SPEND_DAYS = 30
LONGEST_SECRET = BODY_BYTES - SHOWN_BYTES
"""Bytes at the end of a body that was cut; no secret is longer."""

Document = dict[str, Any]
Timestamp = Annotated[str | None, WithJsonSchema({"type": ["string", "null"], "format": "date-time"})]
"""ISO 8601 in UTC with milliseconds."""


ArchiveState = Literal["waiting", "stored", "failed", "off"]


class StoredDocument(TypedDict):
    """The copy of a produced file in the archive."""

    url: str
    bytes: int
    sha256: str
    media_type: str
    at: Timestamp


class OutputDocument(TypedDict):
    """One produced file: its link at the provider, and its copy; `problem` says why there is none."""

    url: str
    kind: str
    expires_at: Timestamp
    archive: ArchiveState
    problem: str | None
    stored: StoredDocument | None


class ErrorDocument(TypedDict):
    """Why a task failed, expired or is unconfirmed."""

    code: str
    message: str | None


class CreditsDocument(TypedDict):
    """What a task costs, in the provider's own unit."""

    estimated: float | None
    reserved: float | None
    charged: float | None


class EvidenceDocument(TypedDict):
    """Why the end of a task is believed: its own callback URL, what a signature covered, when a check confirmed it."""

    token: bool
    signature: str | None
    confirmed_at: Timestamp


class TaskDocument(TypedDict):
    """One task as `GET /api/tasks/{id}` gives it."""

    id: str
    state: State
    provider: str
    model: str
    remote_id: str | None
    remote_state: str | None
    progress: Annotated[float | None, Field(ge=0, le=1)]
    input: dict[str, Any]
    validated: bool
    metadata: dict[str, Any]
    outputs: list[OutputDocument]
    result: Any
    error: ErrorDocument | None
    credits: CreditsDocument
    settled_by: str | None
    evidence: EvidenceDocument
    notices: list[str]
    retry_of: str | None
    attempts: int
    checks: int
    deliveries: int
    sandbox: bool
    created_at: Timestamp
    submitted_at: Timestamp
    finished_at: Timestamp
    updated_at: Timestamp
    next_check_at: Timestamp
    next_check_because: str | None


async def show(services: Services, task_id: str) -> TaskDocument:
    """Return a task's document; raises `NotFound`."""
    found = await services.store.read(lambda session: _task_with_outputs(session, task_id))
    if found is None:
        raise NotFound(f"There is no task {task_id[:60]}.")
    return task_document(*found, services.redactor, services.settings)


async def show_all(services: Services, wanted: Filter) -> tuple[list[TaskDocument], str | None]:
    """Return the documents of the tasks that match a filter, as many as one answer holds, and the next cursor."""
    return await services.store.read(lambda session: list_documents(services, wanted, session))


def list_documents(services: Services, wanted: Filter, session: Session) -> tuple[list[TaskDocument], str | None]:
    """Return what `show_all` returns, inside of a read."""
    rows, following = reading.listing_page(session, wanted)
    files = reading.outputs(session, [row.id for row in rows])
    return [task_document(row, files[row.id], services.redactor, services.settings) for row in rows], following


async def read_stats(services: Services) -> Document:
    """Return what is counted over all tasks, and what each account cost on each of the last days."""
    since = spending.start_of_day(services.clock()) - SPEND_DAYS * spending.DAY
    counted, spent = await services.store.read(
        lambda session: (count_all(session), spending.list_spent_by_day(session, since))
    )
    return stats_document(counted) | {"spend": spend_document(spent)}


def read_documents(services: Services, session: Session, task_ids: Sequence[str]) -> dict[str, TaskDocument]:
    """Return the documents of some tasks by id, inside of a read."""
    rows, files = reading.tasks(session, task_ids), reading.outputs(session, task_ids)
    redactor, settings = services.redactor, services.settings
    return {each: task_document(row, files[each], redactor, settings) for each, row in rows.items()}


def _task_with_outputs(session: Session, task_id: str) -> tuple[Task, list[Output]] | None:
    task = reading.task(session, task_id)
    return None if task is None else (task, reading.outputs(session, [task_id])[task_id])


def format_timestamp(milliseconds: int | None) -> str | None:
    """Write Unix milliseconds as ISO 8601 in UTC with milliseconds."""
    if milliseconds is None:
        return None
    written = datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    return written.replace("+00:00", "Z")


def to_json(document: Mapping[str, Any]) -> str:
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


def task_document(task: Task, outputs: Sequence[Output], redactor: Redactor, settings: Settings) -> TaskDocument:
    """Return the document of one task. Its URLs are stored as they came, all else without secrets."""
    return {
        "id": task.id,
        "state": task.state,
        "provider": task.provider,
        "model": task.model,
        "remote_id": task.remote_id,
        "remote_state": task.remote_state,
        "progress": task.progress,
        "input": task.input,
        "validated": task.validated,
        "metadata": task.meta,
        "outputs": [_output(output, redactor, settings) for output in outputs],
        "result": task.result,
        "error": {"code": task.error_code, "message": task.error_message} if task.error_code else None,
        "credits": {
            "estimated": _amount(task.estimated),
            "reserved": _amount(task.reserved),
            "charged": _amount(task.charged),
        },
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
        "sandbox": settings.sandbox,
        "created_at": format_timestamp(task.created_at),
        "submitted_at": format_timestamp(task.submitted_at),
        "finished_at": format_timestamp(task.finished_at) if task.state in SETTLED else None,
        "updated_at": format_timestamp(task.updated_at),
        "next_check_at": format_timestamp(task.next_check_at),
        "next_check_because": task.next_check_because,
    }


def _output(output: Output, redactor: Redactor, settings: Settings) -> OutputDocument:
    stored: StoredDocument | None = None
    if output.archive == files.STORED:
        stored = {
            "url": settings.root_url + output_path(output),
            "bytes": output.bytes or 0,
            "sha256": output.sha256 or "",
            "media_type": output.media_type or "",
            "at": format_timestamp(output.stored_at),
        }
    return {
        "url": redactor.redact_url(output.url),
        "kind": output.kind,
        "expires_at": format_timestamp(output.expires_at),
        "archive": cast("ArchiveState", output.archive),
        "problem": output.problem,
        "stored": stored,
    }


def output_path(output: Output) -> str:
    """Return the path at which a file's copy is served."""
    return f"/api/tasks/{output.task_id}/outputs/{output.position}"


def _amount(millionths: int | None) -> float | int | None:
    return None if millionths is None else to_credits(millionths)


def history_document(row: History, told: Attempt | Check | Delivery | None, redactor: Redactor) -> Document:
    """Return the document of one thing that happened, with what was sent and received, without secrets."""
    told_of = redactor.redact_value(row.data)
    document: Document = {"id": row.id, "at": format_timestamp(row.at), "kind": row.kind, **told_of}
    if isinstance(told, Attempt):
        document |= _attempt(told, redactor)
    elif isinstance(told, Delivery):
        document |= {"delivery": told.id, "outcome": told.outcome, "headers": redactor.redact_headers(told.headers)}
        document |= _body("body", told.body, redactor)
    elif isinstance(told, Check):
        document |= {"outcome": told.outcome, "asked_at": format_timestamp(told.asked_at), **_answered(told, redactor)}
    return document


def unmatched_document(delivery: Delivery) -> Document:
    """Return the document of a callback that no task has: what it came as, and the provider's id that it names."""
    return {
        "delivery": delivery.id,
        "provider": delivery.provider,
        "received_at": format_timestamp(delivery.received_at),
        "outcome": delivery.outcome,
        "remote_id": delivery.remote_id,
    }


def delivery_document(delivery: Delivery) -> Document:
    """Return the document of one stored callback without what it said, which is in the history of its task."""
    return {
        "id": delivery.id,
        "task": delivery.task_id,
        "provider": delivery.provider,
        "received_at": format_timestamp(delivery.received_at),
        "outcome": delivery.outcome,
        "remote_id": delivery.remote_id,
    }


async def replayed_document(services: Services, replayed: Replayed) -> Document:
    """Return the document of what came of reading a stored callback again."""
    task = await show(services, replayed.task_id) if replayed.task_id else None
    return {
        "delivery": replayed.delivery,
        "was": replayed.was.value,
        "outcome": replayed.outcome.value,
        "task": replayed.task_id,
        "state": task["state"] if task else None,
    }


def attention_document(services: Services, session: Session, most: int) -> Document:
    """Return the attention list with at most so many items, inside of a read; the counts are of the whole list."""
    items = attention.list_items(session, most)
    files = reading.outputs(session, list({item.task.id for item in items}))
    shown = [
        {
            "task": task_document(item.task, files[item.task.id], services.redactor, services.settings),
            "reason": item.reason,
            "since": format_timestamp(item.since),
            "advice": advise(item.reason, may_have_cost=item.task.may_have_cost),
            "detail": services.redactor.redact_text(item.detail) if item.detail else None,
        }
        for item in items
    ]
    return {"items": shown, "counts": attention.count_by_reason(session)}


def _attempt(told: Attempt, redactor: Redactor) -> Document:
    return {
        "number": told.number,
        "outcome": told.outcome,
        "departed_at": format_timestamp(told.departed_at),
        "ended_at": format_timestamp(told.ended_at),
        "request": {"method": told.method, "url": redactor.redact_text(told.url), **_body("body", told.body, redactor)},
        **_answered(told, redactor),
    }


def _answered(told: Attempt | Check, redactor: Redactor) -> Document:
    message = redactor.redact_text(told.message) if told.message else None
    document: Document = {"http_status": told.http_status, "message": message, "answer": None}
    return document | (_body("answer", told.answer, redactor) if told.answer is not None else {})


def _body(name: str, body: bytes, redactor: Redactor) -> Document:
    # Redacted before it is cut, so that the cut cannot leave the half of a token standing; where it was cut when it
    # was read, its end is not shown.
    shown = redactor.redact_text(body.decode("utf-8", "replace"))
    cut = isinstance(body, Truncated)
    written = shown.encode()[: -LONGEST_SECRET if cut else None]
    if len(written) <= SHOWN_BYTES and not cut:
        return {name: shown}
    return {name: written[:SHOWN_BYTES].decode("utf-8", "ignore"), "truncated": True}


def provider_document(
    name: str, family: str, provider: Provider | None, models: Mapping[str, Any], *, signed: bool = False
) -> Document:
    """Return the document of a provider account, configured or not, with its models, their inputs and prices."""
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
                "validated": model.is_validated,
                "input": model.schema(),
                "price": model.price_note or None,
            }
            for model_id, model in models.items()
        ],
    }


def provider_documents(providers: Mapping[str, Provider], settings: Settings) -> list[Document]:
    """Return every configured account, then the families that are not configured."""
    documents = [
        provider_document(
            name,
            provider.family,
            provider,
            provider.models,
            signed=getattr(settings.providers[name], "webhook_secret", None) is not None,
        )
        for name, provider in providers.items()
    ]
    missing = [name for name in FAMILIES if name not in providers]
    return documents + [provider_document(name, name, None, FAMILIES[name].models) for name in missing]


def stats_document(told: Counts) -> Document:
    """Return the counts as a document; times are in seconds."""
    tasks: dict[str, dict[str, int]] = {}
    for (provider, state), number in told.tasks.items():
        tasks.setdefault(provider, {})[state.value] = number
    settled = sum(told.settled_by.values())
    return {
        "tasks": tasks,
        "time_to_settle": {"p50": told.quantile(0.5), "p95": told.quantile(0.95)},
        "settled_by": told.settled_by,
        "callback_share": told.settled_by.get("callback", 0) / settled if settled else None,
        "credits": {
            provider: {
                "estimated": sums.estimated,
                "reserved": sums.reserved,
                "charged": sums.charged,
                "spent": sums.spent,
            }
            for provider, sums in told.credits.items()
        },
    }


def spend_document(spent: list[Spent]) -> Document:
    """Return what each account cost by day (UTC); unlike credits are never summed over accounts."""
    accounts: Document = {}
    for each in spent:
        day = {"day": (format_timestamp(each.day) or "")[:10], "credits": each.credits, "tasks": each.tasks}
        accounts.setdefault(each.account, []).append(day)
    return accounts
