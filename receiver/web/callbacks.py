"""`POST /callbacks/{provider}/{token}`: the hot path. Everything that matters happens in `inbox`.

`receiver doctor` sends its probe the same way, under a name that no account can have.
"""

import json
import logging

import structlog
from starlette.requests import Request
from starlette.responses import Response

from receiver import round_trip
from receiver.core.errors import Forged
from receiver.core.messages import Outcome
from receiver.services import Services
from receiver.tasks import inbox
from receiver.web.bodies import body_share, read_body

log = structlog.get_logger()
_LEVEL = logging.getLogger("receiver")

_ANSWERS = {outcome: json.dumps({"outcome": outcome.value}).encode() for outcome in Outcome}
MAX_HEADERS = 50
"""Headers stored of a callback; providers send under twenty."""


async def callback(request: Request) -> Response:
    """Receive one callback; answers exactly 200 once it is stored, whatever it says."""
    services: Services = request.app.state.services
    account, token = request.path_params["provider"], request.path_params["token"]
    if account == round_trip.ACCOUNT:
        return await _answer_doctor(request, services, token)
    to = inbox.address(services, account, token)
    with body_share(request) as share:
        body = await read_body(request, services.settings.max_callback_bytes, share)
        headers = dict(request.headers.items()[:MAX_HEADERS])
        try:
            outcome = await inbox.receive(services, to, headers, body)
        except Forged:
            _log_callback(account, to.task_id, Outcome.FORGED)
            raise
    _log_callback(account, to.task_id, outcome)
    return Response(_ANSWERS[outcome], media_type="application/json")


def _log_callback(account: str, task_id: str | None, outcome: Outcome) -> None:
    # Asked first: even a line that is not shown costs some microseconds of every callback.
    if _LEVEL.isEnabledFor(logging.DEBUG):
        log.debug("callback", provider=account, task=task_id, outcome=outcome.value)


async def _answer_doctor(request: Request, services: Services, token: str) -> Response:
    probe = round_trip.read_probe(services, token)
    with body_share(request) as share:
        body = await read_body(request, round_trip.MAX_BODY, share)
        content = json.dumps({"answer": await round_trip.answer_probe(services, probe, body)}).encode()
    return Response(content, media_type="application/json")
