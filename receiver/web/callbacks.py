"""`POST /callbacks/{provider}/{token}`: the hot path. Everything that matters happens in `inbox`."""

import json

from starlette.requests import Request
from starlette.responses import Response

from receiver import inbox
from receiver.messages import Outcome
from receiver.services import Services
from receiver.web.bodies import read_body

_ANSWERS = {outcome: json.dumps({"outcome": outcome.value}).encode() for outcome in Outcome}
KEPT_HEADERS = 50
"""Headers kept of a callback; honest ones have under twenty."""


async def callback(request: Request) -> Response:
    """Take one callback: exactly 200 once it is stored, whatever it said."""
    services: Services = request.app.state.services
    to = inbox.address(services, request.path_params["provider"], request.path_params["token"])
    body = await read_body(request, services.settings.max_callback_bytes)
    headers = dict(request.headers.items()[:KEPT_HEADERS])
    outcome = await inbox.receive(services, to, headers, body)
    return Response(_ANSWERS[outcome], media_type="application/json")
