"""The desk of one family: takes create and status requests over HTTP and answers them as the knobs order.

The app mounts its two endpoints. A purchase is in the ledger before anything about it leaves.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from receiver.sandbox.answers import CutAnswer, MuteAnswer, address_of_app, json_answer, server_error_page
from receiver.sandbox.balances import Limit
from receiver.sandbox.callbacks import Courier
from receiver.sandbox.family import Family, No
from receiver.sandbox.knobs import CallbackKnob, Knobs, StatusKnob, SubmitKnob
from receiver.sandbox.ledger import Ledger
from receiver.sandbox.orders import Order, check_destination, read_object
from receiver.sandbox.progress import truth_at
from receiver.sandbox.purchase import Purchase

EARLY_SECONDS = 5.0
MOST_TURNED_AWAY = 10_000
"""Prompts that are remembered as told to come back; then the sandbox begins anew."""


@dataclass(slots=True)
class Desk:
    """Where one family's requests arrive.

    Only callback URLs under `callbacks_to` are taken, any when it is None. `limit` is how many purchases the account
    may make in how many seconds, no limit when it is None. `_turned_away` holds the prompts that were told once to come
    back later.
    """

    family: Family
    ledger: Ledger
    courier: Courier
    clock: Callable[[], float]
    callbacks_to: str | None = None
    limit: Limit | None = None
    _turned_away: set[int] = field(default_factory=set)

    async def create(self, request: Request) -> ASGIApp:
        """Take an order: a refusal buys nothing, everything else is a purchase, however it is answered."""
        if not self.family.credential(request.headers):
            return self._no(No.UNAUTHORISED, "The API key is missing")
        raw = await request.body()
        try:
            order = self.family.read_order(request, read_object(raw))
            if order.callback_url is not None:
                check_destination(order.callback_url, self.callbacks_to)
            knobs = Knobs.parse(order.prompt)
        except ValueError as wrong:
            return self._no(No.INVALID, str(wrong))
        bought = self.ledger.bought_under(self.family.name, order.idempotency_key)
        if bought is not None:
            return self._repeat(bought, order)
        # Nothing is awaited from here until it is in the ledger, so that no other order comes in between.
        return self._turned_down(order, knobs) or await self._sell(request, order, knobs)

    async def status(self, request: Request) -> Response:
        """Tell how far a purchase is."""
        if not self.family.credential(request.headers):
            return self._no(No.UNAUTHORISED, "The API key is missing")
        purchase = self.ledger.find(self.family.name, self.family.asked_id(request))
        # APIXO has the model in the path of the status request too: under another model the task is unknown.
        if purchase is None or request.path_params.get("model", purchase.model) != purchase.model:
            return self._no(No.UNKNOWN, "No such task")
        self.ledger.ask(purchase)
        if purchase.knobs.status is StatusKnob.FAIL:
            return server_error_page()
        return self._as_it_stands(purchase)

    def _turned_down(self, order: Order, knobs: Knobs) -> Response | None:
        """Why a proper order is not taken: the account is too fast, or its prompt asks for it."""
        if self.limit is not None and self.limit.is_reached(self.ledger, self.clock()):
            return self._no(No.BUSY, "Too many requests")
        if knobs.submit is SubmitKnob.REFUSE:
            return self._no(No.REFUSED, "The order is refused, as its prompt asks for")
        if knobs.submit is SubmitKnob.BUSY and hash(order.prompt) not in self._turned_away:
            if len(self._turned_away) >= MOST_TURNED_AWAY:
                self._turned_away.clear()
            self._turned_away.add(hash(order.prompt))
            return self._no(No.BUSY, "Too many requests, try again in a second", {"Retry-After": "1"})
        return None

    async def _sell(self, request: Request, order: Order, knobs: Knobs) -> ASGIApp:
        purchase_id = self.family.new_id(order.model)
        purchase = Purchase(
            id=purchase_id,
            family=self.family.name,
            model=order.model,
            prompt=order.prompt,
            order=order.body,
            callback_url=order.callback_url,
            idempotency_key=order.idempotency_key,
            video_url=address_of_app(request) + f"/media/{quote(purchase_id, safe='')}.mp4",
            bought_at=self.clock(),
        )
        self.ledger.buy(purchase)
        answered = self.courier.dispatch(purchase)
        if knobs.callback is CallbackKnob.EARLY:
            await _within(EARLY_SECONDS, answered)
        if knobs.submit is SubmitKnob.MUTE:
            return MuteAnswer()
        answer = json_answer(200, self.family.created(purchase))
        return CutAnswer(answer) if knobs.submit is SubmitKnob.BREAK else answer

    def _repeat(self, bought: Purchase, order: Order) -> Response:
        """Rivya's rule: the same key and body is the same task, the same key with another body is a conflict."""
        if bought.order != order.body:
            return self._no(No.CONFLICT, "Idempotency key was already used with a different request")
        return self._as_it_stands(bought)

    def _as_it_stands(self, purchase: Purchase) -> Response:
        truth = truth_at(purchase.bought_at, purchase.knobs, self.clock())
        return json_answer(200, self.family.status(purchase, truth))

    def _no(self, no: No, detail: str, headers: dict[str, str] | None = None) -> Response:
        http_status, body = self.family.refusal(no, detail)
        return json_answer(http_status, body, headers)


async def _within(seconds: float, event: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
