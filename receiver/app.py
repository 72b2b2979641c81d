"""The service as an ASGI application: a table of contents.

`server` runs it, tests drive it. The database must exist and be migrated before it starts.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from receiver import services as wiring
from receiver.archive.archiver import Archiver
from receiver.config.settings import Settings
from receiver.core.errors import StoreUnavailable
from receiver.core.links import CALLBACKS
from receiver.feed import Feed
from receiver.notifications.sender import Sender
from receiver.sandbox.app import Sandbox
from receiver.services import Services
from receiver.tasks.poller import Poller
from receiver.tasks.recovery import recover
from receiver.web.api.endpoints import OPERATIONS, Endpoint
from receiver.web.api.openapi import openapi
from receiver.web.body_budget import BODIES_BYTES, BodyBudget
from receiver.web.headers import SecurityHeaders
from receiver.web.pages.login_throttle import LoginThrottle
from receiver.web.pages.routes import ROUTES as PAGES
from receiver.web.problems import HANDLERS

log = structlog.get_logger()

RETRY_SECONDS = 1.0
SANDBOX_LEDGER = "sandbox-provider.jsonl"
DRAIN_SECONDS = 3.0
"""Seconds that requests to providers may go on after our last response. Together with the time that a locked database
takes to store how the rest ended, the whole stop takes under ten."""


def create_app(settings: Settings, *, clock: Callable[[], int] = wiring.clock) -> Starlette:
    """Return the application; `clock` returns Unix milliseconds."""
    sandbox = _sandbox(settings) if settings.sandbox else None
    routes: list[BaseRoute] = [_match_whole_path(route) for route in (*_api_routes(), *PAGES)]
    if sandbox is not None:
        routes.append(Mount("/sandbox", app=sandbox.app))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if sandbox is not None:
                await stack.enter_async_context(sandbox.running())
            services = Services.open(settings, clock=clock)
            stack.push_async_callback(services.close, DRAIN_SECONDS)
            await stack.enter_async_context(Sender(services).running())
            stack.callback(services.stopping.set)
            app.state.services = services
            app.state.feed = Feed(services)
            app.state.recovered = False
            await _start(app, services)
            yield

    app = Starlette(routes=routes, exception_handlers=HANDLERS, lifespan=lifespan)
    app.state.body_budget = BodyBudget(max(BODIES_BYTES, 4 * settings.max_callback_bytes))
    app.state.login_throttle = LoginThrottle()
    app.state.posters = None
    app.router.redirect_slashes = False  # such a redirect would name whatever host the request named
    app.add_middleware(SecurityHeaders)
    if settings.path_prefix:
        app.add_middleware(StripPathPrefix, prefix=settings.path_prefix)
    return app


def _api_routes() -> list[BaseRoute]:
    """Return one route for each path, so that the answer to a wrong method names all the right ones."""
    paths: dict[str, dict[str, Endpoint]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = operation.endpoint
    routes: list[BaseRoute] = [
        Route(path, _dispatch_by_method(endpoints), methods=list(endpoints)) for path, endpoints in paths.items()
    ]
    return [*routes, Route("/openapi.json", openapi)]


def _match_whole_path(route: BaseRoute) -> BaseRoute:
    """Return the route with a pattern that matches its path exactly: Starlette's own also allows a newline after it.

    Senders and proxies that normalise URLs append a slash to a callback's. It must arrive all the same.
    """
    if isinstance(route, Route):
        end = r"/*\Z" if route.path.startswith(CALLBACKS) else r"\Z"
        route.path_regex = re.compile(route.path_regex.pattern.removesuffix("$") + end)
    return route


def _dispatch_by_method(endpoints: dict[str, Endpoint]) -> Endpoint:
    if len(endpoints) == 1:
        return next(iter(endpoints.values()))

    async def endpoint(request: Request) -> Response:
        return await endpoints["GET" if request.method == "HEAD" else request.method](request)

    return endpoint


async def _start(app: Starlette, services: Services) -> None:
    """Resolve what a stopped process left, then start polling. An unavailable database does not prevent the start.

    Checks that a callback causes are made even where this process does not sweep.
    """
    try:
        await _recover(app, services)
    except StoreUnavailable:
        services.background.start(_recover_later(app, services))
    poller = Poller(services, sweeps=services.settings.poller)
    if services.settings.poller:
        services.background.start(poller.run())
    if services.storage is not None:
        services.background.start(Archiver(services, services.storage).run())


async def _recover(app: Starlette, services: Services) -> None:
    recovered = await recover(services)
    if recovered:
        log.warning("interrupted_submissions_recovered", unconfirmed=recovered)
    app.state.recovered = True


async def _recover_later(app: Starlette, services: Services) -> None:
    while not app.state.recovered:
        try:
            await _recover(app, services)
        except StoreUnavailable as error:
            log.warning("recovery_postponed", reason=str(error))
            await asyncio.sleep(RETRY_SECONDS)


def _sandbox(settings: Settings) -> Sandbox:
    return Sandbox(
        ledger_path=settings.data_dir / SANDBOX_LEDGER,
        callbacks_to=settings.public_url,
        tokens=[token.get_secret_value() for token in settings.api_tokens],
    )


class StripPathPrefix:
    """Removes the public URL's path from requests that a proxy passed on with it."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(f"{self._prefix}/"):
            path = scope["path"].removeprefix(self._prefix)
            raw = scope.get("raw_path", path.encode()).removeprefix(self._prefix.encode())
            scope = {**scope, "path": path, "raw_path": raw}
        await self._app(scope, receive, send)
