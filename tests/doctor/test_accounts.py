"""What an account's answer tells of its key, in every family's format, and what its time tells of our clock."""

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

import pytest

from receiver.doctor import Finding, Verdict
from receiver.store import schema
from tests.system.processes import free_port, provider

from .rig import Answerer, Received, Say, Seen, answer, examined, hanging, out_of_patience, saying

pytestmark = pytest.mark.anyio

FAMILIES = ("rivya", "apixo", "revid", "gateway", "kie")
KEY = "the-very-secret-key"
NO_KIE_ACCESS = '{"code":401,"msg":"You do not have access permissions"}'
"""As documented, and sent with HTTP 200."""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str | None]:
    """An installation without a public URL, where cron polls."""
    schema.migrate(f"sqlite:///{tmp_path}/receiver.db")
    return {"RECEIVER_DATA_DIR": str(tmp_path), "RECEIVER_POLLER": "off"}


async def asked(environ: Mapping[str, str | None], **says: Say) -> Seen:
    """Examine accounts, each at a provider that answers so; two underscores part `gateway-x`."""
    hangs: list[Answerer] = []
    async with AsyncExitStack() as stack:
        named: dict[str, str | None] = dict(environ)
        for account, say in says.items():
            answerer = await stack.enter_async_context(Answerer(say).listening())
            prefix = account.upper().replace("__", "_")
            named |= {f"{prefix}_API_KEY": KEY, f"{prefix}_BASE_URL": answerer.url}
            hangs += [answerer] if say is hanging else []
        return await (out_of_patience(named, hangs[0]) if hangs else examined(named))


def is_wrong(finding: Finding, words: str, remedy: str) -> None:
    assert finding.verdict is Verdict.WRONG
    assert words in finding.message
    assert remedy in (finding.remedy or "")


REFUSALS = [
    ("rivya", "401 X", '{"error":{"code":"api_key_revoked","message":"This key was revoked"}}', "This key was revoked"),
    ("rivya", "403 X", '{"error":{"code":"api_scope_denied","message":"No scope"}}', "No scope"),
    ("apixo", "401 X", '{"code":401,"message":"Invalid or missing API Key"}', "Invalid or missing API Key"),
    ("apixo", "200 OK", '{"code":401,"message":"Invalid or missing API Key"}', "Invalid or missing API Key"),
    ("revid", "200 OK", '{"code":401,"msg":"Authentication failed"}', "Authentication failed"),
    ("gateway", "401 X", '{"error":{"message":"Invalid token","type":"new_api_error"}}', "Invalid token"),
    ("kie", "200 OK", NO_KIE_ACCESS, "You do not have access permissions"),
    ("revid", "401 X", "", "an empty body"),
]


@pytest.mark.parametrize(("family", "status", "body", "words"), REFUSALS)
async def test_a_refused_key_is_wrong_and_its_variable_named(
    family: str, status: str, body: str, words: str, environ: dict[str, str | None]
) -> None:
    seen = await asked(environ, **{family: saying(status, body)})
    is_wrong(seen.the(f"key of {family}"), f"refused by 127.0.0.1: {words}", f"set {family.upper()}_API_KEY")


@pytest.mark.parametrize("words", ["Not Found", "404 page not found", "Cannot GET /x/v2", "Invalid URL (GET /x/v2)"])
async def test_a_base_url_that_leads_to_the_balance_and_not_to_orders_is_wrong(
    words: str, environ: dict[str, str | None]
) -> None:
    async def say(request: Received) -> bytes:
        if "quota" in request.path:
            return answer("200 OK", '{"remaining_quota":9}')
        return answer("404 X", json.dumps({"detail": words}))

    seen = await asked(environ, gateway=say)
    is_wrong(seen.the("key of gateway"), "does not know the path that orders take, /v2/videos/gen", "GATEWAY_BASE_URL")


@pytest.mark.parametrize(
    "body", ['{"error":{"code":"not_found","message":"Not Found"}}', '{"detail":"Task not found"}', "{}"]
)
async def test_an_unknown_task_is_told_from_an_unknown_path(body: str, environ: dict[str, str | None]) -> None:
    async def say(request: Received) -> bytes:
        return answer("200 OK", '{"remaining_quota":9}') if "quota" in request.path else answer("404 X", body)

    seen = await asked(environ, gateway=say)
    assert seen.the("key of gateway").verdict is Verdict.OK
    assert "9 credits left" in seen.the("key of gateway").message


async def test_every_key_is_examined_and_that_of_a_further_gateway_is_named(environ: dict[str, str | None]) -> None:
    good, bad = saying("200 OK", '{"remaining_quota":12345}'), saying("401 X", '{"error":{"message":"Invalid token"}}')
    seen = await asked(environ, gateway=good, gateway__x=bad)
    assert seen.the("key of gateway").verdict is Verdict.OK
    assert "12,345 credits left" in seen.the("key of gateway").message
    is_wrong(seen.the("key of gateway-x"), "Invalid token", "set GATEWAY_X_API_KEY")


@dataclass
class Other:
    """An answer that says nothing against the key, and what is said about it."""

    say: Say
    verdict: Verdict
    words: str
    remedy: str = "BASE_URL"
    family: str = field(default="revid")


OTHERS = {
    "no-such-task": Other(saying("404 X", '{"code":404,"msg":"task not found"}'), Verdict.OK, "accepted by", ""),
    "no-such-task-in-200": Other(
        saying("200 OK", '{"code":422,"msg":"recordInfo is null"}'), Verdict.OK, "accepted", ""
    ),
    "firewall": Other(
        saying("403 X", "error code: 1010"), Verdict.WRONG, "before it checks the key", "this machine's address"
    ),
    "no-money": Other(saying("402 X", '{"code":402,"msg":"Top up"}'), Verdict.WARNING, "says: Top up", "top up"),
    "busy": Other(saying("429 X", '{"code":429,"msg":"slow down"}'), Verdict.WARNING, "slow down", "try again"),
    "broken": Other(saying("500 X", "<h1>Oops</h1>"), Verdict.WARNING, "answers 500: Oops", "try again"),
    "a-page": Other(saying("200 OK", "<h1>Welcome</h1>"), Verdict.WRONG, "another service answers", "REVID_BASE_URL"),
    "moved": Other(
        saying("301 X", Location="https://new.invalid/"), Verdict.WRONG, "redirects to https://new.invalid/"
    ),
    "hangs": Other(hanging, Verdict.WRONG, "does not answer", "REVID_BASE_URL"),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=list(OTHERS))
async def test_other_answers_are_distinguished_from_a_refused_key(other: Other, environ: dict[str, str | None]) -> None:
    finding = (await asked(environ, revid=other.say)).the("key of revid")
    assert finding.verdict is other.verdict
    assert other.words in finding.message
    assert other.remedy in (finding.remedy or "")


async def test_an_unreachable_provider_is_reported(environ: dict[str, str | None]) -> None:
    places = {"REVID_BASE_URL": f"http://127.0.0.1:{free_port()}", "APIXO_BASE_URL": "https://api.invalid"}
    seen = await examined({**environ, **places, "REVID_API_KEY": KEY, "APIXO_API_KEY": KEY})
    is_wrong(seen.the("key of revid"), "cannot be reached: no connection to 127.0.0.1", "REVID_BASE_URL")
    is_wrong(seen.the("key of apixo"), "cannot be reached: no connection to api.invalid", "let this machine reach it")
    assert seen.the("clock").verdict is Verdict.SKIPPED, "nobody told the time"


async def test_a_gateway_without_a_balance_is_asked_about_a_task(environ: dict[str, str | None]) -> None:
    async def say(request: Received) -> bytes:
        if request.path.startswith("/v1/token"):
            return answer("200 OK", "<html>single page</html>")
        return answer("404 X", '{"error":{"message":"task_not_exist"}}')

    finding = (await asked(environ, gateway=say)).the("key of gateway")
    assert (finding.verdict, finding.message) == (Verdict.OK, "accepted by 127.0.0.1")


async def test_nothing_that_buys_is_sent(environ: dict[str, str | None]) -> None:
    async with AsyncExitStack() as stack:
        answerers = {}
        for family in FAMILIES:
            listening = Answerer(saying("404 X", '{"code":404}')).listening()
            answerers[family] = await stack.enter_async_context(listening)
        named = {f"{family.upper()}_BASE_URL": answerer.url for family, answerer in answerers.items()}
        await examined({**environ, **named, **{f"{family.upper()}_API_KEY": KEY for family in FAMILIES}})
        sent = {family: [f"{r.method} {r.path}" for r in answerer.received] for family, answerer in answerers.items()}
    assert sent == {
        "rivya": ["GET /api/v1/credits", "GET /api/v1/generations/receiver-doctor-asks"],
        "apixo": ["GET /api/v1/statusTask/sora-2?taskId=receiver-doctor-asks"],
        "revid": ["POST /paid/get/taskid?taskId=receiver-doctor-asks"],
        "gateway": ["GET /v1/token/quota", "GET /v2/videos/generations/receiver-doctor-asks"],
        "kie": ["GET /api/v1/chat/credit", "GET /api/v1/veo/record-info?taskId=receiver-doctor-asks"],
    }


async def test_the_simulated_provider_accepts_the_keys_of_all_families(
    environ: dict[str, str | None], tmp_path: Path
) -> None:
    port = free_port()
    selling = provider(tmp_path, port)
    await asyncio.to_thread(selling.start)
    try:
        named = {f"{family.upper()}_BASE_URL": f"http://127.0.0.1:{port}/{family}" for family in FAMILIES}
        seen = await examined({**environ, **named, **{f"{family.upper()}_API_KEY": KEY for family in FAMILIES}})
    finally:
        selling.kill()
    assert [seen.the(f"key of {family}").verdict for family in FAMILIES] == [Verdict.OK] * 5
    assert seen.the("clock").verdict is Verdict.OK


async def test_the_accounts_are_named_with_whether_their_callbacks_are_signed(
    environ: dict[str, str | None], tmp_path: Path
) -> None:
    (tmp_path / "rivya_webhook_secret").write_text("whsec_aHVudGVyMg==")  # as `receiver register` keeps it
    no = saying("404 X", '{"code":404}')
    seen = await asked(environ, rivya=no, kie=no, revid=no)
    assert seen.the("settings").message == "accounts: rivya (callbacks signed), revid, kie (callbacks not signed)"


async def test_an_echoed_key_is_not_shown(environ: dict[str, str | None]) -> None:
    body = json.dumps({"code": 401, "msg": f"unknown key {KEY}"})
    moved = saying("302 X", Location=f"https://new.invalid/?key={KEY}")
    seen = await asked(environ, revid=saying("401 X", body), apixo=moved, kie=saying("500 X", f"<p>{KEY}</p>"))
    shown = repr(seen.report)
    assert KEY not in shown
    assert shown.count("[redacted]") == 3


# --- the clock


@pytest.mark.parametrize(
    ("ahead", "verdict", "words"),
    [
        ((0,), Verdict.OK, "agrees with the providers' clocks"),
        ((30, -30), Verdict.OK, "agrees with the providers' clocks"),
        ((120,), Verdict.WARNING, "behind the providers'"),
        ((-150,), Verdict.WARNING, "ahead of the providers'"),
        ((3600,), Verdict.WRONG, "signed callbacks are refused"),
        ((0, 7200, 0), Verdict.OK, "agrees with the providers' clocks"),
        ((None, 400), Verdict.WRONG, "min behind"),
        ((None,), Verdict.SKIPPED, "no provider sent the time"),
    ],
)
async def test_the_clock_is_compared_with_the_providers(
    ahead: tuple[float | None, ...], verdict: Verdict, words: str, environ: dict[str, str | None]
) -> None:
    says = {}
    for account, seconds in zip(("revid", "apixo", "kie"), ahead, strict=False):
        date = {} if seconds is None else {"Date": formatdate(time.time() + seconds, usegmt=True)}
        says[account] = saying("404 X", '{"code":404}', **date)
    finding = (await asked(environ, **says)).the("clock")
    assert finding.verdict is verdict
    assert words in finding.message
    assert ("NTP" in (finding.remedy or "")) == (verdict in (Verdict.WARNING, Verdict.WRONG))
