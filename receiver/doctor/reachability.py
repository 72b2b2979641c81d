"""Whether providers can reach us: a signed probe is sent through the public URL, and its answer is judged.

Any other server that answers is recognised by its response; nothing that it says is trusted or followed.
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
from receiver.doctor.findings import Finding, Verdict, format_seconds, ok, skipped, warning, wrong
from receiver.providers.answers import excerpt
from receiver.round_trip import ProbeAnswer, RoundTrip
from receiver.services import Services
from receiver.store import heartbeats

PUBLIC, SERVICE = "public URL", "service"
MAX_SKEW = 60.0
PROBLEM = "application/problem+json"
USER_AGENTS = ("Go-http-client/1.1", "okhttp/4.12.0", "Java/17.0.13", "python-requests/2.32.3", "axios/1.7.9", "node")
"""User-Agents that providers' programs use for callbacks, and that proxies may block as robots."""
SAME_KEYS = "give service and command line the same RECEIVER_SECRET_KEYS or RECEIVER_DATA_DIR, then restart the service"


async def examine(services: Services, *, usable: bool) -> list[Finding]:
    """Return findings from probes through the public URL and directly; `usable`: whether our database can be read."""
    settings = services.settings
    if settings.sandbox or settings.public_url is None:
        direct = await _examine_url(services, settings.local_url, SERVICE, usable=usable)
        return [_tolerate_no_service(settings, direct), *_no_public_url(settings)]
    public = await _examine_url(services, settings.public_url, PUBLIC, usable=usable)
    if public.verdict is Verdict.OK:
        return [await _blocked_user_agents(services, settings.public_url) or public]
    if public.verdict is not Verdict.WRONG:
        return [public]  # whether it also answers here does not matter: it may run elsewhere
    # One after the other: of two probes at once, the service would keep only the last one's heartbeat.
    return [await _examine_url(services, settings.local_url, SERVICE, usable=usable), public]


def _tolerate_no_service(settings: Settings, direct: Finding) -> Finding:
    """Return the finding, or none wrong where no service is needed: cron polls, and no provider calls back."""
    if direct.verdict is Verdict.WRONG and not settings.poller and settings.public_url is None:
        return skipped(SERVICE, "none is running here, and none is needed where cron polls")
    return direct


def _no_public_url(settings: Settings) -> list[Finding]:
    if settings.sandbox:
        return [skipped(PUBLIC, "the sandbox calls back to its own address")]
    message = "not set, so tasks are submitted without a callback and polled"
    return [warning(PUBLIC, message, "set RECEIVER_PUBLIC_URL=https://... to where providers reach this service")]


async def _blocked_user_agents(services: Services, base: str) -> Finding | None:
    """Return a finding about User-Agents of programs that a proxy blocks; None if each one gets through."""
    trips = await asyncio.gather(*(round_trip.send_probe(services, base, sender) for sender in USER_AGENTS))
    refused = [sender for sender, trip in zip(USER_AGENTS, trips, strict=True) if not _is_answered(services, trip)]
    if not refused:
        return None
    message = f"{base} leads here, but not for the User-Agents {', '.join(refused)}, which providers use"
    return wrong(PUBLIC, message, f"let the proxy pass POST {CALLBACKS}/ whatever the User-Agent is")


def _is_answered(services: Services, trip: RoundTrip) -> bool:
    answer = trip.response is not None and round_trip.read_answer(services.links, trip.response, trip.probe)
    return bool(answer)


async def _examine_url(services: Services, base: str, subject: str, *, usable: bool) -> Finding:
    trip = await round_trip.send_probe(services, base)
    if trip.response is None:
        return _judge_error(trip, base, subject)
    answer = round_trip.read_answer(services.links, trip.response, trip.probe)
    if answer is None:
        return _judge_other_server(services, trip.response, base, subject)
    if round_trip.body_was_changed(answer, trip.probe):
        message = f"the service at {base} receives another body than was sent: a proxy changes it"
        return wrong(subject, message, f"let the proxy pass POST {CALLBACKS}/ unchanged (no filter, no rewriting)")
    if usable and not await _shares_our_database(services, trip):
        message = f"the service at {base} has our keys, but another database"
        return wrong(
            subject, message, "give both the same RECEIVER_DATABASE_URL or RECEIVER_DATA_DIR, then restart the service"
        )
    return _judge_answer(services, trip, answer, base, subject)


async def _shares_our_database(services: Services, trip: RoundTrip) -> bool:
    """Return whether the heartbeat that the service wrote before its answer is in our database."""
    try:
        written_at = await services.store.read(lambda session: heartbeats.read_last(session, heartbeats.ROUND_TRIP))
    except StoreUnavailable:
        return True  # an unreadable database is another finding
    return written_at is not None and written_at >= trip.probe.sent_at


def _judge_answer(services: Services, trip: RoundTrip, answer: ProbeAnswer, base: str, subject: str) -> Finding:
    skew = (answer.clock - services.clock()) / 1000
    if abs(skew) > MAX_SKEW:
        message = (
            f"{base} answers, but its clock is {format_seconds(abs(skew))} {'ahead of' if skew > 0 else 'behind'} ours"
        )
        return warning(subject, message, "keep both machines' clocks right by NTP (timedatectl set-ntp true)")
    host = urlsplit(base).hostname or ""
    theirs = [urlsplit(config.base_url).hostname or "" for config in services.settings.providers.values()]
    if subject == PUBLIC and is_private(host) and not all(map(is_private, theirs)):
        message = f"{base} leads here, but is a private address: providers elsewhere cannot reach it"
        return warning(
            subject, message, "set RECEIVER_PUBLIC_URL to an https URL that can be reached from the internet"
        )
    seconds = max(services.clock() - trip.probe.sent_at, 0) / 1000
    return ok(subject, f"{base} leads to this installation, signed both ways, in {seconds:.2f} s")


def _judge_error(trip: RoundTrip, base: str, subject: str) -> Finding:
    """Return a finding about why no answer came."""
    parts = urlsplit(base)
    host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    start = f"start `receiver serve`, or the proxy in front of it, on port {port}"
    if subject == SERVICE:
        start = "start `receiver serve` (or set HOST and PORT to the values that it has)"
    causes = list(_causes(trip.error))
    unfinished = ssl.SSLWantReadError | ssl.SSLWantWriteError  # of a handshake that timed out
    refused = next(
        (each for each in causes if isinstance(each, ssl.SSLError) and not isinstance(each, unfinished)), None
    )
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return wrong(subject, f"{host} has no DNS record", "correct RECEIVER_PUBLIC_URL, or add a DNS record")
    if refused is not None:
        message = f"TLS to {base} fails, as it would for providers: {_describe_tls_error(refused)}"
        return wrong(subject, message, f"serve a valid certificate for {host}, with its full chain, on port {port}")
    if any(isinstance(cause, TimeoutError | httpx.TimeoutException) for cause in causes):
        message = f"{base} does not answer in time"
        if isinstance(trip.error, Unconfirmed):
            return wrong(
                subject, f"{message}, though it listens", "restart the service, and make sure that the proxy reaches it"
            )
        return wrong(subject, message, f"open port {port} in firewalls, and {start}")
    if isinstance(trip.error, NotSent):
        return wrong(subject, f"nothing listens at {base}", start)
    return wrong(
        subject, f"{base} closes the connection: {trip.error}", "check the log of the proxy in front of the service"
    )


def _describe_tls_error(error: ssl.SSLError) -> str:
    reason = getattr(error, "verify_message", None) or error.reason or str(error)
    return "it does not speak TLS" if reason == "WRONG_VERSION_NUMBER" else str(reason).lower().replace("_", " ")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and everything that led to it."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for each in error.exceptions:
                yield from _causes(each)
        error = error.__cause__ or error.__context__


def _judge_other_server(services: Services, response: httpx.Response, base: str, subject: str) -> Finding:
    """Return a finding about the server that answers instead of this installation."""
    passing = f"let the proxy pass POST {CALLBACKS}/ to {services.settings.local_url}"
    if subject == SERVICE:
        passing = "stop the other service there, or set another PORT"
    message, remedy = _describe_other_receiver(services, response, base, passing) or _describe_other_server(
        services, response, base, passing
    )
    return wrong(subject, message, remedy)


def _describe_other_receiver(
    services: Services, response: httpx.Response, base: str, passing: str
) -> tuple[str, str] | None:
    """Return what is wrong, and the remedy, if another Receiver answers, as its problem documents show."""
    detail = _problem_detail(response)
    if detail is None:
        return None
    difference = _clock_difference(response)
    if response.status_code == 404 and detail == NOT_FOUND and difference > round_trip.MAX_AGE_SECONDS:
        message = f"the clock of the service at {base} differs from ours by {format_seconds(difference)}"
        return message, "keep both machines' clocks right by NTP (timedatectl set-ntp true)"
    if response.status_code == 404 and detail == NOT_FOUND:
        message = f"another installation answers at {base}: it has other keys, or is an earlier release"
        return message, f"{passing}; or {SAME_KEYS}"
    if response.status_code == 404:
        prefix = services.settings.path_prefix
        message = f"the service at {base} receives another path than was sent: a proxy strips or doubles a part of it"
        return message, f"let the proxy pass the path on as it is{f', or without {prefix}' if prefix else ''}"
    if response.status_code == 503:
        return (
            f"the service at {base} says: {detail[:200]}",
            "make its database writable; the service's log has the details",
        )
    return None


def _clock_difference(response: httpx.Response) -> float:
    """Return by how many seconds the server's clock and ours differ; 0 if it sends no time."""
    date = wire.parse_http_date(response.headers.get("Date", ""))
    return 0.0 if date is None else abs(float(response.extensions["received_at"] / 1000 - date))


def _describe_other_server(services: Services, response: httpx.Response, base: str, passing: str) -> tuple[str, str]:
    """Return what is wrong, and the remedy, if a proxy or some other service answers."""
    status = response.status_code
    quoted = f"({status}: {services.redactor.redact_text(excerpt(response))[:100]})"
    if response.is_redirect:
        to = services.redactor.redact_text(response.headers.get("Location", "nowhere"))[:200]
        message = f"{base} redirects ({status}) to {to}, which providers may not follow"
        return message, _suggest_redirect_target(to) or f"{passing} without redirecting"
    if status in (401, 403, 407) or (response.is_success and _is_login_page(response)):
        return f"{base} requires a login {quoted}", f"{passing} without a login"
    if status in (502, 503, 504):
        return (
            f"a proxy answers at {base}, but does not reach the service {quoted}",
            f"start `receiver serve`, and {passing}",
        )
    if status in (408, 413, 429):
        return f"a proxy at {base} refuses callbacks {quoted}", f"{passing} without such limits"
    return f"something else answers at {base} {quoted}", passing


def _suggest_redirect_target(to: str) -> str | None:
    """Return the remedy for a redirect that keeps our path: the public URL that it leads to."""
    found = re.match(rf"(.+?){CALLBACKS}/", to)
    try:
        return f"set RECEIVER_PUBLIC_URL={check_public_url(found[1])}, which it redirects to" if found else None
    except ValueError:
        return None


def _is_login_page(response: httpx.Response) -> bool:
    return b"<" in response.content[:200] and re.search(rb"(?i)password|log ?in|sign ?in", response.content) is not None


def _problem_detail(response: httpx.Response) -> str | None:
    """Return the detail of a problem document, as our own service writes them."""
    if not response.headers.get("Content-Type", "").startswith(PROBLEM):
        return None
    try:
        return wire.read_text(wire.read_object(response.content).get("detail"))
    except Unreadable:
        return None
