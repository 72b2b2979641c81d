"""Tokens and signatures over live HTTP: what was not given out finds nothing, what was not signed settles nothing."""

import base64
import hashlib
import hmac
import http.client
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from receiver.core.ids import new_id
from receiver.core.links import Links
from receiver.serving.request_limits import MAX_LINE
from tests.behaviour.families import REVID
from tests.measuring import HANG
from tests.torture.harness import Torture
from tests.torture.hostile.live import KEY, MODELS, TOKEN, Live, Target, live
from tests.torture.hostile.test_shapes import logged_in

OLD = "an-older-secret-key"
KIE_SECRET = "the-webhook-hmac-key"
RIVYA_KEY = b"the standard webhooks key"
URL = "https://cdn.example.com/out.mp4"
NOW = "the time"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A service with a rotated key, and with the secrets of both families that sign."""
    secrets = {
        "RECEIVER_SECRET_KEYS": f"{KEY},{OLD}",
        "KIE_WEBHOOK_SECRET": KIE_SECRET,
        "RIVYA_WEBHOOK_SECRET": "whsec_" + base64.b64encode(RIVYA_KEY).decode(),
    }
    with live(tmp_path_factory.mktemp("keyed"), **secrets) as made:
        yield made


def raw_post(serving: Live, path: str, body: bytes, headers: Mapping[str, bytes] | None = None) -> tuple[int, bytes]:
    """Post to a path that no client rewrites, with header values of any bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", serving.port, timeout=HANG)
    try:
        connection.putrequest("POST", path, skip_accept_encoding=True)
        for name, value in {"Content-Length": str(len(body)).encode(), **(headers or {})}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def done(target: Target) -> bytes:
    return json.dumps(REVID.done(target.remote_id, URL)).encode()


# --- tokens


def attempts(serving: Live, target: Target, other: Target) -> dict[str, str]:
    """Tokens that a stranger, or a provider with other tokens, might try."""
    token, foreign = target.path.rpartition("/")[2], other.path.rpartition("/")[2]
    task_id, _, signature = token.partition(".")
    cookie = logged_in(serving).partition("=")[2].strip('"')
    strangers = Links(["a-key-of-a-stranger"], "http://x")
    digits = str.maketrans("0123456789", "".join(chr(0x661 + n) for n in range(10)))
    quoted = {
        "digits of another script": "".join(f"%{byte:02X}" for byte in task_id.translate(digits).encode()),
        "NUL": f"{task_id}%00.{signature}",
        "a line break": f"{task_id}%0A.{signature}",
        "no UTF-8": f"%FF.{signature}",
        "a slash": f"{task_id}%2F.{signature}",
        "dots": f"%2e%2e%2f{token}",
    }
    return quoted | {
        "nothing": "",
        "a dot": ".",
        "garbage": "x",
        "10,000 characters": "x" * 10_000,
        "10,000 dots": "." * 10_000,
        "a long tail": token + "x" * 9_000,
        "no signature": task_id,
        "an empty signature": f"{task_id}.",
        "a signature alone": f".{signature}",
        "cut": token[:-5],
        "cut in the middle": token[: len(token) // 2],
        "upper case": token.upper(),
        "swapped case": f"{task_id}.{signature.swapcase()}",
        "padding before": f"={token}",
        "blanks": f"{token}%20",
        "another's signature": f"{task_id}.{foreign.partition('.')[2]}",
        "another's token": foreign,
        "the account's token": serving.target("rivya").path.rpartition("/")[2],
        "signed with another key": str(strangers.callback_url("revid", target.task_id)).rpartition("/")[2],
        "signed for another account": str(serving.links.callback_url("apixo", target.task_id)).rpartition("/")[2],
        "signed for another purpose": serving.links.sign_timed("form", target.task_id),
        "a session": cookie,
        "a task that is not there": str(serving.links.callback_url("revid", new_id(1))).rpartition("/")[2],
        "signed twice": f"{token}.{signature}",
    }


@pytest.mark.row("C1")
def test_whatever_is_no_token_gets_the_same_bare_404_and_stores_nothing(keyed: Live, torture: Torture) -> None:
    target, other = keyed.target("revid"), keyed.target("apixo")
    tried = attempts(keyed, target, other)
    found = {name: raw_post(keyed, f"/callbacks/revid/{token}", done(target)) for name, token in tried.items()}
    wrong = raw_post(keyed, "/callbacks/nobody/x", b"")
    assert wrong[0] == 404
    routed = {"nothing", "a slash", "dots"}  # other paths, which the router knows no more than these
    long = {name for name, token in tried.items() if len(token) > MAX_LINE - 100}  # refused before anybody looks at it
    others = {name: answer for name, answer in found.items() if name not in routed | long}
    assert {name: answer for name, answer in others.items() if answer != wrong} == {}
    assert {found[name][0] for name in long} == {400}
    assert {found[name][0] for name in routed} == {404}
    for each in (target, other):
        assert keyed.task(each.task_id)["deliveries"] == 0
    assert raw_post(keyed, target.path, done(target))[0] == 200
    torture.figures(tokens=len(found))


@pytest.mark.row("C1")
def test_a_callback_token_opens_no_page_and_no_api(keyed: Live) -> None:
    token = keyed.target("revid").path.rpartition("/")[2]
    page = keyed.client.get("/", headers={"Cookie": f"receiver_session={token}", "Authorization": ""})
    assert page.status_code == 303
    assert keyed.client.get("/api/tasks", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    form = keyed.client.post("/logout", data={"csrf": token}, headers={"Cookie": logged_in(keyed), "Authorization": ""})
    assert form.status_code == 403


@pytest.mark.row("C1")
def test_of_many_mutated_tokens_none_is_another_tasks(torture: Torture) -> None:
    """Base64 has spare bits at its end, so that another spelling may name the same task."""
    links, chance = Links([KEY, OLD], "http://x"), torture.random
    ids = [new_id(1_795_176_000_000 + n) for n in range(50)]
    tokens = {task_id: str(links.callback_url("revid", task_id)).rpartition("/")[2] for task_id in ids}
    spelled_anew = 0
    for _ in range(torture.size(5_000, 100_000)):
        task_id = chance.choice(ids)
        text = bytearray(tokens[task_id].encode())
        for _ in range(chance.randint(1, 3)):
            kind, at = chance.randrange(4), chance.randrange(len(text))
            if kind == 0:
                text[at] ^= 1 << chance.randrange(8)
            elif kind == 1:
                del text[at:]
                text += b"x"
            elif kind == 2:
                text[at:at] = bytes([chance.randrange(256)])
            else:
                text[at:] = tokens[chance.choice(ids)].encode()[at:]
        read = links.read_task_id("revid", text.decode("latin-1"))
        spelled_anew += read is not None and text.decode("latin-1") not in tokens.values()
        assert read is None or text.decode("latin-1").startswith(f"{read}.")
    torture.figures(mutated=torture.size(5_000, 100_000), same_task_spelled_anew=spelled_anew)


# --- signatures


def kie_body(target: Target, **data: object) -> bytes:
    return json.dumps({"code": 200, "data": {"taskId": target.remote_id, "state": "generating", **data}}).encode()


def kie_headers(target: Target, seconds: int) -> dict[str, bytes]:
    digest = hmac.new(KIE_SECRET.encode(), f"{target.remote_id}.{seconds}".encode(), hashlib.sha256).digest()
    return {"X-Webhook-Timestamp": str(seconds).encode(), "X-Webhook-Signature": base64.b64encode(digest)}


def rivya_body(remote_id: str) -> bytes:
    return json.dumps({"id": remote_id, "status": "processing", "model": MODELS["rivya"]}).encode()


def rivya_headers(body: bytes, seconds: int) -> dict[str, bytes]:
    digest = hmac.new(RIVYA_KEY, f"msg_1.{seconds}.".encode() + body, hashlib.sha256).digest()
    signature = b"v1," + base64.b64encode(digest)
    return {"Webhook-Id": b"msg_1", "Webhook-Timestamp": str(seconds).encode(), "Webhook-Signature": signature}


def changed(headers: Mapping[str, bytes], torture: Torture) -> Iterator[dict[str, bytes]]:
    """Change each byte of each header, leave it out, and put odd things in its place."""
    odd = [b"", b"nan", b"-1", b"\xe9", b"\xf0\x9f\x90\x88", b"v1", b"v1,", b"v1,a,b", b"9" * 5000, b"A" * 10_000]
    for name, value in headers.items():
        for at, byte in enumerate(value):
            others = (
                range(33, 256) if torture.full else [torture.random.choice([b for b in b"+/09AZaz~\xe9" if b != byte])]
            )
            yield from ({**headers, name: value[:at] + bytes([b]) + value[at + 1 :]} for b in others if b != byte)
        yield {kept: it for kept, it in headers.items() if kept != name}
        yield from ({**headers, name: it} for it in odd)


@pytest.mark.row("C4")
def test_every_change_of_a_signed_callback_of_kie_is_a_401(keyed: Live, torture: Torture) -> None:
    target, now = keyed.target("kie"), int(time.time())
    headers, body = kie_headers(target, now), kie_body(target)
    tried = [(body, one) for one in changed(headers, torture)]
    tried += [(body, kie_headers(target, now + away)) for away in (-400, 400, -86_400)]
    tried += [(kie_body(replace(target, remote_id=f"{target.remote_id}{more}")), headers) for more in "0aé"]
    tried += [(odd, headers) for odd in (b"", b"{", b"[]", b"{}", b"\xff", b"[" * 100_000)]
    statuses = Counter(raw_post(keyed, target.path, content, one)[0] for content, one in tried)
    assert set(statuses) <= {401, 400}
    assert statuses[401] > 0.9 * statuses.total(), "400 is for what is no HTTP"
    task = keyed.task(target.task_id)
    assert task["state"] == "submitted"
    assert {event["outcome"] for event in keyed.deliveries(target.task_id)} == {"forged"}
    for content in (
        body,
        kie_body(target),
        kie_body(target, progress=50),
    ):  # replayed: it is signed, and no more is said
        assert raw_post(keyed, target.path, content, headers)[0] == 200
    torture.figures(kie_changes=statuses.total())


@pytest.mark.row("C4")
def test_every_change_of_a_signed_event_of_rivya_is_a_401(keyed: Live, torture: Torture) -> None:
    target, now = keyed.target("rivya"), int(time.time())
    body = rivya_body(target.remote_id)
    headers = rivya_headers(body, now)
    without = {name: value for name, value in headers.items() if name != "Webhook-Signature"}
    tried = [(body, one) for one in changed(headers, torture) if one != without]
    tried += [(body, rivya_headers(body, now + away)) for away in (-400, 400, -86_400)]
    places = range(len(body)) if torture.full else torture.random.sample(range(len(body)), 20)
    tried += [(body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :], headers) for at in places]
    tried += [(body + b" ", headers), (b"", headers)]
    statuses = Counter(raw_post(keyed, target.path, content, one)[0] for content, one in tried)
    assert set(statuses) <= {401, 400}
    assert statuses[401] > 0.9 * statuses.total()
    assert keyed.task(target.task_id)["state"] == "submitted"
    outcomes = [raw_post(keyed, target.path, body, headers) for _ in range(2)]
    assert outcomes == [(200, b'{"outcome": "applied"}'), (200, b'{"outcome": "repeated"}')]
    torture.figures(rivya_changes=statuses.total())


# --- the last: it is started again


@pytest.mark.row("C1")
def test_tokens_of_an_old_key_hold_until_it_is_removed(keyed: Live) -> None:
    target = keyed.target("revid")
    old = str(Links([OLD], "http://x").callback_url("revid", target.task_id)).removeprefix("http://x")
    body = json.dumps(REVID.working(target.remote_id)).encode()
    assert raw_post(keyed, old, body) == (200, b'{"outcome": "applied"}')
    keyed.process.stop()
    keyed.process.environ = {**keyed.process.environ, "RECEIVER_SECRET_KEYS": KEY}
    keyed.process.start()
    assert raw_post(keyed, old, done(target)) == raw_post(keyed, "/callbacks/revid/x", b"")
    assert keyed.task(target.task_id)["state"] == "running"
    assert raw_post(keyed, target.path, done(target)) == (200, b'{"outcome": "applied"}')
    assert TOKEN not in keyed.log()
