"""Secrets are compared in constant time: a rule over the source, and at full size a measurement.

`hmac.compare_digest` and itsdangerous compare; `==`, `in` and their kin stop at the first byte that differs, and tell a
guesser how far he came.
"""

import ast
import base64
import gc
import hashlib
import hmac
import math
import random
import re
import statistics
import string
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from receiver.errors import Forged
from receiver.ids import new_id
from receiver.links import Links
from receiver.providers import CONFIG_TYPES
from receiver.services import Services
from receiver.settings import Settings
from receiver.signatures import require_signature, require_standard
from receiver.web.access import token_of
from tests.torture.harness import Torture

PACKAGE = Path(__file__).parent.parent / "receiver"
SECRET = re.compile(
    r"token|secret|signature|signed|password|digest|hmac|csrf|cookie|session|authori[sz]ation|(^|[_-])keys?$",
    re.IGNORECASE,
)
JUDGES = frozenset({"signatures.py", "links.py", "web/access.py", "web/page_login.py", "web/sessions.py"})
"""Where it is decided whether somebody knows a secret: no two values are compared there, whatever their names."""
STOPS_EARLY = frozenset({"startswith", "endswith", "find", "index", "count", "removeprefix", "removesuffix", "__eq__"})

ALLOWED = {
    ("inbox.py", "evidence.signature == 'id'"): "names the kind of signature",
    ("links.py", "self._account_signer().unsign(token) == account.encode()"): "signed, and then names an account",
    ("strays.py", "key not in given"): "names a variable",
    ("roundtrip.py", "answer.digest != hashlib.sha256(question.body).hexdigest()"): "of a body that both sides know",
    ("signatures.py", "secret.startswith(SCHEME)"): "reads a setting; how it begins is documented",
    ("store/condition.py", "session.get_bind().dialect.name == 'sqlite'"): "a session of the database",
    ("store/ended_sessions.py", "ENDED.c.digest == bindparam('same')"): "what the cookie says was signed by us",
    ("store/reading.py", "session.get_bind().dialect.name == 'sqlite'"): "a session of the database",
    ("store/reading.py", "Task.idempotency_key == key"): "the caller's own, and he is let in before",
    ("store/tasks.py", "TASK.c.idempotency_key == bindparam('key')"): "the caller's own, and he is let in before",
    ("store/transaction.py", "name not in key[1]"): "names of columns",
    ("submission.py", "digest != order.digest"): "of an order that the caller, let in before, sent himself",
    ("web/access.py", "request.method in SAFE"): "a method",
    ("web/access.py", "services.links.read('form', token, sessions.SECONDS) == session.id"): "both signed by us",
    ("web/sessions.py", "host.removesuffix(':443') == public.netloc.lower().removesuffix(':443')"): "names of hosts",
}
"""Every comparison that the rule finds and that compares no secret, with the reason."""


def suspicious(source: str, module: str) -> Iterator[str]:
    """Find every comparison of a module that may stop early on a secret."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Compare(left=left, ops=ops, comparators=others):
                operands = [left, *others]
                equal = any(isinstance(each, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for each in ops)
                values = not any(isinstance(each, ast.Constant) for each in operands)
                if equal and (any(map(is_secret, operands)) or (module in JUDGES and values)):
                    yield ast.unparse(node)
            case ast.Call(func=ast.Attribute(attr=name, value=whose), args=arguments) if name in STOPS_EARLY:
                if any(map(is_secret, [whose, *(each for each in arguments if not isinstance(each, ast.Constant))])):
                    yield ast.unparse(node)
            case ast.Match(subject=subject) if is_secret(subject):
                yield f"match {ast.unparse(subject)}"


def is_secret(operand: ast.expr) -> bool:
    """Tell by the names in an expression whether its value may be a secret; a text or a length is none."""
    if isinstance(operand, ast.Constant | ast.JoinedStr):
        return False
    if isinstance(operand, ast.Call) and ast.unparse(operand.func) in ("len", "type", "isinstance"):
        return False
    return any(SECRET.search(name) for name in names(operand))


def names(operand: ast.expr) -> Iterator[str]:
    for node in ast.walk(operand):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Constant(value=str(name)):
                yield name


def found() -> list[tuple[str, str]]:
    modules = ((str(path.relative_to(PACKAGE)), path.read_text()) for path in sorted(PACKAGE.rglob("*.py")))
    # The sandbox plays the provider, and takes any key.
    return [(module, it) for module, text in modules if "sandbox/" not in module for it in suspicious(text, module)]


@pytest.mark.row("C7")
def test_no_secret_is_compared_with_what_stops_at_the_first_difference() -> None:
    assert sorted(set(found()) - ALLOWED.keys()) == []


def test_what_the_rule_allows_is_still_there() -> None:
    assert sorted(ALLOWED.keys() - set(found())) == []


@pytest.mark.parametrize(
    ("line", "module"),
    [
        ("token == settings.api_token", "x.py"),
        ("given in services.settings.api_tokens", "x.py"),
        ("callback.headers.get('x-webhook-signature') != expected", "x.py"),
        ("expected == hmac.new(key, body, 'sha256').hexdigest()", "x.py"),
        ("config.api_key.get_secret_value() == given", "x.py"),
        ("given.startswith(secret)", "x.py"),
        ("request.cookies[COOKIE] == other", "x.py"),
        ("candidate == one", "signatures.py"),
        ("[candidate == one for one in expected]", "web/access.py"),
        ("match token:\n  case 'x': pass", "x.py"),
    ],
)
def test_the_rule_sees(line: str, module: str) -> None:
    assert list(suspicious(line, module))


@pytest.mark.parametrize("line", ["hmac.compare_digest(a, token)", "len(token) == 3", "name == 'v1'", "a == b"])
def test_the_rule_lets_pass(line: str) -> None:
    assert not list(suspicious(line, "x.py"))


@pytest.mark.row("C7")
@pytest.mark.parametrize("module", ["signatures.py", "web/access.py"])
def test_who_judges_compares_with_compare_digest(module: str) -> None:
    calls = [node for node in ast.walk(ast.parse((PACKAGE / module).read_text())) if isinstance(node, ast.Call)]
    assert any(ast.unparse(call.func) == "hmac.compare_digest" for call in calls)


# --- measured

KEY = b"k" * 32
BODY = b'{"id": "evt_1"}'
TASK = new_id(1_795_176_000_000)
LINKS = Links(["a-signing-key-of-many-bytes"], "https://hooks.example.com")
API_TOKEN = "a-token-of-our-own-" + "x" * 25
WELCH = 4.5
"""The |t| of test-vector leakage assessment: beyond it, two means differ with hardly any doubt."""


def callback_token(_services: Services, signature: str) -> bool:
    return LINKS.task_of("revid", f"{TASK}.{signature}") is not None


def api_token(services: Services, given: str) -> bool:
    return token_of(services, given) is not None


def kie(_services: Services, signature: str) -> bool:
    try:
        require_signature([signature], BODY, [KEY])
    except Forged:
        return False
    return True


def rivya(_services: Services, signature: str) -> bool:
    headers = {"webhook-id": "m", "webhook-timestamp": "1795176000", "webhook-signature": f"v1,{signature}"}
    try:
        require_standard(headers, BODY, [KEY], 1_795_176_000_000)
    except Forged:
        return False
    return True


def right(signed: bytes) -> str:
    return base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()


VERIFIERS: dict[str, tuple[Callable[[Services, str], bool], str]] = {
    "callback token": (callback_token, (LINKS.callback_url("revid", TASK) or "").rpartition(".")[2]),
    "api token": (api_token, API_TOKEN),
    "kie": (kie, right(BODY)),
    "rivya": (rivya, right(b"m.1795176000." + BODY)),
}


@pytest.mark.row("C7")
@pytest.mark.parametrize("name", VERIFIERS)
def test_a_wrong_first_byte_takes_as_long_as_a_wrong_last_one(name: str, torture: Torture, tmp_path: Path) -> None:
    (tmp_path / "sandbox.db").touch()
    environ = {"RECEIVER_API_TOKENS": API_TOKEN, "RECEIVER_DATA_DIR": str(tmp_path)}
    services = Services.open(Settings.load(environ, CONFIG_TYPES))
    verify, good = partial(VERIFIERS[name][0], services), VERIFIERS[name][1]
    assert verify(good)
    # Base64 has spare bits in its last character: the last one that is all signature is changed.
    wrong = [others(good, 0), others(good, 40)]
    assert not any(map(verify, wrong[0] + wrong[1]))
    chance = torture.random
    runs = [timed(verify, wrong, torture.size(300, 50_000), chance) for _ in range(2)]
    told = [welch(*run) for run in runs]
    torture.figures(**{f"welch_t_{name.replace(' ', '_')}": " ".join(f"{t:.1f}" for t in told)})
    # A small sample on a busy machine says nothing, and a leak is there in both runs, the same way round.
    assert not torture.full or not (min(told) > WELCH or max(told) < -WELCH), told


def others(text: str, at: int) -> list[str]:
    """Change one character to each of many others: how a single text happens to be read must not count."""
    return [text[:at] + each + text[at + 1 :] for each in string.ascii_letters + string.digits if each != text[at]]


def timed(
    verify: Callable[[str], bool], wrong: list[list[str]], times: int, chance: random.Random
) -> tuple[list[int], list[int]]:
    """Time both, in an order that chance decides; the slowest tenth is what else the machine did."""
    taken: tuple[list[int], list[int]] = ([], [])
    gc.disable()
    try:
        for which in (each for _ in range(times) for each in chance.sample((0, 1), 2)):
            text = "".join(list(chance.choice(wrong[which])))  # anew: where a text lies in memory counts, too
            began = time.perf_counter_ns()
            verify(text)
            ended = time.perf_counter_ns()
            taken[which].append(ended - began)
    finally:
        gc.enable()
    limit = sorted(taken[0] + taken[1])[round(1.8 * times)]
    return [each for each in taken[0] if each <= limit], [each for each in taken[1] if each <= limit]


def welch(one: list[int], two: list[int]) -> float:
    spread = statistics.variance(one) / len(one) + statistics.variance(two) / len(two)
    return (statistics.fmean(one) - statistics.fmean(two)) / math.sqrt(spread)
