"""The attention list, and one action for many tasks."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from receiver.documents import TaskDocument, attention_document, read_documents
from receiver.services import Services
from receiver.store import Session
from receiver.tasks import batch
from receiver.tasks.batch import Batch, Result
from receiver.tasks.submission import digest_of
from receiver.web import access
from receiver.web.api import requests
from receiver.web.api.responses import json_response
from receiver.web.bodies import read_json
from receiver.web.problems import problem_document


async def list_attention(request: Request) -> Response:
    """GET /api/attention."""
    await access.require_api(request)
    limit = requests.validate(requests.AttentionQuery, dict(request.query_params), "query").limit
    services: Services = request.app.state.services
    return await services.store.read(lambda session: json_response(attention_document(services, session, limit)))


async def run_batch(request: Request) -> Response:
    """POST /api/tasks/batch."""
    await access.require_api(request)
    requests.refuse_query(request)
    services: Services = request.app.state.services
    key, given = requests.idempotency_key(request), await read_json(request)
    body = requests.validate(requests.BatchBody, given)
    chosen = body.ids if body.ids is not None else requests.read_batch_filter(body.filter or {})
    wanted = Batch(body.action, chosen, body.max_credits, key, digest_of(given))
    results, following = await batch.run(services, wanted)

    def show_results(session: Session) -> Response:  # serialised in the reading thread
        shown = read_documents(services, session, [each.shown for each in results if each.shown is not None])
        return json_response({"results": [_document(each, shown) for each in results], "next": following})

    return await services.store.read(show_results)


def _document(result: Result, shown: dict[str, TaskDocument]) -> dict[str, Any]:
    if result.error is not None:
        return {"id": result.task_id, "ok": False, "problem": problem_document(result.error)}
    return {"id": result.task_id, "ok": True, "task": shown.get(result.shown or "")}
