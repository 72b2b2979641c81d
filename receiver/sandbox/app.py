"""The sandbox as an ASGI application, alone or mounted in another one.

`receiver` and tests mount `Sandbox.app` and enter `Sandbox.running()` in their own lifespan, since a mounted app has
none; `create_app` runs the sandbox alone. On this machine it must accept any credential, and never store one.
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route

from receiver.sandbox.access import LocalOrToken
from receiver.sandbox.answers import json_answer
from receiver.sandbox.apixo import APIXO
from receiver.sandbox.balances import KIE_ACCOUNT, KIE_FAMILIES, Limit, balance_routes
from receiver.sandbox.callbacks import CallbackSender
from receiver.sandbox.family import Family
from receiver.sandbox.files import FileStore
from receiver.sandbox.gateway import GATEWAY
from receiver.sandbox.handlers import Handlers
from receiver.sandbox.kie import market
from receiver.sandbox.ledger import Ledger
from receiver.sandbox.purchase import public_view
from receiver.sandbox.revid import REVID
from receiver.sandbox.rivya import RIVYA
from receiver.sandbox.uploads import Uploads
from receiver.sandbox.veo import veo
from receiver.sandbox.webhooks import Webhooks

MEDIA = Path(__file__).with_name("media.mp4")
# An order may carry reference images in its body.
MAX_REQUEST_BYTES = 32 * 1024 * 1024


class Sandbox:
    """Simulated providers with one ledger; `app` serves them, `running()` sends their callbacks."""

    def __init__(
        self,
        *,
        ledger_path: Path | None = None,
        late_by: float = 15.0,
        retry_factor: float = 1.0,
        callbacks_to: str | None = None,
        kie_creates: tuple[int, float] = (20, 10.0),
        kie_webhook_key: str | None = None,
        tokens: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the ledger, in memory without a path.

        A late callback comes `late_by` seconds after the end; `retry_factor` scales the pauses of 1, 2 and 4 seconds
        between tries; `clock` returns epoch seconds. With `callbacks_to`, a URL, only callback URLs under it are
        accepted: otherwise anyone who reaches the sandbox can make it post anywhere. `kie_creates` is kie's rate
        limit: orders and seconds. kie signs its callbacks if there is a `kie_webhook_key`. From another machine, a
        request needs one of the `tokens` as its key.
        """
        self.ledger = Ledger(ledger_path)
        self._clock = clock
        self._callbacks_to = callbacks_to
        self._kie_limit = Limit(KIE_FAMILIES, *kie_creates)
        kie = market(kie_webhook_key, lambda: KIE_ACCOUNT.left(self.ledger, clock()))
        self._families = {f.name: f for f in (RIVYA, APIXO, REVID, GATEWAY, kie, veo(kie_webhook_key))}
        self._sender = CallbackSender(
            ledger=self.ledger, families=self._families, late_by=late_by, retry_factor=retry_factor, clock=clock
        )
        self._files = FileStore()
        self.app = Starlette(routes=self._routes(), max_body_size=MAX_REQUEST_BYTES)
        self.app.router.redirect_slashes = False
        self.app.add_middleware(LocalOrToken, tokens=tokens)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send callbacks while the context lasts, also those that an earlier run left; then close the ledger."""
        try:
            with self._files.open_directory():
                async with self._sender.running():
                    yield
        finally:
            self.ledger.close()

    def _routes(self) -> list[Route]:
        routes = [Route("/ledger", self._show_ledger), Route("/media/{name}.mp4", _show_media)]
        for family in self._families.values():
            limit = self._kie_limit if family.name in KIE_FAMILIES else None
            handlers = Handlers(family, self.ledger, self._sender, self._clock, self._callbacks_to, limit)
            routes += _routes_of(family, handlers)
        return [
            *routes,
            *Webhooks(self.ledger, self._clock, self._callbacks_to).routes(),
            *Uploads(self._files, self._clock).routes(),
            *balance_routes(self.ledger, self._clock),
        ]

    async def _show_ledger(self, _request: Request) -> Response:
        return json_answer(200, {"purchases": [public_view(purchase) for purchase in self.ledger.purchases]})


def create_app(sandbox: Sandbox | None = None) -> Starlette:
    """Return the sandbox as an application, for `uvicorn --factory`; in memory unless one is given."""
    inner = sandbox or Sandbox()

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with inner.running():
            yield

    return Starlette(routes=[Mount("/", app=inner.app)], lifespan=lifespan)


def _routes_of(family: Family, handlers: Handlers) -> list[Route]:
    """Return the routes of both endpoints: the provider's own paths under the family's name or root."""
    root = family.root or family.name
    return [
        Route(f"/{root}{family.create_path}", handlers.create, methods=["POST"]),
        Route(f"/{root}{family.status_path}", handlers.status, methods=[family.status_method]),
    ]


async def _show_media(request: Request) -> Response:
    """Return the only video, under any name; browsers may request a range, but not several at once."""
    if "," in request.headers.get("range", ""):
        return Response(MEDIA.read_bytes(), media_type="video/mp4")
    return FileResponse(MEDIA, media_type="video/mp4")
