"""The signed probe that `receiver doctor` sends through the public URL, and the service's signed answer.

It is sent like a callback, as `POST /callbacks/doctor/{token}`. Only a holder of this installation's keys can send or
answer it. Before the service answers, it writes a heartbeat into its database, where `doctor` looks for it. `doctor`
sends, `web.callbacks` answers; a probe has no other effect.
"""

import hashlib
import json
import secrets
from dataclasses import dataclass

import httpx

from receiver.core import wire
from receiver.core.errors import NotFound, ProviderError, Unreadable
from receiver.core.links import CALLBACKS, NOT_FOUND, Links
from receiver.providers.base import Flow
from receiver.services import Services
from receiver.store import heartbeats

ACCOUNT = "doctor"
"""Stands in the URL where a callback names its provider account; no account can have this name."""
MAX_BODY = 64 * 1024
MAX_AGE_SECONDS = 3600
"""A probe is answered for so long, by the service's clock: generous, since it is also used to find a wrong clock."""
PROBE_PURPOSE, ANSWER_PURPOSE = "question", "answer"
"""What probes and answers are signed for; services of earlier releases know the same words."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe: when it was sent, by the sender's clock, and a nonce."""

    sent_at: int
    nonce: str

    @classmethod
    def new(cls, now: int) -> "Probe":
        """Return a new probe; `now` is in Unix milliseconds."""
        return cls(now, secrets.token_hex(16))

    @property
    def text(self) -> str:
        """The text that is signed."""
        return f"{self.sent_at}-{self.nonce}"

    @property
    def body(self) -> bytes:
        """A body that a proxy would change if it parsed JSON and wrote it again, or treated it as some other text."""
        marks = json.dumps("caf\u00e9 \U0001f3ac <b>&amp;</b> %2F\r\n", ensure_ascii=False)
        return f'{{ "nonce" :  "{self.nonce}",\t"marks": {marks} , "number": 1.50 }}\n'.encode()


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """The answer of a service of this installation: its clock, and the digest of the body that it received."""

    nonce: str
    clock: int
    digest: str

    @property
    def text(self) -> str:
        """The text that is signed."""
        return f"{self.nonce}-{self.clock}-{self.digest}"


def read_probe(services: Services, token: str) -> Probe:
    """Return the probe in a token; raises `NotFound`, as for any other unknown callback URL."""
    text = services.links.unsign_text(PROBE_PURPOSE, token)
    if text is None:
        raise NotFound(NOT_FOUND)
    sent_at, _, nonce = text.partition("-")
    probe = Probe(int(sent_at), nonce)
    if abs(services.clock() - probe.sent_at) > MAX_AGE_SECONDS * 1000:
        raise NotFound(NOT_FOUND)
    return probe


async def answer_probe(services: Services, probe: Probe, body: bytes) -> str:
    """Write the heartbeat, then return the signed answer; raises `StoreUnavailable`, as for a callback."""
    await services.store.write(lambda tx: heartbeats.record_heartbeat(tx, heartbeats.ROUND_TRIP, probe.sent_at))
    answer = ProbeAnswer(probe.nonce, services.clock(), hashlib.sha256(body).hexdigest())
    return services.links.sign_text(ANSWER_PURPOSE, answer.text)


def read_answer(links: Links, response: httpx.Response, probe: Probe) -> ProbeAnswer | None:
    """Return the answer to this probe; None unless it was signed with a key of this installation."""
    try:
        sealed = wire.read_text(wire.read_object(response.content).get("answer"))
    except Unreadable:
        return None
    text = links.unsign_text(ANSWER_PURPOSE, sealed) if sealed else None
    if text is None:
        return None
    nonce, clock, digest = text.split("-")
    return ProbeAnswer(nonce, int(clock), digest) if nonce == probe.nonce else None


def body_was_changed(answer: ProbeAnswer, probe: Probe) -> bool:
    """Return whether the service received another body than was sent."""
    return answer.digest != hashlib.sha256(probe.body).hexdigest()


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """The result of one probe: an HTTP response, from whatever server, or an error."""

    probe: Probe
    response: httpx.Response | None = None
    error: ProviderError | None = None


async def send_probe(services: Services, base_url: str, user_agent: str | None = None) -> RoundTrip:
    """Send a probe to the service that should be at this URL, under our own User-Agent or another one."""
    probe = Probe.new(services.clock())
    url = f"{base_url}{CALLBACKS}/{ACCOUNT}/{services.links.sign_text(PROBE_PURPOSE, probe.text)}"
    try:
        response = await services.outbound.run(base_url, _flow(url, probe.body, user_agent), on_answer=lambda _: None)
    except ProviderError as error:
        return RoundTrip(probe, error=error)
    return RoundTrip(probe, response)


def _flow(url: str, body: bytes, user_agent: str | None) -> Flow[httpx.Response]:
    headers = {"Content-Type": "application/json"} | ({"User-Agent": user_agent} if user_agent else {})
    response = yield httpx.Request("POST", url, headers=headers, content=body)
    return response
