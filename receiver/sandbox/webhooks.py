"""Rivya's webhooks: the account registers endpoints, which receive the events of all its generations.

Written from the API's page on webhooks. A secret is shown once; later only its beginning and its end.
"""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.sandbox.answers import json_answer
from receiver.sandbox.endpoints import EVENT_TYPES, Endpoint, check_endpoint_url
from receiver.sandbox.family import JSON, Refusal, bearer
from receiver.sandbox.ledger import Ledger
from receiver.sandbox.orders import OrderError, Rule, check, check_destination, one_of, read_object, required_text
from receiver.sandbox.rivya import error, iso, refusal
from receiver.sandbox.signing import new_secret

PATH = "/rivya/api/v1/webhooks"
MAX_ENDPOINTS = 1000
MAX_NAME_LENGTH = 255
RULES = {
    "event_types": Rule(
        f"a list of some of {', '.join(EVENT_TYPES)}",
        lambda value: isinstance(value, list) and bool(value) and all(item in EVENT_TYPES for item in value),
    ),
    "status": one_of("active", "disabled"),
}

Handler = Callable[[Request], Awaitable[JSON]]


class RejectedURLError(Exception):
    """The URL of an endpoint may not be called."""


class NoSuchEndpointError(Exception):
    """No endpoint is registered under this id."""


@dataclass(frozen=True, slots=True)
class Webhooks:
    """Manages endpoints. With `callbacks_to`, only URLs under it are accepted."""

    ledger: Ledger
    clock: Callable[[], float]
    callbacks_to: str | None

    def routes(self) -> list[Route]:
        """Return the documented routes for endpoints, without the log of callbacks, event list and test event."""
        one = f"{PATH}/{{id}}"
        return [
            Route(PATH, _guarded(self._list), methods=["GET"]),
            Route(PATH, _guarded(self._create), methods=["POST"]),
            Route(one, _guarded(self._show), methods=["GET"]),
            Route(one, _guarded(self._change), methods=["PATCH"]),
            Route(one, _guarded(self._remove), methods=["DELETE"]),
            Route(f"{one}/rotate-secret", _guarded(self._rotate), methods=["POST"]),
        ]

    async def _list(self, _request: Request) -> JSON:
        return {"object": "list", "data": [self._describe(endpoint) for endpoint in self.ledger.endpoints.values()]}

    async def _create(self, request: Request) -> JSON:
        body = read_object(await request.body())
        name = required_text(body, "name", limit=MAX_NAME_LENGTH)
        if "event_types" not in body:
            raise OrderError("Missing required field: event_types")
        check(body, RULES)
        if len(self.ledger.endpoints) >= MAX_ENDPOINTS:
            raise OrderError(f"At most {MAX_ENDPOINTS} endpoints can be registered")
        now = self.clock()
        endpoint = Endpoint(
            id=f"whend_{secrets.token_hex(12)}",
            name=name,
            url=self._checked(body.get("url")),
            event_types=body["event_types"],
            secret=new_secret(),
            created_at=now,
            updated_at=now,
        )
        self.ledger.keep(endpoint)
        return {**self._describe(endpoint), "signing_secret": endpoint.secret}

    async def _show(self, request: Request) -> JSON:
        return self._describe(self._find_endpoint(request))

    async def _change(self, request: Request) -> JSON:
        body = read_object(await request.body())
        endpoint = self._find_endpoint(request)
        check(body, RULES)
        changes: dict[str, Any] = {"updated_at": self.clock()}
        if "name" in body:
            changes["name"] = required_text(body, "name", limit=MAX_NAME_LENGTH)
        if "url" in body:
            changes["url"] = self._checked(body["url"])
        if "event_types" in body:
            changes["event_types"] = body["event_types"]
        if "status" in body:
            changes["disabled_at"] = None if body["status"] == "active" else endpoint.disabled_at or self.clock()
        changed = replace(endpoint, **changes)
        self.ledger.keep(changed)
        return self._describe(changed)

    async def _remove(self, request: Request) -> JSON:
        endpoint = self._find_endpoint(request)
        self.ledger.drop(endpoint)
        return {**self._describe(endpoint), "status": "revoked", "revoked_at": iso(self.clock())}

    async def _rotate(self, request: Request) -> JSON:
        rotated = replace(self._find_endpoint(request), secret=new_secret(), updated_at=self.clock())
        self.ledger.keep(rotated)
        return {**self._describe(rotated), "signing_secret": rotated.secret}

    def _find_endpoint(self, request: Request) -> Endpoint:
        endpoint = self.ledger.endpoints.get(request.path_params["id"])
        if endpoint is None:
            raise NoSuchEndpointError
        return endpoint

    def _checked(self, url: Any) -> str:
        try:
            accepted = check_endpoint_url(url)
            check_destination(accepted, self.callbacks_to)
        except OrderError as wrong:
            raise RejectedURLError(str(wrong)) from None
        return accepted

    def _describe(self, endpoint: Endpoint) -> JSON:
        """Return the endpoint as the page has it; how its deliveries went is in the ledger."""
        tries = [t for p in self.ledger.purchases for t in p.callbacks if t.delivery.endswith(endpoint.id)]
        taken = [attempt.at for attempt in tries if attempt.answer == 200]
        failed = [attempt.at for attempt in tries if attempt.answer != 200]
        return {
            "id": endpoint.id,
            "object": "webhook_endpoint",
            "name": endpoint.name,
            "url": endpoint.url,
            "event_types": endpoint.event_types,
            "status": "active" if endpoint.disabled_at is None else "disabled",
            "secret_preview": f"{endpoint.secret[:8]}...{endpoint.secret[-6:]}",
            "last_success_at": iso(max(taken)) if taken else None,
            "last_failure_at": iso(max(failed)) if failed else None,
            "failure_count": len(failed),
            "created_at": iso(endpoint.created_at),
            "updated_at": iso(endpoint.updated_at),
            "disabled_at": None if endpoint.disabled_at is None else iso(endpoint.disabled_at),
            "revoked_at": None,
        }


def _guarded(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler behind the check of the key, its refusals as the API words them."""

    async def answer(request: Request) -> Response:
        if not bearer(request.headers):
            return json_answer(*refusal(Refusal.UNAUTHORISED, "The API key is missing"))
        try:
            return json_answer(200, await handler(request))
        except OrderError as wrong:
            return json_answer(*refusal(Refusal.INVALID, str(wrong)))
        except RejectedURLError as wrong:
            return json_answer(400, error("webhook_url_rejected", str(wrong)))
        except NoSuchEndpointError:
            return json_answer(*refusal(Refusal.UNKNOWN, "No such webhook endpoint"))

    return answer
