"""The pages: each handler reads a request, calls a function of a lower layer, and renders a template or redirects.

`app` mounts `ROUTES` at the root. Everything here works without JavaScript; `static/page.js` only adds live updates.
Every change is a POST of a form of this session, and a form that spends carries a hidden idempotency key.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from receiver.accounts import fetch_balance
from receiver.core.catalog import Model
from receiver.core.errors import Conflict, Fault, Invalid, NotFound, StoreUnavailable
from receiver.core.states import SETTLED
from receiver.documents import task_document
from receiver.store import Session, measured, reading, spending
from receiver.store.counts import count_by_state
from receiver.tasks import adoption, submission
from receiver.tasks.checks import check_now
from receiver.web.pages import attention, forms, history, listing, login, order_form, providers, task, wording
from receiver.web.pages.layout import page, redirect, render, services_of
from receiver.web.pages.static_files import StaticFiles


async def show_tasks(request: Request) -> Response:
    """GET /: the tasks, newest first, after those that need attention."""
    services, selection = services_of(request), listing.read(request)

    def query(session: Session) -> dict[str, Any]:
        return {
            "tasks": reading.brief_listing(session, selection.filter),
            "attention": [] if selection.is_filtered else attention.list_first(session),
            "counted": count_by_state(session),
        }

    found = await services.store.read(query)
    accounts = sorted({*services.providers, *(account for account, _ in found["counted"])})
    return render(
        request,
        "tasks.html",
        **found,
        selection=selection,
        numbers=listing.sum_by_state(found["counted"], selection.filter.provider),
        accounts=accounts,
        settled=SETTLED,
        words=wording,
        redacted=services.redactor.redact_text,
        full=len(found["tasks"]) == selection.filter.limit,
        address=services.settings.public_url or services.settings.local_url,
        example=_example(request),
    )


async def show_task(request: Request) -> Response:
    """GET /tasks/{id}: one task, and everything that happened to it."""
    services, task_id = services_of(request), request.path_params["id"]

    def query(session: Session) -> Any:
        found = reading.task(session, task_id)
        if found is None:
            raise NotFound(f"There is no task {task_id[:60]}.")
        reasons = attention.reasons_of(session, task_id)
        return found, reading.outputs(session, [task_id])[task_id], reading.history(session, task_id), reasons

    found, outputs, events, reasons = await services.store.read(query)

    def render_page() -> Response:
        document = task_document(found, outputs, services.redactor, services.settings)
        return render(
            request,
            "task.html",
            task=found,
            credits=document["credits"],
            meaning=task.meaning(found, [row for row, _ in events]),
            actions=task.actions(services, found),
            reasons=reasons,
            files=task.files(services.settings, outputs, document["outputs"]),
            evidence=task.evidence(found),
            deadline=task.deadline(services, found),
            steps=history.build_timeline(events, services.redactor),
            action_result=wording.ACTION_RESULTS.get(request.query_params.get("done", ""), ""),
            redacted=services.redactor.redact_text,
            pretty=task.pretty,
            words=wording,
            settled=SETTLED,
            key=forms.new_key(),
        )

    return await asyncio.to_thread(render_page)  # callbacks may have filled its history: it may take a while


async def check_task(request: Request) -> Response:
    """POST /tasks/{id}/check: check the task at the provider now."""
    await forms.read_own_form(request)
    task_id = request.path_params["id"]
    await check_now(services_of(request), task_id)
    return redirect(request, f"/tasks/{task_id}?done=check")


async def cancel_task(request: Request) -> Response:
    """POST /tasks/{id}/cancel: never send a queued task."""
    await forms.read_own_form(request)
    task_id = request.path_params["id"]
    await submission.cancel(services_of(request), task_id)
    return redirect(request, f"/tasks/{task_id}?done=cancel")


async def retry_task(request: Request) -> Response:
    """POST /tasks/{id}/retry: place the same order again, which spends."""
    form = await forms.read_own_form(request)
    task_id, _ = await submission.retry(services_of(request), request.path_params["id"], forms.read_key(form))
    return redirect(request, f"/tasks/{task_id}")


async def adopt_task(request: Request) -> Response:
    """POST /tasks/{id}/adopt: a person resolves an unconfirmed task."""
    form, services = await forms.read_own_form(request), services_of(request)
    task_id = request.path_params["id"]
    if form.get("found") == "no":
        await adoption.not_bought(services, task_id)
    else:
        await adoption.adopt(services, task_id, form.get("remote_id", ""))
    return redirect(request, forms.local_path(form["back"]) if "back" in form else f"/tasks/{task_id}")


async def show_new(request: Request) -> Response:
    """GET /new: the choice of a model, or the form of the chosen one."""
    services = services_of(request)
    provider, name = (request.query_params.get(field, "").strip() for field in ("provider", "model"))
    if provider not in services.providers or not name:
        return render(request, "choose.html", accounts=providers.list_accounts(services), provider=provider)
    return _order_form(request, provider, name, {"key": forms.new_key()})


async def order_task(request: Request) -> Response:
    """POST /new: order a task, which spends; an invalid form is shown again with what was typed."""
    form, services = await forms.read_own_form(request, forms.MAX_ORDER), services_of(request)
    provider, name = form.get("provider", ""), form.get("model", "")
    try:
        order = order_form.read_order(provider, name, _model(request, provider, name), form)
        task_id, _ = await submission.submit(services, order)
    except Invalid as error:
        return _order_form(request, provider, name, form, faults=error.faults, status=422)
    except Conflict:
        message = (
            "This form was already sent with other content, and that order stands. Send it again for a second order."
        )
        fault = Fault((), message)
        return _order_form(request, provider, name, form | {"key": forms.new_key()}, faults=(fault,), status=409)
    return redirect(request, f"/tasks/{task_id}")


async def keep_order(request: Request, error: StoreUnavailable) -> Response:
    """POST /new while the database is unavailable: nothing is ordered, and nothing typed is lost."""
    form = await forms.read_own_form(request, forms.MAX_ORDER)
    sentence = f"{str(error)[:1].upper()}{str(error)[1:]}"
    advice = "Send this form again in a moment; it cannot order twice."
    fault = Fault((), f"{sentence}. {advice}")
    return _order_form(request, form.get("provider", ""), form.get("model", ""), form, faults=(fault,), status=503)


async def show_balance(request: Request) -> Response:
    """POST /providers/{name}/balance: show the providers with one account's current balance."""
    await forms.read_own_form(request)
    name = request.path_params["name"]
    return await show_providers(request, {name: await fetch_balance(services_of(request), name)})


async def show_providers(request: Request, balances: Mapping[str, float] | None = None) -> Response:
    """GET /providers: the configured accounts, and what to set for the others."""
    services = services_of(request)
    since = spending.start_of_day(services.clock()) - providers.SPEND_DAYS * spending.DAY
    spent, known = await services.store.read(
        lambda session: (spending.list_spent_by_day(session, since), measured.read_all(session))
    )
    return render(
        request,
        "providers.html",
        accounts=providers.list_accounts(services, known),
        unconfigured=providers.list_unconfigured(services),
        spent=spent,
        day=providers.format_day,
        balances=balances or {},
    )


def _order_form(
    request: Request, provider: str, name: str, form: forms.Form, *, faults: tuple[Fault, ...] = (), status: int = 200
) -> Response:
    model = _model(request, provider, name)
    shown = order_form.build_form(model, form, faults)
    return render(
        request, "new.html", status, provider=provider, name=name, model=model, form=shown, key=form.get("key", "")
    )


def _model(request: Request, provider: str, name: str) -> Model | None:
    account = services_of(request).providers.get(provider)
    return account.models.get(name) if account else None


def _example(request: Request) -> tuple[str, str]:
    """Return an account and a model for the example of a first order."""
    accounts = services_of(request).providers
    return next(((name, next(iter(account.models), "MODEL")) for name, account in accounts.items()), ("", ""))


ROUTES: list[BaseRoute] = [
    Route("/login", page(login.show_login, is_public=True), methods=["GET"]),
    Route("/login", page(login.log_in, is_public=True), methods=["POST"]),
    Route("/logout", page(login.log_out), methods=["POST"]),
    Route("/", page(show_tasks), methods=["GET"]),
    Route("/tasks/{id}", page(show_task), methods=["GET"]),
    Route("/tasks/{id}/check", page(check_task), methods=["POST"]),
    Route("/tasks/{id}/cancel", page(cancel_task), methods=["POST"]),
    Route("/tasks/{id}/retry", page(retry_task), methods=["POST"]),
    Route("/tasks/{id}/adopt", page(adopt_task), methods=["POST"]),
    Route("/attention", page(attention.show_attention), methods=["GET"]),
    Route("/attention/{id}/acknowledge", page(attention.acknowledge_task), methods=["POST"]),
    Route("/attention/{id}/retry", page(attention.retry_task), methods=["POST"]),
    Route("/new", page(show_new), methods=["GET"]),
    Route("/new", page(order_task, on_unavailable=keep_order), methods=["POST"]),
    Route("/providers", page(show_providers), methods=["GET"]),
    Route("/providers/{name}/balance", page(show_balance), methods=["POST"]),
    Mount("/static", StaticFiles(Path(__file__).with_name("static"))),
]
