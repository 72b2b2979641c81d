"""The attention page: the tasks that a person should look at, each with its ways out as buttons.

`routes` mounts the handlers. Every way out is a form that changes something only where the single action would.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from receiver.core.attention import advise
from receiver.store import Session, attention
from receiver.store.attention import Item
from receiver.store.tables import Task
from receiver.tasks import submission
from receiver.tasks.acknowledgement import acknowledge
from receiver.web.pages import forms, task, wording
from receiver.web.pages.layout import redirect, render, services_of

SHOWN = 100
"""Reasons on one page; the rest comes up as these are dealt with."""
SHOWN_FIRST = 5
"""Reasons above the list of tasks."""


@dataclass(frozen=True, slots=True)
class Why:
    """One reason to look at a task, in words."""

    headline: str
    advice: str
    since: int
    detail: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A task on the list, with all reasons for which it is there."""

    task: Task
    reasons: tuple[Why, ...]


def group_by_task(items: Sequence[Item]) -> list[Entry]:
    """Return the items of the list with the reasons of each task together."""
    reasons: dict[str, list[Why]] = {}
    for item in items:
        may_have_cost = item.task.may_have_cost
        headline = wording.REASONS.get(item.reason, item.reason)
        why = Why(headline, advise(item.reason, may_have_cost=may_have_cost), item.since, item.detail)
        reasons.setdefault(item.task.id, []).append(why)
    tasks = {item.task.id: item.task for item in items}
    return [Entry(tasks[task_id], tuple(found)) for task_id, found in reasons.items()]


def list_first(session: Session) -> list[Entry]:
    """Return the entries that are shown above the list of tasks."""
    return group_by_task(attention.list_items(session, SHOWN_FIRST))


def reasons_of(session: Session, task_id: str) -> list[str]:
    """Return in words why a task is on the list."""
    return [wording.REASONS.get(reason, reason) for reason in attention.reasons_of(session, task_id)]


async def show_attention(request: Request) -> Response:
    """GET /attention: everything on the list, most costly first."""
    services = services_of(request)

    def query(session: Session) -> tuple[list[Item], dict[str, int]]:
        return attention.list_items(session, SHOWN), attention.count_by_reason(session)

    items, counts = await services.store.read(query)
    return render(
        request,
        "attention.html",
        entries=[(entry, task.actions(services, entry.task), forms.new_key()) for entry in group_by_task(items)],
        rest=sum(counts.values()) - len(items),
        done=wording.ATTENTION_RESULTS.get(request.query_params.get("done", ""), ""),
        words=wording,
        redacted=services.redactor.redact_text,
    )


async def acknowledge_task(request: Request) -> Response:
    """POST /attention/{id}/acknowledge: take a task off the list."""
    await forms.read_own_form(request)
    await acknowledge(services_of(request), request.path_params["id"])
    return redirect(request, "/attention?done=acknowledged")


async def retry_task(request: Request) -> Response:
    """POST /attention/{id}/retry: place the same order again, which spends, and take the old task off the list."""
    form = await forms.read_own_form(request)
    services, task_id = services_of(request), request.path_params["id"]
    new, _ = await submission.retry(services, task_id, forms.read_key(form))
    await acknowledge(services, task_id)
    return redirect(request, f"/tasks/{new}")
