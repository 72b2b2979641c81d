"""Sends the planned callbacks when they are due, and retries those that are not accepted.

`handlers` passes it each purchase; at the start it continues with what the ledger says is still to be sent. It must
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
from receiver.sandbox.plan import PlannedCallback, plan
from receiver.sandbox.posts import POST_SECONDS, CallbackPost, make_posts, send
from receiver.sandbox.purchase import CallbackTry, Purchase


@cache
def _tls() -> ssl.SSLContext:
    """Return the TLS context of all sandboxes, cached because reading the certificates is slow."""
    return httpx.create_ssl_context(trust_env=False)


class CallbackSender:
    """Sends callbacks in the background, each independently."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        families: Mapping[str, Family],
        late_by: float,
        retry_factor: float,
        clock: Callable[[], float],
    ) -> None:
        """Prepare; `late_by` is in seconds, `retry_factor` scales the pauses of 1, 2 and 4 seconds."""
        self._ledger = ledger
        self._families = families
        self._late_by = late_by
        self._retry_factor = retry_factor
        self._clock = clock
        self._client: httpx.AsyncClient | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send callbacks while the context lasts; the ledger keeps what is still to be sent when it ends."""
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
        """Start to send a purchase's callbacks; the returned event is set by the first answer, or if there are none.

        Raises RuntimeError if there is something to send outside of `running()`.
        """
        answered = asyncio.Event()
        callbacks = plan(purchase, self._families[purchase.family], self._late_by)
        still_open = [planned for planned in callbacks if planned.name not in purchase.delivered]
        if not still_open:
            answered.set()
        elif self._client is None:
            raise RuntimeError("The sandbox is not running: enter Sandbox.running() before it takes orders")
        else:
            for planned in still_open:
                # After a restart, the one that it follows may have been sent already.
                first = answered if planned.follows and planned is not still_open[0] else None
                task = asyncio.create_task(self._deliver(self._client, purchase, planned, answered, first))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        return answered

    async def _deliver(
        self,
        client: httpx.AsyncClient,
        purchase: Purchase,
        planned: PlannedCallback,
        answered: asyncio.Event,
        first: asyncio.Event | None,
    ) -> None:
        # A timer may end slightly early by this clock, and a status answer would then contradict the callback.
        while (wait := planned.due - self._clock()) > 0:  # noqa: ASYNC110 - it waits for a time, not for an event
            await asyncio.sleep(wait)
        if first is not None:
            await first.wait()
        posts = make_posts(planned, list(self._ledger.endpoints.values()))
        still_open = [one for one in posts if one.name not in purchase.delivered]
        await asyncio.gather(*(self._send(client, purchase, one, answered) for one in still_open))
        answered.set()
        if planned.name not in purchase.delivered:
            self._ledger.delivered(purchase, planned.name)

    async def _send(
        self, client: httpx.AsyncClient, purchase: Purchase, one: CallbackPost, answered: asyncio.Event
    ) -> None:
        for retry in count():
            answer = await send(client, one, self._clock())
            self._ledger.tried(purchase, CallbackTry(one.name, self._clock(), answer))
            answered.set()
            # APIXO's webhook page: only HTTP 200, no other 2xx, counts as accepted.
            if answer == 200 or retry == one.retries:
                break
            await asyncio.sleep(2**retry * self._retry_factor)
        self._ledger.delivered(purchase, one.name)
