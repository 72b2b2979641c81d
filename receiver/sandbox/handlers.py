"""Handles one family's submissions and status requests, as the options in the prompt order.

`app` mounts the two endpoints. A purchase is in the ledger before anything about it is sent.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from receiver.sandbox.answers import CutAnswer, SilentAnswer, app_url, json_answer, server_error_page
from receiver.sandbox.balances import Limit
from receiver.sandbox.callbacks import CallbackSender
from receiver.sandbox.family import Family, Refusal
from receiver.sandbox.ledger import Ledger
from receiver.sandbox.options import CallbackFault, Options, StatusFault, SubmitFault
from receiver.sandbox.orders import Order, check_destination, read_object
from receiver.sandbox.progress import progress_at
from receiver.sandbox.purchase import Purchase

EARLY_SECONDS = 5.0
MAX_BUSY_PROMPTS = 10_000
"""Prompts that are remembered as answered with 429; beyond it, all are forgotten."""


@dataclass(slots=True)
class Handlers:
    """The endpoints of one family.

    With `callbacks_to`, only callback URLs under it are accepted. `limit` is the account's rate limit, if any.
    `_busy_prompts` holds the prompts that were answered with 429 once.
    """

    family: Family
    ledger: Ledger
    sender: CallbackSender
    clock: Callable[[], float]
    callbacks_to: str | None = None
    limit: Limit | None = None
    _busy_prompts: set[int] = field(default_factory=set)

    async def create(self, request: Request) -> ASGIApp:
        """Handle a submission: a refusal buys nothing, everything else is a purchase, whatever the answer."""
        if not self.family.credential(request.headers):
            return self._refuse(Refusal.UNAUTHORISED, "The API key is missing")
        raw = await request.body()
        try:
            order = self.family.read_order(request, read_object(raw))
            if order.callback_url is not None:
                check_destination(order.callback_url, self.callbacks_to)
            options = Options.parse(order.prompt)
        except ValueError as wrong:
            return self._refuse(Refusal.INVALID, str(wrong))
        bought = self.ledger.bought_under(self.family.name, order.idempotency_key)
        if bought is not None:
            return self._repeat(bought, order)
        # From here on, nothing is awaited until it is in the ledger, so that no other order comes in between.
        return self._find_refusal(order, options) or await self._accept(request, order, options)

    async def status(self, request: Request) -> Response:
        """Handle a status request."""
        if not self.family.credential(request.headers):
            return self._refuse(Refusal.UNAUTHORISED, "The API key is missing")
        purchase = self.ledger.find(self.family.name, self.family.requested_id(request))
        # APIXO's status request also has the model in its path: under another model, the task is unknown.
        if purchase is None or request.path_params.get("model", purchase.model) != purchase.model:
            return self._refuse(Refusal.UNKNOWN, "No such task")
        self.ledger.ask(purchase)
        if purchase.options.status is StatusFault.FAIL:
            return server_error_page()
        return self._current_status(purchase)

    def _find_refusal(self, order: Order, options: Options) -> Response | None:
        """Return the refusal of a valid order: the account is too fast, or the prompt orders it."""
        if self.limit is not None and self.limit.is_reached(self.ledger, self.clock()):
            return self._refuse(Refusal.BUSY, "Too many requests")
        if options.submit is SubmitFault.REFUSE:
            return self._refuse(Refusal.REFUSED, "Refused, as the prompt orders")
        if options.submit is SubmitFault.BUSY and hash(order.prompt) not in self._busy_prompts:
            if len(self._busy_prompts) >= MAX_BUSY_PROMPTS:
                self._busy_prompts.clear()
            self._busy_prompts.add(hash(order.prompt))
            return self._refuse(Refusal.BUSY, "Too many requests, try again in a second", {"Retry-After": "1"})
        return None

    async def _accept(self, request: Request, order: Order, options: Options) -> ASGIApp:
        purchase_id = self.family.new_id(order.model)
        purchase = Purchase(
            id=purchase_id,
            family=self.family.name,
            model=order.model,
            prompt=order.prompt,
            order=order.body,
            callback_url=order.callback_url,
            idempotency_key=order.idempotency_key,
            video_url=app_url(request) + f"/media/{quote(purchase_id, safe='')}.mp4",
            bought_at=self.clock(),
        )
        self.ledger.buy(purchase)
        answered = self.sender.dispatch(purchase)
        if options.callback is CallbackFault.EARLY:
            await _within(EARLY_SECONDS, answered)
        if options.submit is SubmitFault.MUTE:
            return SilentAnswer()
        answer = json_answer(200, self.family.created(purchase))
        return CutAnswer(answer) if options.submit is SubmitFault.BREAK else answer

    def _repeat(self, bought: Purchase, order: Order) -> Response:
        """Return Rivya's answer to a repeated key: the same task for the same body, else a conflict."""
        if bought.order != order.body:
            return self._refuse(Refusal.CONFLICT, "Idempotency key was already used with a different request")
        return self._current_status(bought)

    def _current_status(self, purchase: Purchase) -> Response:
        progress = progress_at(purchase.bought_at, purchase.options, self.clock())
        return json_answer(200, self.family.status(purchase, progress))

    def _refuse(self, reason: Refusal, detail: str, headers: dict[str, str] | None = None) -> Response:
        http_status, body = self.family.refusal(reason, detail)
        return json_answer(http_status, body, headers)


async def _within(seconds: float, event: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
