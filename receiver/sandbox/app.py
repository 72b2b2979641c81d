"""The sandbox as an ASGI application, alone or mounted in another one.

`receiver` mounts `Sandbox.app` and enters `Sandbox.running()` in its own lifespan, since a mounted app has none of its
own; tests do the same; `create_app` is for running the sandbox alone. It must not ask for more than any credential of
whoever is on this machine, nor keep one.
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
from receiver.sandbox.callbacks import Courier
from receiver.sandbox.family import Family
from receiver.sandbox.files import Shelf
from receiver.sandbox.gateway import GATEWAY
from receiver.sandbox.handlers import Desk
from receiver.sandbox.kie import market
from receiver.sandbox.ledger import Ledger
from receiver.sandbox.purchase import shown
from receiver.sandbox.revid import REVID
from receiver.sandbox.rivya import RIVYA
from receiver.sandbox.uploads import Uploads
from receiver.sandbox.veo import veo
from receiver.sandbox.webhooks import Webhooks

MEDIA = Path(__file__).with_name("media.mp4")
# An order may carry reference images in its body.
LARGEST_REQUEST = 32 * 1024 * 1024


class Sandbox:
    """One simulated provider with its own ledger; `app` serves it, `running()` makes it call back."""

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

        `late_by` is how many seconds after the end a late callback comes, `retry_factor` stretches the pauses of 1, 2
        and 4 seconds before a callback is tried again, `clock` gives epoch seconds. With `callbacks_to`, a URL, only
        callback URLs under it are taken: without, whoever reaches the sandbox can make it post anywhere. kie takes so
        many orders within so many seconds (`kie_creates`), and signs its callbacks where there is a `kie_webhook_key`.
        From another machine a request needs one of the `tokens` as its key.
        """
        self.ledger = Ledger(ledger_path)
        self._clock = clock
        self._callbacks_to = callbacks_to
        self._kie_limit = Limit(KIE_FAMILIES, *kie_creates)
        kie = market(kie_webhook_key, lambda: KIE_ACCOUNT.left(self.ledger, clock()))
        self._families = {f.name: f for f in (RIVYA, APIXO, REVID, GATEWAY, kie, veo(kie_webhook_key))}
        self._courier = Courier(
            ledger=self.ledger, families=self._families, late_by=late_by, retry_factor=retry_factor, clock=clock
        )
        self._shelf = Shelf()
        self.app = Starlette(routes=self._routes(), max_body_size=LARGEST_REQUEST)
        self.app.router.redirect_slashes = False
        self.app.add_middleware(LocalOrToken, tokens=tokens)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Call back while the context lasts, beginning with what an earlier run left undelivered; then close."""
        try:
            with self._shelf.opened():
                async with self._courier.running():
                    yield
        finally:
            self.ledger.close()

    def _routes(self) -> list[Route]:
        routes = [Route("/ledger", self._show_ledger), Route("/media/{name}.mp4", _show_media)]
        for family in self._families.values():
            limit = self._kie_limit if family.name in KIE_FAMILIES else None
            desk = Desk(family, self.ledger, self._courier, self._clock, self._callbacks_to, limit)
            routes += _routes_of(family, desk)
        return [
            *routes,
            *Webhooks(self.ledger, self._clock, self._callbacks_to).routes(),
            *Uploads(self._shelf, self._clock).routes(),
            *balance_routes(self.ledger, self._clock),
        ]

    async def _show_ledger(self, _request: Request) -> Response:
        return json_answer(200, {"purchases": [shown(purchase) for purchase in self.ledger.purchases]})


def create_app(sandbox: Sandbox | None = None) -> Starlette:
    """The sandbox as an application of its own, for `uvicorn --factory`; in memory unless one is given."""
    inner = sandbox or Sandbox()

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with inner.running():
            yield

    return Starlette(routes=[Mount("/", app=inner.app)], lifespan=lifespan)


def _routes_of(family: Family, desk: Desk) -> list[Route]:
    """Both endpoints under the family's name or root, followed by the provider's own paths."""
    root = family.root or family.name
    return [
        Route(f"/{root}{family.create_path}", desk.create, methods=["POST"]),
        Route(f"/{root}{family.status_path}", desk.status, methods=[family.status_method]),
    ]


async def _show_media(request: Request) -> Response:
    """The one video there is, whatever it is called; a browser may ask for a range of it, and nobody for a hundred."""
    if "," in request.headers.get("range", ""):
        return Response(MEDIA.read_bytes(), media_type="video/mp4")
    return FileResponse(MEDIA, media_type="video/mp4")
