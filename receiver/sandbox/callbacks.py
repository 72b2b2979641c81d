"""The courier: posts the planned callbacks when they are due, and again when they are not taken.

The desk hands it each purchase, and at the start it takes up what a ledger file says is still to be delivered. It must
never follow a redirect, use a proxy of the environment, or outlive its `running()`.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from itertools import count

import httpx

from receiver.sandbox.family import Family
from receiver.sandbox.ledger import Ledger
from receiver.sandbox.plan import Delivery, plan
from receiver.sandbox.posts import POST_SECONDS, Letter, post, write
from receiver.sandbox.purchase import CallbackTry, Purchase


@cache
def _tls() -> ssl.SSLContext:
    """Made once for all sandboxes, since reading the certificates takes longer than anything else here."""
    return httpx.create_ssl_context(trust_env=False)


class Courier:
    """Delivers callbacks in the background, each on its own."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        families: Mapping[str, Family],
        late_by: float,
        retry_factor: float,
        clock: Callable[[], float],
    ) -> None:
        """Prepare; `late_by` is in seconds, `retry_factor` stretches the pauses of 1, 2 and 4 seconds."""
        self._ledger = ledger
        self._families = families
        self._late_by = late_by
        self._retry_factor = retry_factor
        self._clock = clock
        self._client: httpx.AsyncClient | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver while the context lasts; what is still open when it ends stays open in the ledger."""
        async with httpx.AsyncClient(trust_env=False, timeout=POST_SECONDS, verify=_tls()) as client:
            self._client = client
            try:
                for purchase in self._ledger.purchases:
                    self.dispatch(purchase)
                yield
            finally:
                self._client = None
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    def dispatch(self, purchase: Purchase) -> asyncio.Event:
        """Start what is still to be delivered of a purchase; the event is set by the first answer, or if nothing is.

        Raises RuntimeError when there is something to deliver outside of `running()`.
        """
        heard = asyncio.Event()
        planned = plan(purchase, self._families[purchase.family], self._late_by)
        still_open = [delivery for delivery in planned if delivery.name not in purchase.delivered]
        if not still_open:
            heard.set()
        elif self._client is None:
            raise RuntimeError("The sandbox is not running: enter Sandbox.running() before it takes orders")
        else:
            for delivery in still_open:
                # After a restart there may be nothing left to come first.
                first = heard if delivery.follows and delivery is not still_open[0] else None
                task = asyncio.create_task(self._deliver(self._client, purchase, delivery, heard, first))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        return heard

    async def _deliver(
        self,
        client: httpx.AsyncClient,
        purchase: Purchase,
        delivery: Delivery,
        heard: asyncio.Event,
        first: asyncio.Event | None,
    ) -> None:
        # A timer may end a moment early by this clock, and a status answer would then contradict the callback.
        while (wait := delivery.due - self._clock()) > 0:  # noqa: ASYNC110 - it is a moment that is awaited, no event
            await asyncio.sleep(wait)
        if first is not None:
            await first.wait()
        letters = write(delivery, list(self._ledger.endpoints.values()))
        still_open = [letter for letter in letters if letter.name not in purchase.delivered]
        await asyncio.gather(*(self._send(client, purchase, letter, heard) for letter in still_open))
        heard.set()
        if delivery.name not in purchase.delivered:
            self._ledger.delivered(purchase, delivery.name)

    async def _send(self, client: httpx.AsyncClient, purchase: Purchase, letter: Letter, heard: asyncio.Event) -> None:
        for retry in count():
            answer = await post(client, letter, self._clock())
            self._ledger.tried(purchase, CallbackTry(letter.name, self._clock(), answer))
            heard.set()
            # APIXO's webhook page: exactly HTTP 200, no other 2xx, counts as taken.
            if answer == 200 or retry == letter.retries:
                break
            await asyncio.sleep(2**retry * self._retry_factor)
        self._ledger.delivered(purchase, letter.name)
