"""Whether the providers accept our keys, and whether our clock agrees with theirs: harmless requests to each account.

It requests the balance, where that is possible, and the status of a task that does not exist; it never buys.
"""

import asyncio
import re
import statistics
from dataclasses import dataclass, field

import httpx

from receiver.core import wire
from receiver.core.errors import NotSent, ProviderError, Unreadable
from receiver.core.messages import Remote
from receiver.doctor.findings import Finding, format_seconds, ok, skipped, warning, wrong
from receiver.providers.answers import NO_CODE, excerpt, find_problem
from receiver.providers.base import Flow, HasBalance, Provider
from receiver.services import Services

UNKNOWN_TASK = "receiver-doctor-asks"
"""An id that no provider has issued."""
KEY_CODES = frozenset({401, 403})
_PATH_NOT_FOUND = re.compile(
    r"(not found|404|cannot (get|post)|method not allowed|no route|invalid url)\b", re.IGNORECASE
)
MAX_SKEW, MAX_SIGNATURE_SKEW = 60.0, 300.0
"""Seconds by which the clock may be wrong; beyond the latter, signed callbacks are refused."""


@dataclass(slots=True)
class KeyProbe:
    """One account and its responses, in order."""

    account: str
    responses: list[httpx.Response] = field(default_factory=list)
    error: ProviderError | Unreadable | None = None
    credits: float | None = None
    key_response: httpx.Response | None = None
    """The response that shows whether the key is accepted; a later one need not show it."""

    @property
    def variables(self) -> str:
        """The prefix of its variables."""
        return self.account.upper().replace("-", "_")

    @property
    def skew(self) -> float | None:
        """Seconds by which our clock is ahead of the provider's; None if it sent no time."""
        for answer in self.responses:
            date = wire.parse_http_date(answer.headers.get("Date", ""))
            if date is not None:
                return float(answer.extensions["received_at"] / 1000 - date)
        return None


async def probe_all(services: Services) -> list[KeyProbe]:
    """Return the responses of every account, requested at once; the sandbox's accounts are simulated and left out."""
    if services.settings.sandbox:
        return []
    return list(await asyncio.gather(*(_probe_account(services, *each) for each in services.providers.items())))


async def _probe_account(services: Services, account: str, provider: Provider) -> KeyProbe:
    """Return an account's responses, up to one that shows whether the key is accepted.

    Not every gateway knows the balance. The path of orders is requested in any case: the balance may work under a wrong
    base URL, too.
    """
    probe = KeyProbe(account)
    model = next(iter(provider.models), "unknown")
    flows: list[Flow[object]] = [provider.balance()] if isinstance(provider, HasBalance) else []
    for flow in [*flows, provider.status(Remote(UNKNOWN_TASK, model))]:
        probe.error = None
        try:
            result = await services.outbound.run(account, flow, on_answer=probe.responses.append)
        except (ProviderError, Unreadable) as error:
            probe.error = error
        else:
            if isinstance(result, float | int):
                probe.credits, probe.key_response = result, probe.responses[-1]
        if not probe.responses or _status(probe.responses[-1]) in KEY_CODES:
            break
    return probe


def _status(answer: httpx.Response) -> int:
    """Return the HTTP status that a response stands for: some providers put it into the body of a 200."""
    code = wire.parse_integer(_body(answer).get("code"))
    return code if answer.is_success and code is not None else answer.status_code


def _body(answer: httpx.Response) -> dict[str, object]:
    try:
        return wire.read_object(answer.content)
    except Unreadable:
        return {}


def _is_unknown_path(answer: httpx.Response) -> bool:
    """Return whether a response is about an unknown path, rather than an unknown task."""
    if answer.status_code not in (404, 405):
        return False
    problem = find_problem(_body(answer))
    return problem is not None and problem.code == NO_CODE and _PATH_NOT_FOUND.match(problem.message) is not None


def judge_key(services: Services, probe: KeyProbe) -> Finding:
    """Return a finding about an account's key."""
    subject = f"key of {probe.account}"
    if not probe.responses:
        what = "cannot be reached" if isinstance(probe.error, NotSent) else "does not answer"
        message = f"unknown, because the provider {what}: {services.redactor.redact_text(str(probe.error))}"
        return wrong(subject, message, f"let this machine reach it, or correct {probe.variables}_BASE_URL")
    last = probe.responses[-1]
    if _is_unknown_path(last):
        message = f"{last.request.url.host} does not know the path that orders take, {last.request.url.path}"
        return wrong(subject, message, f"correct {probe.variables}_BASE_URL")
    answer = probe.key_response or last
    body = _body(answer)
    problem = find_problem(body)
    quoted = services.redactor.redact_text(problem.message if problem else excerpt(answer))
    if answer.is_redirect:
        to = services.redactor.redact_text(answer.headers.get("Location", "nowhere"))[:200]
        message = f"unknown, because {answer.request.url.host} redirects to {to}"
        return wrong(subject, message, f"correct {probe.variables}_BASE_URL: redirects are not followed")
    return _judge_response(probe, answer.request.url.host, _status(answer), quoted, is_api=bool(body))


def _judge_response(probe: KeyProbe, host: str, status: int, quoted: str, *, is_api: bool) -> Finding:
    subject = f"key of {probe.account}"
    if status == 401 or (status == 403 and is_api):
        remedy = f"set {probe.variables}_API_KEY to a valid key from the provider's dashboard"
        return wrong(subject, f"refused by {host}: {quoted}", remedy)
    if status == 403:
        message = f"unknown, because {host} blocks this machine before it checks the key: {quoted}"
        return wrong(subject, message, "ask the provider to allow this machine's address")
    if status == 402:
        return warning(subject, f"accepted, but {host} says: {quoted}", "top up the account")
    if status == 429 or status >= 500:
        return warning(subject, f"unknown, because {host} answers {status}: {quoted}", "try again later")
    if not is_api:
        return wrong(
            subject,
            f"unknown, because another service answers at {host}: {quoted}",
            f"correct {probe.variables}_BASE_URL",
        )
    left = "" if probe.credits is None else f"; {probe.credits:,.10g} credits left"
    return ok(subject, f"accepted by {host}{left}")


def judge_clock(probes: list[KeyProbe]) -> Finding:
    """Return a finding about our clock, compared with the median of the providers': theirs may be wrong, too."""
    skews = [skew for each in probes if (skew := each.skew) is not None]
    if not skews:
        return skipped("clock", "no provider sent the time")
    skew = statistics.median_low(skews)
    if abs(skew) <= MAX_SKEW:
        return ok("clock", "agrees with the providers' clocks")
    message = f"{format_seconds(abs(skew))} {'ahead of' if skew > 0 else 'behind'} the providers' clocks"
    remedy = "set the clock, and synchronise it by NTP (timedatectl set-ntp true)"
    if abs(skew) > MAX_SIGNATURE_SKEW:
        return wrong("clock", f"{message}, so signed callbacks are refused", remedy)
    return warning("clock", message, remedy)
