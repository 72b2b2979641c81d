"""Odd values in every field: of the providers' recorded callbacks, and of what is given to the API and handed on."""

import copy
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.behaviour.families import REVID
from tests.measuring import HANG
from tests.providers.recordings import Recording, recorded
from tests.system.postgres import binaries, server
from tests.torture.harness import Torture, corpus
from tests.torture.hostile.live import CALLING_BACK, MODELS, Live, Target, healthy, live

REPLACEMENTS: list[Any] = [None, True, False, 7, -(2**63) - 1, 1.5, 1e308, "x", "", [], [1], {}, {"a": 1}]
SENDERS = 8
URL = "https://cdn.example.com/out.mp4"

Path_ = tuple[str | int, ...]


def places(value: Any, at: Path_ = ()) -> Iterator[Path_]:
    """Every place in a JSON value, its own first."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*at, key))


def replaced(value: Any, at: Path_, by: Any) -> Any:
    if not at:
        return by
    made = copy.deepcopy(value)
    inner = made
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = by
    return made


def callbacks() -> list[tuple[Recording, Any]]:
    """The recorded callbacks of the families that call back, and what their bodies hold."""
    every = (each for family in CALLING_BACK for each in recorded(family) if each.direction == "callback")
    return [(each, json.loads(each.body.decode("utf-8-sig"))) for each in every if "raises" not in each.meaning]


NO_REASON = ("null", "none", "ok", "success")
"""What providers write where there is no reason."""


@pytest.mark.row("D3")
def test_any_value_in_any_field_of_a_callback_settles_nothing_that_it_did_not_settle(
    serving: Live, torture: Torture
) -> None:
    """No replacement is a word for a state, so the only final state is that of the callback as it was recorded."""
    every = [(it, body, at, by) for it, body in callbacks() for at in places(body) for by in REPLACEMENTS]
    chosen = torture.random.sample(every, min(torture.size(300, len(every)), len(every)))

    def send(one: tuple[Recording, Any, Path_, Any]) -> tuple[str, str]:
        recording, body, at, by = one
        target = serving.target(recording.folder)
        text = json.dumps(replaced(body, at, by))
        known = recording.meaning.get("event", {}).get("remote_id")
        if known:
            text = text.replace(str(known), target.remote_id)
        answer = serving.deliver(target.path, text.encode())
        assert answer.status_code == 200, text
        state = serving.task(target.task_id)["state"]
        meant = recording.state if recording.folder != "kie" else "submitted"  # whose callbacks are confirmed first
        assert state in ("submitted", "running", meant), f"{recording.folder}/{recording.name} {at} {by!r}: {state}"
        return str(answer.json()["outcome"]), state

    with healthy(serving, torture), ThreadPoolExecutor(SENDERS) as threads:
        found = list(threads.map(send, chosen))
    assert len({outcome for outcome, _ in found}) >= 4, "they are not all taken for the same"
    torture.figures(fields=len(every), sent=len(found), **Counter(state for _, state in found))


# --- naughty strings


def naughty() -> list[str]:
    found: list[str] = json.loads((corpus("big-list-of-naughty-strings") / "blns.json").read_text("utf-8"))
    return found


def clean(text: str) -> str:
    """What is kept of a provider's words: without blanks around them, and without what databases refuse."""
    return text.replace("\0", "\ufffd").strip()[:2000]


@pytest.mark.row("D4")
def test_naughty_strings_in_an_order_are_kept_and_handed_on_as_they_are(serving: Live, torture: Torture) -> None:
    texts = naughty()
    chosen = texts if torture.full else torture.random.sample(texts, 60)

    def order(number: int, text: str) -> tuple[str, dict[str, Any]]:
        key = {"Idempotency-Key": f"{number} {text}"[:255].strip()} if text.isascii() and text.isprintable() else {}
        body = {
            "provider": "gateway",
            "model": text.strip()[:200] or "sora-2",
            "input": {"prompt": f"{text} [sandbox: after=3600 callback=drop]", "extra": {text: [text]}},
            "metadata": {"text": text, f"key {text}": 1},
            "validate": False,
        }
        answer = serving.client.post("/api/tasks", json=body, headers=key)
        assert answer.status_code == 201, f"{text!r}: {answer.text}"
        if key:
            again = serving.client.post("/api/tasks", json=body, headers=key)
            assert (again.status_code, again.json()["id"]) == (200, answer.json()["id"])
        task = serving.task(answer.json()["id"])
        assert {name: task[name] for name in ("model", "input", "metadata")} == {
            name: body[name] for name in ("model", "input", "metadata")
        }
        assert task["state"] == "submitted", task
        return task["remote_id"], body

    with ThreadPoolExecutor(SENDERS) as threads:
        sent = dict(threads.map(order, range(len(chosen)), chosen))
    ledger = httpx.get(f"http://127.0.0.1:{serving.provider_port}/ledger", timeout=HANG, trust_env=False).json()[
        "purchases"
    ]
    bought = {purchase["id"]: purchase for purchase in ledger}
    for remote_id, body in sent.items():
        assert bought[remote_id]["prompt"] == body["input"]["prompt"]
        assert bought[remote_id]["model"] == body["model"]
    torture.figures(naughty_orders=len(sent))


@pytest.mark.row("D4")
def test_naughty_strings_in_a_callback_are_shown_as_they_came(serving: Live, torture: Torture) -> None:
    texts = naughty()
    chosen = texts if torture.full else torture.random.sample(texts, 60)

    def send(text: str) -> None:
        failing, done = serving.target("revid"), serving.target("revid")
        serving.deliver(failing.path, json.dumps(REVID.failed(failing.remote_id, "500", text)).encode())
        task = serving.task(failing.task_id)
        assert (task["state"], task["error"]["code"]) == ("failed", "500")
        if text.lower() in NO_REASON:
            assert task["error"]["message"] == "The provider gave no reason."
        elif not text.startswith("{"):
            assert task["error"]["message"] == (clean(text) or "The provider gave no reason.")
        body: Any = json.loads(json.dumps(REVID.done(done.remote_id, URL)))
        body["data"]["resultJson"] = {"resultUrls": [URL, text]}
        assert serving.deliver(done.path, json.dumps(body).encode()).json() == {"outcome": "applied"}
        first, *others = [output["url"] for output in serving.task(done.task_id)["outputs"]]
        assert first == URL
        assert all(other.startswith(("http://", "https://")) for other in others), "only addresses are results"
        assert serving.client.get(f"/api/tasks/{done.task_id}/history").status_code == 200

    with ThreadPoolExecutor(SENDERS) as threads:
        list(threads.map(send, chosen))
    torture.figures(naughty_callbacks=2 * len(chosen))


# --- numbers that are too large for a database


NUMBERS: dict[str, Any] = {
    "2^63": 2**63,
    "-2^63-1": -(2**63) - 1,
    "399 digits": 10**398,
    "1e308": 1e308,
    "-1e308": -1e308,
    "a text of 2^63": str(2**63),
    "12abc": "12abc",
    "a long text": "9" * 10_000,
    "a longer text": "x" * 150_000,
    "a text of NUL": "\0",
    "a list": [1],
}


def amounts(serving: Live, target: Target, number: Any) -> None:
    body: Any = json.loads(json.dumps(REVID.done(target.remote_id, URL)))
    for name in ("creditsConsumed", "completeTime", "createTime", "costTime", "progress"):
        body["data"][name] = number
    assert serving.deliver(target.path, json.dumps(body).encode()).json() == {"outcome": "applied"}
    charged = serving.task(target.task_id)["credits"]["charged"]
    assert charged is None or abs(charged) <= 1e12
    for family in CALLING_BACK:
        named = serving.target(family)
        for text in (json.dumps({"data": {"taskId": number, "state": "x"}}), json.dumps({"id": number, "status": "x"})):
            assert serving.deliver(named.path, text.encode()).status_code == 200
        assert serving.task(named.task_id)["remote_id"] == named.remote_id
    account = serving.target("rivya").path
    event = {"id": number, "status": "succeeded", "model": "x", "final_credits": number, "reserved_credits": number}
    assert serving.deliver(account, json.dumps(event).encode()).status_code == 200
    order = {
        "provider": "gateway",
        "model": MODELS["gateway"],
        "input": {"prompt": "x", "n": number},
        "metadata": {"n": number},
    }
    answer = serving.client.post("/api/tasks", json=order)
    assert answer.status_code in (201, 422)
    if answer.status_code == 201:
        assert answer.json()["metadata"] == {"n": number}


@pytest.mark.row("D5")
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_beyond_any_column_break_nothing(serving: Live, name: str) -> None:
    amounts(serving, serving.target("revid"), NUMBERS[name])


@pytest.mark.row("D5")
@pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed")
def test_numbers_beyond_any_column_break_nothing_on_postgresql(tmp_path: Path, torture: Torture) -> None:
    with server() as url, live(tmp_path, RECEIVER_DATABASE_URL=url) as serving:
        for number in NUMBERS.values() if torture.full else (2**63, 1e308, "\0"):
            amounts(serving, serving.target("revid"), number)
