"""Stored callbacks of all tasks and accounts: the list, and reading one again."""

from starlette.requests import Request
from starlette.responses import Response

from receiver.core.errors import NotFound
from receiver.documents import delivery_document, replayed_document
from receiver.services import Services
from receiver.store import reading
from receiver.store.reading import DeliveryFilter
from receiver.tasks.replay import replay
from receiver.web import access
from receiver.web.api import requests
from receiver.web.api.responses import json_response
from receiver.web.api.tasks import require_no_body

MAX_DIGITS = 18
"""Digits of a delivery's number; a longer one is no number of ours."""


async def list_deliveries(request: Request) -> Response:
    """GET /api/deliveries."""
    await access.require_api(request)
    services: Services = request.app.state.services
    query = requests.validate(requests.DeliveriesQuery, dict(request.query_params), "query")
    wanted = DeliveryFilter(
        provider=query.provider,
        outcome=query.outcome,
        since=requests.to_milliseconds(query.since),
        until=requests.to_milliseconds(query.until),
        before=query.cursor,
        limit=query.limit,
    )
    found = await services.store.read(lambda session: reading.deliveries(session, wanted))
    following = str(found[-1].id) if len(found) == wanted.limit else None
    return json_response({"deliveries": [delivery_document(each) for each in found], "next": following})


async def replay_delivery(request: Request) -> Response:
    """POST /api/deliveries/{id}/replay."""
    await require_no_body(request)
    services, given = request.app.state.services, request.path_params["id"]
    if not (given.isascii() and given.isdigit() and len(given) <= MAX_DIGITS):
        raise NotFound(f"There is no delivery {given[:60]}.")
    return json_response(await replayed_document(services, await replay(services, int(given))))
