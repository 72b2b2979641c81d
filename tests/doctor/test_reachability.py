"""Whoever answers at the public URL instead of this installation is told for what it is, with the remedy."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

import pytest

from receiver.core.links import NOT_FOUND
from receiver.doctor import Verdict
from receiver.store import schema
from receiver.store.engine import sqlite_module
from tests.system.processes import free_port

from .conftest import Installation
from .rig import Answerer, Received, Say, Seen, answer, examined, hanging, out_of_patience, passing_to, saying

pytestmark = pytest.mark.anyio

PUBLIC = "public URL"


async def through(installation: Installation, url: str | None, **more: str | None) -> Seen:
    """Examine an installation under another public URL."""
    return await examined({**installation.environ, "RECEIVER_PUBLIC_URL": url, **more})


async def answered_by(say: Say, installation: Installation, **more: str | None) -> Seen:
    async with Answerer(say).listening() as answerer:
        return await through(installation, f"{answerer.url}/in", **more)


def is_wrong(seen: Seen, words: str, remedy: str) -> None:
    finding = seen.the(PUBLIC)
    assert finding.verdict is Verdict.WRONG
    assert words in finding.message
    assert remedy in (finding.remedy or "")
    assert seen.the("service").verdict is Verdict.OK, "it runs, so that the fault is on the way"


async def test_a_round_trip_to_this_installation_is_fine(installation: Installation) -> None:
    seen = await through(installation, installation.environ["RECEIVER_PUBLIC_URL"])
    assert seen.the(PUBLIC).verdict is Verdict.OK
    assert seen.of("service") == [], "one line is enough"
    assert seen.report.worst is not Verdict.WRONG


async def test_without_a_public_url_tasks_are_polled(installation: Installation) -> None:
    seen = await through(installation, None)
    finding = seen.the(PUBLIC)
    assert (finding.verdict, "polled" in finding.message) == (Verdict.WARNING, True)
    assert "RECEIVER_PUBLIC_URL" in (finding.remedy or "")
    assert seen.the("service").verdict is Verdict.OK


# --- not reached


async def test_nothing_listens(installation: Installation) -> None:
    port = free_port()
    is_wrong(await through(installation, f"http://127.0.0.1:{port}"), "nothing listens", f"on port {port}")


async def test_a_name_without_a_dns_record(installation: Installation) -> None:
    is_wrong(await through(installation, "https://hooks.invalid"), "hooks.invalid has no DNS record", "DNS record")


async def test_no_answer_in_time(installation: Installation) -> None:
    async with Answerer(hanging).listening() as answerer:
        plain = await out_of_patience({**installation.environ, "RECEIVER_PUBLIC_URL": answerer.url}, answerer)
        answerer.received.clear()
        url = answerer.url.replace("http:", "https:")
        encrypted = await out_of_patience({**installation.environ, "RECEIVER_PUBLIC_URL": url}, answerer)
    is_wrong(plain, "does not answer in time, though it listens", "restart the service")
    is_wrong(encrypted, "does not answer in time", f"open port {answerer.port} in firewalls")


async def test_a_connection_that_is_closed(installation: Installation) -> None:
    async def hang_up(_: object) -> bytes:
        return b""

    is_wrong(await answered_by(hang_up, installation), "closes the connection", "log of the proxy")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
async def test_an_untrusted_certificate(installation: Installation, certificate: Path) -> None:
    async with Answerer(saying("200 OK", "{}")).listening(certificate) as answerer:
        seen = await through(installation, answerer.url)
    is_wrong(seen, "fails, as it would for providers: self-signed certificate", "valid certificate for localhost")
    assert answerer.received == [], "nothing was said to it"


async def test_https_to_a_server_without_tls(installation: Installation) -> None:
    async with Answerer(saying("200 OK", "{}")).listening() as answerer:
        seen = await through(installation, answerer.url.replace("http:", "https:"))
    is_wrong(seen, "it does not speak TLS", "valid certificate")


async def test_a_stopped_service_is_named_beside_the_proxy_that_cannot_reach_it(installation: Installation) -> None:
    port = str(free_port())
    seen = await answered_by(saying("502 Bad Gateway", "<h1>Bad Gateway</h1>"), installation, PORT=port)
    assert "does not reach the service (502: Bad Gateway)" in seen.the(PUBLIC).message
    assert "start `receiver serve`" in (seen.the(PUBLIC).remedy or "")
    service = seen.the("service")
    assert (service.verdict, service.message) == (Verdict.WRONG, f"nothing listens at http://127.0.0.1:{port}")
    assert "start `receiver serve`" in (service.remedy or "")


async def test_no_service_is_needed_where_cron_polls_and_no_provider_calls_back(installation: Installation) -> None:
    cron: dict[str, str | None] = {"PORT": str(free_port()), "RECEIVER_POLLER": "off"}
    assert (await through(installation, None, **cron)).the("service").verdict is Verdict.SKIPPED
    assert (await through(installation, None, **cron | {"RECEIVER_POLLER": "on"})).the(
        "service"
    ).verdict is Verdict.WRONG


# --- answered by others


async def test_a_redirect_is_reported_and_not_followed(installation: Installation) -> None:
    async with Answerer(saying("200 OK", "{}")).listening() as target:

        async def redirect(request: object) -> bytes:
            path = getattr(request, "path", "")
            return f"HTTP/1.1 308 X\r\nLocation: {target.url}/new{path}\r\nContent-Length: 0\r\n\r\n".encode()

        seen = await answered_by(redirect, installation)
        is_wrong(seen, f"redirects (308) to {target.url}/new/in/callbacks/doctor/[redacted]", "RECEIVER_PUBLIC_URL=")
        assert f"{target.url}/new/in," in (seen.the(PUBLIC).remedy or "")
        assert target.received == []


@dataclass(frozen=True)
class Other:
    """Who answers, and what is said about it."""

    say: Say
    words: str
    remedy: str = "let the proxy pass POST /callbacks/ to http://127.0.0.1:"


LOGIN = "<html><form><input type='password' name='p'> Please sign in</form></html>"
OTHERS = {
    "redirected-to-a-login": Other(saying("302 Found", Location="/login"), "redirects (302) to /login", "redirecting"),
    "a-login-page": Other(
        saying("200 OK", LOGIN, Content_Type="text/html"), "requires a login (200", "without a login"
    ),
    "an-unauthorised": Other(saying("401 X", "", WWW_Authenticate="Basic"), "requires a login (401", "without a login"),
    "json": Other(saying("200 OK", '{"outcome":"applied"}'), "something else answers"),
    "an-answer-of-a-stranger": Other(saying("200 OK", '{"answer":"a-1-b.sig"}'), "something else answers"),
    "an-empty-page": Other(saying("200 OK"), "something else answers"),
    "not-found": Other(saying("404 Not Found", "<h1>404</h1> nginx"), "something else answers at http"),
    "not-a-post": Other(saying("405 Method Not Allowed"), "something else answers"),
    "too-large": Other(saying("413 X"), "refuses callbacks (413", "without such limits"),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=list(OTHERS))
async def test_something_else_that_answers(other: Other, installation: Installation) -> None:
    is_wrong(await answered_by(other.say, installation), other.words, other.remedy)


async def test_another_installation_has_other_keys(installation: Installation, neighbour: str) -> None:
    is_wrong(await through(installation, neighbour), "another installation answers", "RECEIVER_SECRET_KEYS")
    port = neighbour.rpartition(":")[2]
    seen = await through(installation, None, PORT=port)
    assert "another installation" in seen.the("service").message
    assert "stop the other service there" in (seen.the("service").remedy or "")


async def test_a_service_whose_clock_is_too_wrong_to_accept_the_probe(installation: Installation) -> None:
    body, kind = json.dumps({"status": 404, "detail": NOT_FOUND}), "application/problem+json"
    wrong, right = (formatdate(time.time() - seconds, usegmt=True) for seconds in (7300, 100))
    seen = await answered_by(saying("404 X", body, Content_Type=kind, Date=wrong), installation)
    is_wrong(seen, "differs from ours by 2 h", "NTP")
    seen = await answered_by(saying("404 X", body, Content_Type=kind, Date=right), installation)
    is_wrong(seen, "another installation", "RECEIVER_SECRET_KEYS")


# --- what proxies do


@pytest.mark.parametrize("path", [lambda path: path, lambda path: path.removeprefix("/in")], ids=["kept", "stripped"])
async def test_a_proxy_may_strip_the_prefix_or_not(path: Callable[[str], str], installation: Installation) -> None:
    seen = await answered_by(passing_to(installation.url, path), installation)
    assert seen.the(PUBLIC).verdict is Verdict.OK


CHANGED: dict[str, Callable[[str], str]] = {
    "doubled": lambda path: f"/in{path}",
    "added": lambda path: f"/other{path}",
    "too-much-stripped": lambda path: path.removeprefix("/in/callbacks"),
}


@pytest.mark.parametrize("path", CHANGED.values(), ids=list(CHANGED))
async def test_a_proxy_that_changes_the_path(path: Callable[[str], str], installation: Installation) -> None:
    seen = await answered_by(passing_to(installation.url, path), installation)
    is_wrong(seen, "receives another path", "pass the path on as it is, or without /in")


BODIES: dict[str, Callable[[bytes], bytes]] = {
    "written-again": lambda body: json.dumps(json.loads(body)).encode(),
    "escaped": lambda body: body.replace(b"<", b"&lt;"),
    "dropped": lambda _: b"",
    "stripped": bytes.strip,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=list(BODIES))
async def test_a_proxy_that_changes_the_body(body: Callable[[bytes], bytes], installation: Installation) -> None:
    seen = await answered_by(passing_to(installation.url, body=body), installation)
    is_wrong(seen, "receives another body than was sent", "unchanged")


# --- the same keys are not enough


async def test_our_keys_with_another_database(installation: Installation, tmp_path: Path) -> None:
    schema.migrate(f"sqlite:///{tmp_path}/receiver.db")
    url = installation.environ["RECEIVER_PUBLIC_URL"]
    changes = {"RECEIVER_DATA_DIR": str(tmp_path), "RECEIVER_SECRET_KEYS": installation.keys}
    for _ in range(2):  # what the other database was told first proves nothing for the next time
        finding = (await through(installation, url, **changes)).the(PUBLIC)
        assert (finding.verdict, "another database" in finding.message) == (Verdict.WRONG, True)
        assert "the same RECEIVER_DATABASE_URL" in (finding.remedy or "")


async def test_rotated_keys_still_reach_a_service_that_knows_one_of_them(installation: Installation) -> None:
    url = installation.environ["RECEIVER_PUBLIC_URL"]
    seen = await through(installation, url, RECEIVER_SECRET_KEYS=f"{installation.keys},an-older-key")
    assert seen.the(PUBLIC).verdict is Verdict.OK
    seen = await through(installation, url, RECEIVER_SECRET_KEYS=f"a-newer-key,{installation.keys}")
    is_wrong_for_now = seen.the(PUBLIC)
    assert "restart the service" in (is_wrong_for_now.remedy or ""), "it would not know the callback URLs of new tasks"


async def test_a_private_address_cannot_be_reached_by_providers_elsewhere(installation: Installation) -> None:
    url = installation.environ["RECEIVER_PUBLIC_URL"]
    seen = await through(installation, url, REVID_BASE_URL="https://api.invalid")
    finding = seen.the(PUBLIC)
    assert (finding.verdict, "private address" in finding.message) == (Verdict.WARNING, True)
    assert "https URL" in (finding.remedy or "")


async def test_a_service_that_cannot_write_says_so(installation: Installation) -> None:
    file = Path(installation.environ["RECEIVER_DATA_DIR"]) / "receiver.db"
    other = sqlite_module().connect(str(file), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        seen = await through(installation, installation.environ["RECEIVER_PUBLIC_URL"])
    finally:
        other.close()
    assert f"the service at {installation.environ['RECEIVER_PUBLIC_URL']} says: " in seen.the(PUBLIC).message
    assert "database is locked" in seen.the(PUBLIC).message
    (finding,) = [each for each in seen.of("database") if each.verdict is Verdict.WRONG]
    assert "end what holds it locked" in (finding.remedy or "")


# --- proxies against robots


async def test_a_proxy_that_blocks_user_agents_of_programs_is_found(installation: Installation) -> None:
    passing = passing_to(installation.url)

    async def picky(request: Received) -> bytes:
        if request.headers.get("user-agent", "").startswith(("Go-http-client", "okhttp")):
            return answer("403 Forbidden", "no robots")
        return await passing(request)

    seen = await answered_by_root(picky, installation)
    finding = seen.the(PUBLIC)
    assert finding.verdict is Verdict.WRONG
    assert "not for the User-Agents Go-http-client/1.1, okhttp/4.12.0, which" in finding.message
    assert "whatever the User-Agent" in (finding.remedy or "")


async def answered_by_root(say: Say, installation: Installation) -> Seen:
    async with Answerer(say).listening() as answerer:
        return await through(installation, answerer.url)
