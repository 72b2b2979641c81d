"""A delivery as it goes out: one letter for the task's own URL, or one for each endpoint of the account.

The courier writes them when a delivery is due, and posts each until it is taken.
"""

import asyncio
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import httpx

from receiver.sandbox.endpoints import Endpoint
from receiver.sandbox.family import JSON, Seal
from receiver.sandbox.plan import Delivery
from receiver.sandbox.signing import new_secret

POST_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Letter:
    """What is posted to one URL; `name` is that under which its tries are recorded."""

    name: str
    url: str
    body: JSON
    raw: bytes
    retries: int
    seal: Seal | None
    key: str | None = field(repr=False)

    def headers(self, now: float) -> dict[str, str]:
        """The headers of a try at this moment, signed where there is something to sign with."""
        signature = {} if self.seal is None or self.key is None else self.seal(self.body, self.raw, self.key, now)
        return {"Content-Type": "application/json", **signature}


def write(delivery: Delivery, endpoints: Iterable[Endpoint]) -> Iterator[Letter]:
    """The letters of a delivery; a forger signs with a key of his own, and only where letters are signed at all."""
    body = delivery.says()
    raw = json.dumps(body).encode()
    raw = raw[: len(raw) // 2] if delivery.cut else raw

    def letter(name: str, url: str, key: str | None) -> Letter:
        key = new_secret() if delivery.forged and key is not None else key
        return Letter(name, url, body, raw, delivery.retries, delivery.hook.seal, key)

    if delivery.url is not None:
        yield letter(delivery.name, delivery.url, delivery.hook.key)
        return
    for endpoint in endpoints:
        if endpoint.wants(body["type"]):
            yield letter(f"{delivery.name} {endpoint.id}", endpoint.url, endpoint.secret)


async def post(client: httpx.AsyncClient, letter: Letter, now: float) -> int | str:
    """The HTTP status of the answer, or the name of what broke; the body of the answer is of no interest."""
    try:
        async with (
            asyncio.timeout(POST_SECONDS),
            client.stream("POST", letter.url, content=letter.raw, headers=letter.headers(now)) as response,
        ):
            return response.status_code
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as broken:
        return type(broken).__name__
