"""Whether the providers take our keys, and whether our clock is theirs: one harmless request to each account.

It asks for the balance, where there is a call for that, else about a task that does not exist; it never buys.
"""

import asyncio
import re
import statistics
from dataclasses import dataclass, field

import httpx

from receiver.core import wire
from receiver.core.errors import NotSent, ProviderError, Unreadable
from receiver.core.messages import Remote
from receiver.doctor.findings import Finding, amount, ok, skipped, warning, wrong
from receiver.providers.answers import NO_CODE, excerpt, find_problem
from receiver.providers.base import Flow, HasBalance, Provider
from receiver.services import Services

NO_TASK = "receiver-doctor-asks"
"""An id that no provider has given out."""
KEY_CODES = frozenset({401, 403})
_NO_PATH = re.compile(r"(not found|404|cannot (get|post)|method not allowed|no route|invalid url)\b", re.IGNORECASE)
SKEWED, REFUSED = 60.0, 300.0
"""Seconds by which the clock may be wrong: beyond the latter, signed callbacks are refused."""


@dataclass(slots=True)
class Asked:
    """One account and what it answered, the last answer last."""

    account: str
    answers: list[httpx.Response] = field(default_factory=list)
    error: ProviderError | Unreadable | None = None
    credits: float | None = None
    decisive: httpx.Response | None = None
    """The answer that tells of the key, where a later one need not."""

    @property
    def variables(self) -> str:
        """What its variables begin with."""
        return self.account.upper().replace("-", "_")

    @property
    def skew(self) -> float | None:
        """Seconds by which our clock is ahead of the provider's; None where it told no time."""
        for answer in self.answers:
            date = wire.parse_http_date(answer.headers.get("Date", ""))
            if date is not None:
                return float(answer.extensions["received_at"] / 1000 - date)
        return None


async def ask_all(services: Services) -> list[Asked]:
    """Ask every account at once; the sandbox's are simulated, and not asked."""
    if services.settings.sandbox:
        return []
    return list(await asyncio.gather(*(_ask(services, *each) for each in services.providers.items())))


async def _ask(services: Services, account: str, provider: Provider) -> Asked:
    """Ask until an answer tells whether the key is taken: not every gateway knows the call for the balance.

    The way that orders take is asked in any case: a wrong base URL may lead to the balance all the same.
    """
    asked = Asked(account)
    model = next(iter(provider.models), "unknown")
    flows: list[Flow[object]] = [provider.balance()] if isinstance(provider, HasBalance) else []
    for flow in [*flows, provider.status(Remote(NO_TASK, model))]:
        asked.error = None
        try:
            told = await services.outbound.run(account, flow, on_answer=asked.answers.append)
        except (ProviderError, Unreadable) as error:
            asked.error = error
        else:
            if isinstance(told, float | int):
                asked.credits, asked.decisive = told, asked.answers[-1]
        if not asked.answers or _status(asked.answers[-1]) in KEY_CODES:
            break
    return asked


def _status(answer: httpx.Response) -> int:
    """Return what an answer means as an HTTP status: some providers write it into a 200."""
    code = wire.parse_integer(_body(answer).get("code"))
    return code if answer.is_success and code is not None else answer.status_code


def _body(answer: httpx.Response) -> dict[str, object]:
    try:
        return wire.read_object(answer.content)
    except Unreadable:
        return {}


def _knows_no_such_path(answer: httpx.Response) -> bool:
    """Tell an answer about a path that is not there from one about a task that is not there."""
    if answer.status_code not in (404, 405):
        return False
    problem = find_problem(_body(answer))
    return problem is not None and problem.code == NO_CODE and _NO_PATH.match(problem.message) is not None


def judge(services: Services, asked: Asked) -> Finding:
    """Say what an account's answer tells of its key."""
    subject = f"key of {asked.account}"
    if not asked.answers:
        what = "cannot be reached" if isinstance(asked.error, NotSent) else "gives no answer"
        words = f"not known, the provider {what}: {services.redactor.redact_text(str(asked.error))}"
        return wrong(subject, words, f"let this machine reach it, or correct {asked.variables}_BASE_URL")
    last = asked.answers[-1]
    if _knows_no_such_path(last):
        words = f"{last.request.url.host} does not know the path that orders take, {last.request.url.path}"
        return wrong(subject, words, f"correct {asked.variables}_BASE_URL")
    answer = asked.decisive or last
    body = _body(answer)
    problem = find_problem(body)
    said = services.redactor.redact_text(problem.message if problem else excerpt(answer))
    if answer.is_redirect:
        to = services.redactor.redact_text(answer.headers.get("Location", "nowhere"))[:200]
        words = f"not known, {answer.request.url.host} redirects to {to}"
        return wrong(subject, words, f"correct {asked.variables}_BASE_URL: redirects are not followed")
    return _judged(asked, answer.request.url.host, _status(answer), said, is_api=bool(body))


def _judged(asked: Asked, host: str, status: int, said: str, *, is_api: bool) -> Finding:
    subject = f"key of {asked.account}"
    if status == 401 or (status == 403 and is_api):
        remedy = f"set {asked.variables}_API_KEY to a valid key from the provider's dashboard"
        return wrong(subject, f"refused by {host}: {said}", remedy)
    if status == 403:
        words = f"not known, {host} turns us away before it looks at the key: {said}"
        return wrong(subject, words, "ask the provider to let this machine's address in")
    if status == 402:
        return warning(subject, f"taken, but {host} says: {said}", "top up the account")
    if status == 429 or status >= 500:
        return warning(subject, f"not known, {host} answers {status}: {said}", "try again later")
    if not is_api:
        return wrong(
            subject, f"not known, another service answers at {host}: {said}", f"correct {asked.variables}_BASE_URL"
        )
    left = "" if asked.credits is None else f"; {asked.credits:,.10g} credits left"
    return ok(subject, f"taken by {host}{left}")


def clock(asked: list[Asked]) -> Finding:
    """Compare our clock with those of the providers: the one in the middle counts, for theirs may be wrong, too."""
    skews = [skew for each in asked if (skew := each.skew) is not None]
    if not skews:
        return skipped("clock", "no provider told the time")
    skew = statistics.median_low(skews)
    if abs(skew) <= SKEWED:
        return ok("clock", "as the providers have it")
    words = f"{amount(abs(skew))} {'ahead of' if skew > 0 else 'behind'} the providers'"
    remedy = "set the clock, and keep it right by NTP (timedatectl set-ntp true)"
    if abs(skew) > REFUSED:
        return wrong("clock", f"{words}: signed callbacks are refused", remedy)
    return warning("clock", words, remedy)
