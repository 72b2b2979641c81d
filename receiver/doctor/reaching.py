"""Whether providers reach us: the signed question goes out through the public URL, and its answer is judged.

Whatever answers instead of this installation is told by how it answers: nothing of it is believed or followed.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx

from receiver import round_trip
from receiver.config.addresses import check_public_url, is_private
from receiver.config.settings import Settings
from receiver.core import wire
from receiver.core.errors import NotSent, StoreUnavailable, Unconfirmed, Unreadable
from receiver.core.links import CALLBACKS, NOT_FOUND
from receiver.doctor.findings import Finding, Verdict, amount, ok, skipped, warning, wrong
from receiver.providers.answers import excerpt
from receiver.round_trip import ProbeAnswer, RoundTrip
from receiver.services import Services
from receiver.store import heartbeats

PUBLIC, SERVICE = "public URL", "service"
SKEWED = 60.0
PROBLEM = "application/problem+json"
SENDERS = ("Go-http-client/1.1", "okhttp/4.12.0", "Java/17.0.13", "python-requests/2.32.3", "axios/1.7.9", "node")
"""User-Agents under which providers' programs call back, and which proxies against robots know."""
SAME = "give service and command line the same RECEIVER_SECRET_KEYS or RECEIVER_DATA_DIR, and restart the service"


async def examine(services: Services, *, usable: bool) -> list[Finding]:
    """Ask through the public URL, and directly; `usable` is whether our database can tell what the service wrote."""
    settings = services.settings
    if settings.sandbox or settings.public_url is None:
        direct = await _judged(services, settings.local_url, SERVICE, usable=usable)
        return [_needed(settings, direct), *_without(settings)]
    public = await _judged(services, settings.public_url, PUBLIC, usable=usable)
    if public.verdict is Verdict.OK:
        return [await _turned_away(services, settings.public_url) or public]
    if public.verdict is not Verdict.WRONG:
        return [public]  # whether it also answers here does not matter: it may run elsewhere
    # Not at the same time: of two questions the service keeps the sign of life of the one that came last.
    return [await _judged(services, settings.local_url, SERVICE, usable=usable), public]


def _needed(settings: Settings, direct: Finding) -> Finding:
    """Forgive that no service runs where nobody needs one: cron polls, and no provider calls back."""
    if direct.verdict is Verdict.WRONG and not settings.poller and settings.public_url is None:
        return skipped(SERVICE, "none answers here, and none is needed where cron polls")
    return direct


def _without(settings: Settings) -> list[Finding]:
    if settings.sandbox:
        return [skipped(PUBLIC, "the sandbox calls back to its own address")]
    words = "not set: tasks are submitted without a callback and polled"
    return [warning(PUBLIC, words, "set RECEIVER_PUBLIC_URL=https://... to where providers reach this service")]


async def _turned_away(services: Services, base: str) -> Finding | None:
    """Ask again under the names of programs, which some proxies turn away; None where each gets through."""
    trips = await asyncio.gather(*(round_trip.send_probe(services, base, sender) for sender in SENDERS))
    refused = [sender for sender, trip in zip(SENDERS, trips, strict=True) if not _got_through(services, trip)]
    if not refused:
        return None
    words = f"{base} leads here, but not for senders that call themselves {', '.join(refused)}, as providers do"
    return wrong(PUBLIC, words, f"let the proxy pass POST {CALLBACKS}/ whatever its User-Agent says")


def _got_through(services: Services, trip: RoundTrip) -> bool:
    answer = trip.response is not None and round_trip.read_answer(services.links, trip.response, trip.probe)
    return bool(answer)


async def _judged(services: Services, base: str, subject: str, *, usable: bool) -> Finding:
    trip = await round_trip.send_probe(services, base)
    if trip.response is None:
        return _unreached(trip, base, subject)
    answer = round_trip.read_answer(services.links, trip.response, trip.probe)
    if answer is None:
        return _foreign(services, trip.response, base, subject)
    if round_trip.body_was_changed(answer, trip.probe):
        words = f"the service at {base} gets another body than was sent: a proxy changes it"
        return wrong(subject, words, f"let the proxy pass POST {CALLBACKS}/ on untouched (no filter, no rewriting)")
    if usable and not await _wrote_here(services, trip):
        words = f"the service at {base} has our keys, but another database"
        return wrong(subject, words, "give both the same RECEIVER_DATABASE_URL or RECEIVER_DATA_DIR, and restart it")
    return _answered(services, trip, answer, base, subject)


async def _wrote_here(services: Services, trip: RoundTrip) -> bool:
    """Tell whether the sign of life that comes with an answer is in our database."""
    try:
        seen = await services.store.read(lambda session: heartbeats.last(session, heartbeats.ROUND_TRIP))
    except StoreUnavailable:
        return True  # that it cannot be read is another finding
    return seen is not None and seen >= trip.probe.sent_at


def _answered(services: Services, trip: RoundTrip, answer: ProbeAnswer, base: str, subject: str) -> Finding:
    skew = (answer.clock - services.clock()) / 1000
    if abs(skew) > SKEWED:
        words = f"{base} answers, but its clock is {amount(abs(skew))} {'ahead of' if skew > 0 else 'behind'} ours"
        return warning(subject, words, "keep both machines' clocks right by NTP (timedatectl set-ntp true)")
    host = urlsplit(base).hostname or ""
    theirs = [urlsplit(config.base_url).hostname or "" for config in services.settings.providers.values()]
    if subject == PUBLIC and is_private(host) and not all(map(is_private, theirs)):
        words = f"{base} answers here, but is a private address: providers elsewhere cannot reach it"
        return warning(subject, words, "set RECEIVER_PUBLIC_URL to an https URL that the world reaches")
    seconds = max(services.clock() - trip.probe.sent_at, 0) / 1000
    return ok(subject, f"{base} leads to this installation, signed both ways, in {seconds:.2f} s")


def _unreached(trip: RoundTrip, base: str, subject: str) -> Finding:
    """Say why no answer came."""
    parts = urlsplit(base)
    host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    start = f"start `receiver serve`, or what stands in front of it, on port {port}"
    if subject == SERVICE:
        start = "start `receiver serve` (or set HOST and PORT as it has them)"
    causes = list(_causes(trip.error))
    unfinished = ssl.SSLWantReadError | ssl.SSLWantWriteError  # what a handshake ends with that takes too long
    refused = next(
        (each for each in causes if isinstance(each, ssl.SSLError) and not isinstance(each, unfinished)), None
    )
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return wrong(subject, f"{host} is no known name", "correct RECEIVER_PUBLIC_URL, or add a DNS record for it")
    if refused is not None:
        words = f"{base} fails at TLS, as it would for providers: {_of_tls(refused)}"
        return wrong(subject, words, f"serve a valid certificate for {host}, with its whole chain, on port {port}")
    if any(isinstance(cause, TimeoutError | httpx.TimeoutException) for cause in causes):
        words = f"{base} gives no answer in time"
        if isinstance(trip.error, Unconfirmed):
            return wrong(
                subject, f"{words}, though it listens", "restart the service, and see that the proxy reaches it"
            )
        return wrong(subject, words, f"let firewalls pass port {port}, and {start}")
    if isinstance(trip.error, NotSent):
        return wrong(subject, f"nobody listens at {base}", start)
    return wrong(subject, f"{base} breaks off: {trip.error}", "look into the log of the proxy in front of the service")


def _of_tls(error: ssl.SSLError) -> str:
    told = getattr(error, "verify_message", None) or error.reason or str(error)
    return "it speaks no TLS" if told == "WRONG_VERSION_NUMBER" else str(told).lower().replace("_", " ")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Give an error and everything that led to it."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for each in error.exceptions:
                yield from _causes(each)
        error = error.__cause__ or error.__context__


def _foreign(services: Services, response: httpx.Response, base: str, subject: str) -> Finding:
    """Say who answered instead of this installation."""
    passing = f"let the proxy pass POST {CALLBACKS}/ to {services.settings.local_url}"
    if subject == SERVICE:
        passing = "end the other service there, or set PORT to another one"
    words, remedy = _receiver(services, response, base, passing) or _stranger(services, response, base, passing)
    return wrong(subject, words, remedy)


def _receiver(services: Services, response: httpx.Response, base: str, passing: str) -> tuple[str, str] | None:
    """Say what is wrong where a service of our own kind answers, as its problem documents show."""
    detail = _problem(response)
    if detail is None:
        return None
    apart = _clock_apart(response)
    if response.status_code == 404 and detail == NOT_FOUND and apart > round_trip.MAX_AGE_SECONDS:
        words = f"the clock of the service at {base} is {amount(apart)} off ours, so that it believes no question"
        return words, "keep both machines' clocks right by NTP (timedatectl set-ntp true)"
    if response.status_code == 404 and detail == NOT_FOUND:
        words = f"another installation answers at {base}, with other keys, or an earlier release"
        return words, f"{passing}; or {SAME}"
    if response.status_code == 404:
        prefix = services.settings.path_prefix
        words = f"the service at {base} is asked for another path than was sent: a proxy strips or doubles a part of it"
        return words, f"let the proxy pass the path on as it is{f', or without {prefix}' if prefix else ''}"
    if response.status_code == 503:
        return f"the service at {base} says: {detail[:200]}", "free its database; the service's log says more"
    return None


def _clock_apart(response: httpx.Response) -> float:
    """Return by how many seconds the sender's clock and ours differ; 0 where it tells no time."""
    date = wire.parse_http_date(response.headers.get("Date", ""))
    return 0.0 if date is None else abs(float(response.extensions["received_at"] / 1000 - date))


def _stranger(services: Services, response: httpx.Response, base: str, passing: str) -> tuple[str, str]:
    """Say what is wrong where a proxy, or some other service, answers."""
    status = response.status_code
    said = f"({status}: {services.redactor.redact_text(excerpt(response))[:100]})"
    if response.is_redirect:
        to = services.redactor.redact_text(response.headers.get("Location", "nowhere"))[:200]
        words = f"{base} redirects ({status}) to {to}, and providers need not follow"
        return words, _redirected(to) or f"{passing} without redirecting"
    if status in (401, 403, 407) or (response.is_success and _is_login(response)):
        return f"{base} asks for a login {said}", f"{passing} without a login"
    if status in (502, 503, 504):
        return (
            f"a proxy answers at {base}, and does not reach the service {said}",
            f"start `receiver serve`, and {passing}",
        )
    if status in (408, 413, 429):
        return f"a proxy at {base} turns callbacks down {said}", f"{passing} without such limits"
    return f"something else answers at {base} {said}", passing


def _redirected(to: str) -> str | None:
    """Name the public URL that a redirection with our path in it speaks for."""
    found = re.match(rf"(.+?){CALLBACKS}/", to)
    try:
        return f"set RECEIVER_PUBLIC_URL={check_public_url(found[1])}, which it redirects to" if found else None
    except ValueError:
        return None


def _is_login(response: httpx.Response) -> bool:
    return b"<" in response.content[:200] and re.search(rb"(?i)password|log ?in|sign ?in", response.content) is not None


def _problem(response: httpx.Response) -> str | None:
    """Read the words of a problem document, as our own service writes them."""
    if not response.headers.get("Content-Type", "").startswith(PROBLEM):
        return None
    try:
        return wire.read_text(wire.read_object(response.content).get("detail"))
    except Unreadable:
        return None
