"""The API under `/api`: each endpoint reads a request, calls one function of a lower layer, answers with a document."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from receiver.accounts import fetch_balance
from receiver.core.errors import StoreUnavailable
from receiver.core.states import SETTLED, State
from receiver.documents import (
    history_document,
    list_documents,
    read_stats,
    show,
)
from receiver.services import Services
from receiver.store import Session, reading
from receiver.store.tables import Task
from receiver.tasks import adoption, poller, submission
from receiver.tasks.acknowledgement import acknowledge
from receiver.tasks.checks import check_now
from receiver.tasks.submission import NewTask
from receiver.web import access
from receiver.web.api import requests
from receiver.web.api.responses import json_response
from receiver.web.bodies import read_body, read_json, read_object
from receiver.web.measured import show_providers

POLL_SECONDS = 50.0
UNREADABLE = "Your order is stored, but the database cannot be read right now. Get this task again for the rest."


async def create_task(request: Request) -> Response:
    """POST /api/tasks."""
    await access.require_api(request)
    requests.refuse_query(request)
    key = requests.idempotency_key(request)
    given = await read_json(request)
    services, digest = _services(request), submission.digest_of(given)
    if "remote_id" in given:
        found = requests.validate(requests.TrackBody, given)
        order = NewTask(
            found.provider, found.model, {}, found.metadata, key=key, digest=digest, notify_url=found.notify_url
        )
        return await _created(request, *await adoption.track(services, order, found.remote_id))
    body = requests.validate(requests.OrderBody, given)
    order = NewTask(
        body.provider,
        body.model,
        body.input,
        body.metadata,
        validate=body.validated,
        key=key,
        digest=digest,
        notify_url=body.notify_url,
    )
    return await _created(request, *await submission.submit(services, order))


async def list_tasks(request: Request) -> Response:
    """GET /api/tasks."""
    await access.require_api(request)
    services, wanted = _services(request), requests.read_filter(request)

    def query(session: Session) -> Response:  # serialised in the reading thread: a megabyte takes a while
        shown, following = list_documents(services, wanted, session)
        return json_response({"tasks": shown, "next": following})

    return await services.store.read(query)


async def get_task(request: Request) -> Response:
    """GET /api/tasks/{id}."""
    await access.require_api(request)
    query = requests.validate(requests.WaitQuery, dict(request.query_params), "query")
    services, task_id = _services(request), request.path_params["id"]

    def is_settled(task: Task | None) -> bool:
        return task is None or task.state in SETTLED

    if query.wait:
        await services.store.until(lambda session: reading.task(session, task_id), is_settled, query.wait, of=[task_id])
    return json_response(await show(services, task_id))


async def get_history(request: Request) -> Response:
    """GET /api/tasks/{id}/history."""
    await access.require_api(request)
    requests.refuse_query(request)
    services, task_id = _services(request), request.path_params["id"]
    await show(services, task_id)
    rows = await services.store.read(lambda session: reading.history(session, task_id))

    def show_events() -> Response:
        return json_response({"events": [history_document(row, detail, services.redactor) for row, detail in rows]})

    return await asyncio.to_thread(show_events)  # callbacks may have filled it: it may take a while


async def check_task(request: Request) -> Response:
    """POST /api/tasks/{id}/check."""
    await require_no_body(request)
    services, task_id = _services(request), request.path_params["id"]
    await check_now(services, task_id)
    return json_response(await show(services, task_id))


async def retry_task(request: Request) -> Response:
    """POST /api/tasks/{id}/retry."""
    await require_no_body(request)
    services, key = _services(request), requests.idempotency_key(request)
    return await _created(request, *await submission.retry(services, request.path_params["id"], key))


async def cancel_task(request: Request) -> Response:
    """POST /api/tasks/{id}/cancel."""
    await require_no_body(request)
    services, task_id = _services(request), request.path_params["id"]
    await submission.cancel(services, task_id)
    return json_response(await show(services, task_id))


async def adopt_task(request: Request) -> Response:
    """POST /api/tasks/{id}/adopt."""
    await access.require_api(request)
    requests.refuse_query(request)
    services, task_id = _services(request), request.path_params["id"]
    body = requests.validate(requests.AdoptBody, await read_json(request))
    if body.remote_id is not None:
        await adoption.adopt(services, task_id, body.remote_id)
    else:
        await adoption.not_bought(services, task_id)
    return json_response(await show(services, task_id))


async def acknowledge_task(request: Request) -> Response:
    """POST /api/tasks/{id}/acknowledge."""
    await require_no_body(request)
    services, task_id = _services(request), request.path_params["id"]
    await acknowledge(services, task_id)
    return json_response(await show(services, task_id))


async def poll(request: Request) -> Response:
    """POST /api/poll."""
    await require_no_body(request)
    services, report, stop = _services(request), Counter[str](), asyncio.Event()
    sweeping = services.background.start(poller.sweep(services, report, stop))
    # Requests that were started by the last claim may take one more timeout.
    await asyncio.wait({sweeping}, timeout=max(POLL_SECONDS - services.settings.timeout - 1, 1))
    stop.set()
    await asyncio.wait({sweeping}, timeout=min(services.settings.timeout, POLL_SECONDS - 1))
    if sweeping.done():
        sweeping.result()  # raises what ended the sweep early: a database that could not be written
    return json_response({name: report[name] for name in poller.COUNTED})


async def list_providers(request: Request) -> Response:
    """GET /api/providers."""
    await access.require_api(request)
    requests.refuse_query(request)
    return json_response({"providers": await show_providers(_services(request))})


async def get_balance(request: Request) -> Response:
    """GET /api/providers/{name}/balance."""
    await access.require_api(request)
    requests.refuse_query(request)
    name = request.path_params["name"]
    return json_response({"name": name, "credits": await fetch_balance(_services(request), name)})


async def stats(request: Request) -> Response:
    """GET /api/stats."""
    await access.require_api(request)
    requests.refuse_query(request)
    return json_response(await read_stats(_services(request)))


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def require_no_body(request: Request) -> None:
    """Raise unless the caller is authorised and sent no query and at most an empty JSON object."""
    await access.require_api(request)
    requests.refuse_query(request)
    if body := await read_body(request, 1024):
        requests.validate(requests.EmptyBody, read_object(body))


async def _created(request: Request, task_id: str, is_new: bool) -> Response:  # noqa: FBT001 - as submission gives it
    services = _services(request)
    prefix = services.settings.path_prefix
    headers: dict[str, Any] = {"Location": f"{prefix}/api/tasks/{task_id}"}
    try:
        document: Mapping[str, Any] = await show(services, task_id)
    except StoreUnavailable:
        if not is_new:
            raise
        # The order is stored: a caller who got an error here would order again, and pay twice.
        document = {"id": task_id, "state": State.QUEUED.value, "notices": [UNREADABLE]}
    return json_response(document, 201 if is_new else 200, headers)
