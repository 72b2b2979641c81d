"""`POST /callbacks/{provider}/{token}`: the hot path. Everything that matters happens in `inbox`.

`receiver doctor` comes the same way as providers do, under a name that no account can have.
"""

import json

from starlette.requests import Request
from starlette.responses import Response

from receiver import round_trip
from receiver.core.messages import Outcome
from receiver.services import Services
from receiver.tasks import inbox
from receiver.web.bodies import body_share, read_body

_ANSWERS = {outcome: json.dumps({"outcome": outcome.value}).encode() for outcome in Outcome}
KEPT_HEADERS = 50
"""Headers kept of a callback; honest ones have under twenty."""


async def callback(request: Request) -> Response:
    """Take one callback: exactly 200 once it is stored, whatever it said."""
    services: Services = request.app.state.services
    account, token = request.path_params["provider"], request.path_params["token"]
    if account == round_trip.ACCOUNT:
        return await _answer_doctor(request, services, token)
    to = inbox.address(services, account, token)
    with body_share(request) as share:
        body = await read_body(request, services.settings.max_callback_bytes, share)
        headers = dict(request.headers.items()[:KEPT_HEADERS])
        outcome = await inbox.receive(services, to, headers, body)
    return Response(_ANSWERS[outcome], media_type="application/json")


async def _answer_doctor(request: Request, services: Services, token: str) -> Response:
    question = round_trip.question_in(services, token)
    with body_share(request) as share:
        body = await read_body(request, round_trip.MAX_BODY, share)
        content = json.dumps({"answer": await round_trip.answer(services, question, body)}).encode()
    return Response(content, media_type="application/json")
