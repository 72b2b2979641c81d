"""Secrets are compared in constant time: by `hmac.compare_digest`, and at full size as a measurement.

`==`, `in` and their kin stop at the first byte that differs, and tell a guesser how far they came.
"""

import base64
import gc
import hashlib
import hmac
import math
import random
import statistics
import string
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from receiver.config.settings import Settings
from receiver.core.errors import Forged
from receiver.core.ids import new_id
from receiver.core.links import Links
from receiver.core.signatures import require_signature, require_standard_webhook
from receiver.providers import CONFIG_TYPES
from receiver.services import Services
from receiver.web.access import match_token
from tests.torture.harness import Torture

KEY = b"k" * 32
BODY = b'{"id": "evt_1"}'
TASK = new_id(1_795_176_000_000)
LINKS = Links(["a-signing-key-of-many-bytes"], "https://hooks.example.com")
API_TOKEN = "a-token-of-our-own-" + "x" * 25
WELCH = 4.5
"""The |t| of test-vector leakage assessment: beyond it, two means differ with hardly any doubt."""


def callback_token(_services: Services, signature: str) -> bool:
    return LINKS.read_task_id("revid", f"{TASK}.{signature}") is not None


def api_token(services: Services, given: str) -> bool:
    return match_token(services, given) is not None


def kie(_services: Services, signature: str) -> bool:
    try:
        require_signature([signature], BODY, [KEY])
    except Forged:
        return False
    return True


def rivya(_services: Services, signature: str) -> bool:
    headers = {"webhook-id": "m", "webhook-timestamp": "1795176000", "webhook-signature": f"v1,{signature}"}
    try:
        require_standard_webhook(headers, BODY, [KEY], 1_795_176_000_000)
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


@pytest.fixture
def services(tmp_path: Path) -> Services:
    (tmp_path / "sandbox.db").touch()
    environ = {"RECEIVER_API_TOKENS": API_TOKEN, "RECEIVER_DATA_DIR": str(tmp_path)}
    return Services.open(Settings.load(environ, CONFIG_TYPES))


@pytest.mark.row("C7")
@pytest.mark.parametrize("name", VERIFIERS)
def test_what_is_given_is_only_compared_by_compare_digest(
    name: str, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify, good = partial(VERIFIERS[name][0], services), VERIFIERS[name][1]
    monkeypatch.setattr(hmac, "compare_digest", lambda *_: True)
    assert verify(others(good, 0)[0]), "nothing else compares it"
    monkeypatch.setattr(hmac, "compare_digest", lambda *_: False)
    assert not verify(good), "and nothing else lets it in"


@pytest.mark.row("C7")
@pytest.mark.parametrize("name", VERIFIERS)
def test_a_wrong_first_byte_takes_as_long_as_a_wrong_last_one(name: str, torture: Torture, services: Services) -> None:
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
