"""Endpoints for the messages to the user's application: listing them, and sending one again."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from receiver.notifications.resending import list_notifications as read_notifications
from receiver.notifications.resending import send_again, show_notification
from receiver.services import Services
from receiver.store.notifications import MessageFilter
from receiver.web import access
from receiver.web.api import requests
from receiver.web.api.responses import json_response
from receiver.web.api.tasks import require_no_body


class NotificationsQuery(BaseModel):
    """The query of `GET /api/notifications`."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["waiting", "delivered", "failed"] | None = None
    task: Annotated[str, Field(max_length=64)] | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str, Field(pattern=r"^msg_[0-9a-z]{26}$")] | None = None


async def list_notifications(request: Request) -> Response:
    """GET /api/notifications."""
    await access.require_api(request)
    query = requests.validate(NotificationsQuery, dict(request.query_params), "query")
    wanted = MessageFilter(query.state, query.task, query.cursor, query.limit)
    found, following = await read_notifications(_services(request), wanted)
    return json_response({"notifications": found, "next": following})


async def send_notification(request: Request) -> Response:
    """POST /api/notifications/{id}/send."""
    await require_no_body(request)
    services, webhook_id = _services(request), request.path_params["id"]
    await send_again(services, webhook_id)
    return json_response(await show_notification(services, webhook_id))


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services
