"""JSON of every hostile shape within the size that is taken: each has its outcome, and none holds the loop."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.behaviour.families import APIXO, REVID
from tests.measuring import processor_seconds
from tests.torture.harness import Torture
from tests.torture.hostile.live import CALLING_BACK, MEGABYTE, TOKEN, Live, healthy

LOOP_SECONDS = 0.1
"""On a quick machine no thread of the service computes for longer over a body, so nothing can hold the loop longer."""
URL = "https://cdn.example.com/out.mp4"
UNREADABLE, ASKED = "unreadable", "confirming"


def filled(unit: str, before: str = '{"a":[', after: str = "0]}") -> bytes:
    """Repeat something as often as the largest body holds it."""
    return (before + unit * ((MEGABYTE - len(before) - len(after)) // len(unit)) + after).encode()


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def record(**data: Any) -> str:
    return json.dumps({"code": 200, "data": {"state": "success", **data}})


SHAPES: dict[str, tuple[bytes, str]] = {
    "100,000 deep": (nested(100_000), UNREADABLE),
    "a megabyte deep": (b"[" * MEGABYTE, UNREADABLE),
    "a megabyte of objects in objects": (filled('{"a":', "", ""), UNREADABLE),
    "5,000 digits": (b'{"a":' + b"9" * 5000 + b"}", UNREADABLE),
    "a million digits": (b'{"a":' + b"9" * 1_000_000 + b"}", UNREADABLE),
    "a million digits after the point": (b'{"a":0.' + b"9" * 1_000_000 + b"}", ASKED),
    "1e400": (b'{"a":1e400}', UNREADABLE),
    "NaN": (b'{"a":NaN}', UNREADABLE),
    "Infinity": (b'{"a":-Infinity}', UNREADABLE),
    "a key twice": (b'{"state":"success","state":null}', ASKED),
    "lone surrogates": (b'{"failMsg":"\\ud800 \\udfff"}', ASKED),
    "NUL": (b'{"failMsg":"a\\u0000b"}', ASKED),
    "a NUL outside of any text": (b'{"a":1}\x00', UNREADABLE),
    "900 KB of text": (b'{"a":"' + b"x" * 900_000 + b'"}', ASKED),
    "UTF-16": ('{"a":1}'.encode("utf-16"), UNREADABLE),
    "UTF-32": ('{"a":1}'.encode("utf-32"), UNREADABLE),
    "a byte-order mark": (b'\xef\xbb\xbf{"a":1}', ASKED),
    "trailing junk": (b'{"a":1}{"a":2}', UNREADABLE),
    "invalid UTF-8": (b'{"a":"\xff"}', UNREADABLE),
    "a surrogate in UTF-8": (b'{"a":"\xed\xa0\x80"}', UNREADABLE),
    "nothing": (b"", UNREADABLE),
    "a megabyte of blanks": (b" " * MEGABYTE, UNREADABLE),
    "small arrays": (filled("[],"), UNREADABLE),
    "small objects": (filled("{},"), UNREADABLE),
    "objects with a key": (filled('{"":0},'), UNREADABLE),
    "small numbers": (filled("1,"), UNREADABLE),
    "numbers with an exponent": (filled("1e1,"), UNREADABLE),
    "numbers of 400 digits": (filled("9" * 400 + ","), ASKED),
    "empty texts": (filled('"",'), UNREADABLE),
    "many keys": (("{" + ",".join(f'"{n}":0' for n in range(90_000)) + "}").encode(), UNREADABLE),
    "as many arrays as are taken": (b'{"a":[' + b"[]," * 4_990 + b"0]}", ASKED),
    "as many numbers as are taken": (b'{"a":[' + b"1," * 9_990 + b"0]}", ASKED),
    "as many keys as are taken": (("{" + ",".join(f'"k{n}":0' for n in range(9_990)) + "}").encode(), ASKED),
    "escapes": (filled("\\n", '{"a":"', '"}'), ASKED),
    "escaped letters": (filled("\\u0041", '{"a":"', '"}'), ASKED),
    "a failure in lone surrogates": (filled("\\ud800", '{"state":"fail","failMsg":"', '"}'), ""),
    "a text without an end": (filled('\\"', '{"a":"', ""), UNREADABLE),
    "a result deep inside": (record(resultJson="[" * 1_000_000).encode(), ASKED),
    "a result of small arrays": (record(resultJson="[" + "[]," * 300_000 + "0]").encode(), ASKED),
    "a result with 9,000 files": (
        record(resultJson=json.dumps({"resultUrls": [f"https://a.b/{n}" for n in range(9_000)]})).encode(),
        ASKED,
    ),
    "a result inside texts inside texts": (record(resultJson=json.dumps(json.dumps("[" * 400_000))).encode(), ASKED),
    "a huge result": (record(resultJson={"resultObject": "x" * 1_000_000}).encode(), ASKED),
    "a reason deep inside": (record(state="fail", failMsg='{"' + "[" * 1_000_000).encode(), ""),
    "files in a text": (json.dumps({"resultUrls": "[" + "a, " * 300_000, "taskId": "x"}).encode(), ""),
    "generations in lists in lists": (
        json.dumps({"a": [[{"id": "evt_", "status": 1, "model": 2}]] * 1_600}).encode(),
        ASKED,
    ),
}

MANY: dict[str, Any] = {f"name{n}": 1 for n in range(9_000)}
MEANT: dict[str, Any] = {"provider": "revid", "model": "sora-2-text-to-video"}
ORDERS = {
    "unknown parameters": (json.dumps({**MEANT, "input": {"prompt": "x", **MANY}}).encode(), ASKED),
    "unknown fields": (json.dumps({**MEANT, "input": {}, **MANY}).encode(), ASKED),
    "a parameter that is a list": (json.dumps({**MEANT, "input": {"prompt": ["x"] * 9_000}}).encode(), ASKED),
}


@pytest.mark.row("D2")
@pytest.mark.row("I10")
def test_every_shape_has_its_outcome_and_none_holds_the_loop(serving: Live, torture: Torture) -> None:
    """Measured in what all threads computed, which is no matter of what else runs on this machine."""
    costs: dict[str, float] = {}
    with healthy(serving, torture):
        for family in CALLING_BACK if torture.full else ("revid",):
            target = serving.target(family)
            for name, (body, outcome) in SHAPES.items():
                found, costs[name] = cost(serving, partial(serving.deliver, target.path, body))
                assert found.status_code == 200, name
                told = found.json()["outcome"]
                assert told == outcome or not outcome or family == "kie", f"{name}: {told}"
            assert serving.task(target.task_id)["deliveries"] == len(SHAPES)
    torture.figures(shapes=len(costs), dearest=max(costs, key=costs.__getitem__), cpu_ms=max(costs.values()) * 1000)
    assert_short(costs)


@pytest.mark.row("D2")
def test_every_shape_is_refused_or_taken_by_the_api_and_at_the_account_without_holding_the_loop(
    serving: Live, torture: Torture
) -> None:
    account, costs = serving.target("rivya").path, {}
    with healthy(serving, torture):
        for name, (body, outcome) in (SHAPES | ORDERS).items():
            found, costs[name] = cost(serving, partial(serving.deliver, account, body))
            assert found.status_code == 200, name
            found, spent = cost(serving, partial(serving.client.post, "/api/tasks", content=body))
            assert found.status_code == (400 if outcome == UNREADABLE else 422), name
            costs[name] = max(costs[name], spent)
    torture.figures(dearest_order=max(costs, key=costs.__getitem__), cpu_ms=max(costs.values()) * 1000)
    assert_short(costs)


def assert_short(costs: dict[str, float]) -> None:
    """Hold what was computed for each body to its limit."""
    limit = processor_seconds(LOOP_SECONDS)
    assert max(costs.values()) <= limit, {name: it for name, it in costs.items() if it > limit}


def cost(serving: Live, act: Callable[[], Any]) -> tuple[Any, float]:
    """Do something; returns what came of it, and the seconds that the service computed for it, the follow-up too."""
    before = serving.cpu()
    found = act()
    return found, serving.cpu() - before


@pytest.mark.row("D2")
def test_a_final_success_of_the_largest_kind_settles_and_is_shown_without_holding_the_loop(
    serving: Live, torture: Torture
) -> None:
    urls = [f"https://cdn.example.com/{n}.mp4" for n in range(9_000)]
    for family in (APIXO, REVID):
        target = serving.target(family.name)
        body = json.dumps(family.done(target.remote_id, *urls)).encode()
        answer, seconds = cost(serving, partial(serving.deliver, target.path, body))
        assert answer.json() == {"outcome": "applied"}
        assert_short({family.name: seconds})
        task = serving.task(target.task_id)
        assert [output["url"] for output in task["outputs"]] == urls[:100]
    torture.figures(cpu_ms_of_a_large_success=seconds * 1000)


@pytest.mark.row("D2")
def test_the_history_of_a_hundred_large_callbacks_is_shown_in_little_memory_and_beside_the_loop(
    serving: Live, torture: Torture
) -> None:
    target = serving.target("revid")
    bodies = {
        "letters": b"a" * MEGABYTE,
        "control characters": b"\x01" * MEGABYTE,
        "no UTF-8": b"\xff" * MEGABYTE,
        "addresses": b"callbacks/a" * (MEGABYTE // 11),
    }
    for number in range(100):
        serving.deliver(target.path, list(bodies.values())[number % len(bodies)])
    session = logged_in(serving)
    before = serving.loop_cpu()
    with healthy(serving, torture):
        found = serving.deliveries(target.task_id)
        page = serving.client.get(f"/tasks/{target.task_id}", headers={"Cookie": session})
    spent = serving.loop_cpu() - before
    torture.figures(loop_ms_of_history_and_page=spent * 1000)
    assert_short({"the history": spent / 2, "the page": spent / 2})
    assert len(found) == 100
    assert all(event["truncated"] for event in found)
    assert page.status_code == 200
    assert page.text.count("Truncated: the rest is not shown.") == 100


def logged_in(serving: Live) -> str:
    """Log in to the pages; returns the cookie."""
    answer = serving.client.post("/login", data={"password": TOKEN, "next": "/"})
    assert answer.status_code == 303, answer.text
    serving.client.cookies.clear()
    return answer.headers["set-cookie"].partition(";")[0]
