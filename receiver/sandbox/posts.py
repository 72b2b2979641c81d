"""The POSTs of a planned callback: one for the task's own URL, or one for each endpoint of the account.

`callbacks` makes them when a callback is due, and sends each until it is accepted.
"""

import asyncio
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import httpx

from receiver.sandbox.endpoints import Endpoint
from receiver.sandbox.family import JSON, Signer
from receiver.sandbox.plan import PlannedCallback
from receiver.sandbox.signing import new_secret

POST_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class CallbackPost:
    """One POST; its tries are recorded under `name`."""

    name: str
    url: str
    body: JSON
    raw: bytes
    retries: int
    sign: Signer | None
    key: str | None = field(repr=False)

    def headers(self, now: float) -> dict[str, str]:
        """Return the headers of a try now, signed if there is a key."""
        signature = {} if self.sign is None or self.key is None else self.sign(self.body, self.raw, self.key, now)
        return {"Content-Type": "application/json", **signature}


def make_posts(planned: PlannedCallback, endpoints: Iterable[Endpoint]) -> Iterator[CallbackPost]:
    """Yield the POSTs of a callback; a forger signs with a key of their own, and only if posts are signed at all."""
    body = planned.body()
    raw = json.dumps(body).encode()
    raw = raw[: len(raw) // 2] if planned.cut else raw

    def make_post(name: str, url: str, key: str | None) -> CallbackPost:
        key = new_secret() if planned.forged and key is not None else key
        return CallbackPost(name, url, body, raw, planned.retries, planned.style.sign, key)

    if planned.url is not None:
        yield make_post(planned.name, planned.url, planned.style.key)
        return
    for endpoint in endpoints:
        if endpoint.accepts(body["type"]):
            yield make_post(f"{planned.name} {endpoint.id}", endpoint.url, endpoint.secret)


async def send(client: httpx.AsyncClient, outgoing: CallbackPost, now: float) -> int | str:
    """Return the HTTP status of the answer, or the name of the error."""
    try:
        async with (
            asyncio.timeout(POST_SECONDS),
            client.stream("POST", outgoing.url, content=outgoing.raw, headers=outgoing.headers(now)) as response,
        ):
            return response.status_code
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as broken:
        return type(broken).__name__
