"""Bodies from hostile senders, on a live service: never a fault, each stored with its outcome, the loop never held.

What a body means is judged here by Python's own JSON, not by the service's reader.
"""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.behaviour.families import APIXO, GATEWAY, REVID, Family
from tests.torture.harness import Torture, corpus
from tests.torture.hostile.live import CALLING_BACK, Live, Target, healthy

URL = "https://cdn.example.com/out.mp4"
KEPT = 100
"""Deliveries that are kept of one task."""
SENDERS = 8


def json_suite() -> dict[str, bytes]:
    suite = corpus("JSONTestSuite")
    return {
        file.name: file.read_bytes() for part in ("test_parsing", "test_transform") for file in _files(suite / part)
    }


def _files(folder: Any) -> Any:
    return sorted(folder.glob("*.json"))


def judged(raw: bytes) -> Any:
    """Read JSON as a lenient reader would; raises `ValueError`."""
    return json.loads(raw.decode("utf-8-sig"))


def as_text(raw: bytes) -> str:
    """Give what a provider would put inside a text: whatever is not UTF-8 is replaced."""
    return raw.decode("utf-8", "replace")


class Sent:
    """Callbacks that were sent, spread over as many tasks as it takes to keep each."""

    def __init__(self, serving: Live, families: tuple[str, ...]) -> None:
        self._serving = serving
        self._families = families
        self._sent: dict[Target, Counter[tuple[str, str]]] = {}
        self._open: dict[str, Target] = {}

    def place(self, number: int) -> Target:
        """Choose the task of the next callback."""
        family = self._families[number % len(self._families)]
        target = self._open.get(family)
        if target is None or self._sent[target].total() >= KEPT:
            target = self._open[family] = self._serving.target(family)
            self._sent[target] = Counter()
        self._sent[target]["", ""] += 1  # a place is taken before the answer is there
        return target

    def note(self, target: Target, outcome: str, body: bytes) -> None:
        self._sent[target]["", ""] -= 1
        self._sent[target][outcome, body.decode("utf-8", "replace")[:500]] += 1

    def targets(self) -> list[Target]:
        return list(self._sent)

    def require_stored(self) -> None:
        """Find each of them in the history of its task, with its outcome."""
        for target, sent in self._sent.items():
            found = self._serving.deliveries(target.task_id)
            assert Counter((each["outcome"], each["body"][:500]) for each in found) == +sent


def send_all(serving: Live, sent: Sent, bodies: dict[str, Any]) -> dict[str, str]:
    """Send callbacks, several at once; returns their outcomes by name. `bodies` makes one for a task."""
    places = {name: sent.place(number) for number, name in enumerate(bodies)}

    def send(name: str) -> str:
        body = bodies[name](places[name])
        answer = serving.deliver(places[name].path, body)
        assert answer.status_code == 200, f"{name}: {answer.status_code} {answer.text}"
        outcome = str(answer.json()["outcome"])
        sent.note(places[name], outcome, body)
        return outcome

    with ThreadPoolExecutor(SENDERS) as threads:
        return dict(zip(bodies, threads.map(send, bodies), strict=True))


@pytest.mark.row("D1")
def test_the_json_test_suite_as_the_body_is_stored_and_what_is_no_json_object_is_unreadable(
    serving: Live, torture: Torture
) -> None:
    suite = json_suite()
    rounds = CALLING_BACK if torture.full else CALLING_BACK[:1]
    outcomes: Counter[str] = Counter()
    for first in range(len(rounds)):
        families = CALLING_BACK[first:] + CALLING_BACK[:first]
        sent = Sent(serving, families)
        with healthy(serving, torture):
            found = send_all(serving, sent, {name: lambda _, raw=raw: raw for name, raw in suite.items()})
        for name, outcome in found.items():
            if name.startswith("n_"):
                assert outcome == "unreadable", name
            elif name.startswith("y_"):
                read = isinstance(judged(suite[name]), dict)
                assert outcome in (("confirming", "unmatched") if read else ("unreadable",)), name
        sent.require_stored()
        outcomes.update(found.values())
    torture.figures(bodies=outcomes.total(), **outcomes)


@pytest.mark.row("D1")
def test_the_json_test_suite_to_the_account_is_answered_200(serving: Live, torture: Torture) -> None:
    url = serving.target("rivya").path
    suite = json_suite()
    with ThreadPoolExecutor(SENDERS) as threads:
        answers = list(threads.map(lambda raw: serving.deliver(url, raw), suite.values()))
    assert {answer.status_code for answer in answers} == {200}
    found = dict(zip(suite, (answer.json()["outcome"] for answer in answers), strict=True))
    assert {outcome for name, outcome in found.items() if name.startswith("n_")} == {"unreadable"}
    assert set(found.values()) <= {"unreadable", "unmatched"}
    torture.figures(bodies_to_the_account=len(found))


FAMILIES: dict[str, Family] = {"apixo": APIXO, "revid": REVID, "gateway": GATEWAY}


def with_param(target: Target, text: str) -> bytes:
    """A good result beside a `param`, where this family has one: in the record."""
    body: Any = json.loads(json.dumps(FAMILIES[target.family].done(target.remote_id, URL)))
    (body if target.family == "gateway" else body["data"])["param"] = text
    return json.dumps(body).encode()


def with_result(target: Target, text: str) -> bytes:
    """A success whose result is this text."""
    body: Any = json.loads(json.dumps(FAMILIES[target.family].done(target.remote_id)))
    body["data"]["resultJson"] = text
    return json.dumps(body).encode()


@pytest.mark.row("D1")
def test_the_json_test_suite_as_param_never_spoils_a_good_result(serving: Live, torture: Torture) -> None:
    suite, sent = json_suite(), Sent(serving, tuple(FAMILIES))
    with healthy(serving, torture):
        found = send_all(
            serving,
            sent,
            {name: lambda target, raw=raw: with_param(target, as_text(raw)) for name, raw in suite.items()},
        )
    outcomes = Counter(found.values())
    assert set(outcomes) == {"applied", "repeated"}, "each was read as the same success"
    sent.require_stored()
    for target in sent.targets():
        task = serving.task(target.task_id)
        assert (task["state"], [output["url"] for output in task["outputs"]], task["notices"]) == (
            "succeeded",
            [URL],
            [],
        )
    torture.figures(params=len(found))


def result_in(text: str) -> list[str] | None:
    """The URLs that a resultJson names, read leniently; None where it is broken, empty or has none."""
    try:
        value = json.loads(text)
        value = json.loads(value) if isinstance(value, str) and value.strip() else value
    except (ValueError, RecursionError):
        return None
    listed = value.get("resultUrls") if isinstance(value, dict) else value
    found = [each for each in listed if isinstance(each, str) and each.strip()] if isinstance(listed, list) else []
    return found or None


@pytest.mark.row("D1")
def test_the_json_test_suite_as_result_json_settles_nothing_but_with_a_result(serving: Live, torture: Torture) -> None:
    """A success that brings nothing, or something broken, is asked about."""
    texts = {name: as_text(raw) for name, raw in json_suite().items()}
    empty = {name: text for name, text in texts.items() if result_in(text) is None}
    sent = Sent(serving, ("apixo", "revid"))
    with healthy(serving, torture):
        found = send_all(
            serving, sent, {name: lambda it, text=text: with_result(it, text) for name, text in empty.items()}
        )
    assert set(found.values()) == {"confirming"}
    sent.require_stored()
    for target in sent.targets():
        assert serving.task(target.task_id)["state"] in ("submitted", "running")
    brings = {name: text for name, text in texts.items() if name not in empty and not name.startswith("n_")}
    for name, text in list(brings.items())[: torture.size(12, len(brings))]:
        target = serving.target("revid")
        outcome = serving.deliver(target.path, with_result(target, text)).json()["outcome"]
        assert outcome in (("applied",) if name.startswith("y_") else ("applied", "confirming")), name
    torture.figures(results=len(found), results_with_urls=len(brings))


@pytest.mark.row("D1")
def test_the_json_test_suite_as_an_order_is_refused_and_buys_nothing(serving: Live, torture: Torture) -> None:
    suite = json_suite()
    with healthy(serving, torture), ThreadPoolExecutor(SENDERS) as threads:
        answers = list(threads.map(lambda raw: serving.client.post("/api/tasks", content=raw), suite.values()))
    found = dict(zip(suite, (answer.status_code for answer in answers), strict=True))
    assert {status for name, status in found.items() if name.startswith("n_")} == {400}
    assert set(found.values()) == {400, 422}
    assert all(answer.headers["content-type"] == "application/problem+json" for answer in answers)
    torture.figures(orders=len(found))
