"""The signed question that `receiver doctor` sends through the public URL, and the service's signed answer.

It takes the way of a callback: `POST /callbacks/doctor/{token}`. Only who holds this installation's keys can ask or
answer, and the answer leaves a sign of life in the service's database, where the asking side looks for it. `doctor`
asks, `web.callbacks` answers; a question says and does nothing else.
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
"""Stands in the URL where a callback names its provider account; none can have this name."""
MAX_BODY = 64 * 1024
FRESH_SECONDS = 3600
"""A question is answered for so long, by the service's clock: generous, since finding out a wrong clock is its use."""
QUESTION, ANSWER = "question", "answer"


@dataclass(frozen=True, slots=True)
class Question:
    """One question: when it was asked, by the asking side's clock, and what makes it unlike any other."""

    asked_at: int
    nonce: str

    @classmethod
    def new(cls, now: int) -> "Question":
        """Ask now (Unix milliseconds)."""
        return cls(now, secrets.token_hex(16))

    @property
    def text(self) -> str:
        """The question as it is signed."""
        return f"{self.asked_at}-{self.nonce}"

    @property
    def body(self) -> bytes:
        """A body that whoever reads JSON and writes it again, or takes it for text of another kind, would change."""
        marks = json.dumps("caf\u00e9 \U0001f3ac <b>&amp;</b> %2F\r\n", ensure_ascii=False)
        return f'{{ "nonce" :  "{self.nonce}",\t"marks": {marks} , "number": 1.50 }}\n'.encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service of this installation says to a question: its clock, and the digest of the body that it got."""

    nonce: str
    clock: int
    digest: str

    @property
    def text(self) -> str:
        """The answer as it is signed."""
        return f"{self.nonce}-{self.clock}-{self.digest}"


def question_in(services: Services, token: str) -> Question:
    """Read the token of a question; raises `NotFound`, as for any other unknown callback URL."""
    text = services.links.unsign_text(QUESTION, token)
    if text is None:
        raise NotFound(NOT_FOUND)
    asked_at, _, nonce = text.partition("-")
    question = Question(int(asked_at), nonce)
    if abs(services.clock() - question.asked_at) > FRESH_SECONDS * 1000:
        raise NotFound(NOT_FOUND)
    return question


async def answer(services: Services, question: Question, body: bytes) -> str:
    """Leave the sign of life and sign the answer; raises `StoreUnavailable`, as for a callback."""
    await services.store.write(lambda tx: heartbeats.beat(tx, heartbeats.ROUND_TRIP, question.asked_at))
    told = Answer(question.nonce, services.clock(), hashlib.sha256(body).hexdigest())
    return services.links.sign_text(ANSWER, told.text)


def answered_in(links: Links, response: httpx.Response, question: Question) -> Answer | None:
    """Read the answer to this question; None where nobody of this installation has signed it."""
    try:
        sealed = wire.read_text(wire.read_object(response.content).get("answer"))
    except Unreadable:
        return None
    text = links.unsign_text(ANSWER, sealed) if sealed else None
    if text is None:
        return None
    nonce, clock, digest = text.split("-")
    return Answer(nonce, int(clock), digest) if nonce == question.nonce else None


def was_changed(answer: Answer, question: Question) -> bool:
    """Tell whether the service got another body than was sent."""
    return answer.digest != hashlib.sha256(question.body).hexdigest()


@dataclass(frozen=True, slots=True)
class Trip:
    """What came of one question: an answer over HTTP from whomever, or an error."""

    question: Question
    response: httpx.Response | None = None
    error: ProviderError | None = None


async def ask(services: Services, base_url: str, sender: str | None = None) -> Trip:
    """Send a question to the service that should be at this URL; `sender` is the User-Agent, where it is not ours."""
    question = Question.new(services.clock())
    url = f"{base_url}{CALLBACKS}/{ACCOUNT}/{services.links.sign_text(QUESTION, question.text)}"
    try:
        response = await services.outbound.run(base_url, _flow(url, question.body, sender), on_answer=lambda _: None)
    except ProviderError as error:
        return Trip(question, error=error)
    return Trip(question, response)


def _flow(url: str, body: bytes, sender: str | None) -> Flow[httpx.Response]:
    headers = {"Content-Type": "application/json"} | ({"User-Agent": sender} if sender else {})
    response = yield httpx.Request("POST", url, headers=headers, content=body)
    return response
