"""`receiver tail` follows changes beside a service, and `receiver attention` lists what a person should look at."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.measuring import HANG, wait_for

from .rig import QUICK, Home, serving

MUTE = "[sandbox: submit=mute callback=drop status=fail]"


def ordered(home: Home, prompt: str) -> Any:
    body = {"provider": "revid", "model": "sora-2-text-to-video", "input": {"prompt": prompt}}
    with home.client() as client:
        return client.post("/api/tasks", json=body).json()


def lines(home: Home, *words: str, number: int) -> list[dict[str, Any]]:
    """Follow changes until there were so many, then interrupt; nothing else may be said."""
    process = home.start("tail", "--json", *words)
    assert process.stdout is not None
    found = [json.loads(process.stdout.readline()) for _ in range(number)]
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=HANG)
    assert (process.returncode, err) == (0, ""), rest
    return found


def test_each_change_is_a_line_and_a_later_run_goes_on_after_any(home: Home) -> None:
    first = ordered(home, "a first one [sandbox: after=0.1]")
    (change,) = lines(home, "--since", "0", number=1)
    assert set(change) == {"number", "task"}
    second = ordered(home, "a second one [sandbox: after=0.1]")
    settled = {first["id"], second["id"]}
    with home.client() as client:
        for task_id in settled:
            assert client.get(f"/api/tasks/{task_id}", params={"wait": 20}).json()["state"] == "succeeded"
    (last,) = lines(home, "--since", str(change["number"]), number=1)
    assert change["number"] < last["number"]
    assert last["task"]["id"] in settled
    assert home.call("tail", "--since", "x").code == 2


def test_it_ends_when_nobody_reads_it_any_more(home: Home) -> None:
    ordered(home, "read by nobody [sandbox: after=0.1]")
    process = home.start("tail", "--since", "0")
    assert process.stdout is not None
    assert len(process.stdout.readline().split("\t")) == 6
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=HANG)
    assert (process.returncode in (0, 1), err) == (True, "")


@pytest.fixture
def quiet(tmp_path: Path) -> Home:
    """A home whose orders get no answer in time."""
    return Home(tmp_path, {**QUICK, "RECEIVER_TIMEOUT": "0.5", "RECEIVER_POLLER": "off"})


def test_what_needs_attention_is_listed_until_it_is_acknowledged(quiet: Home) -> None:
    with serving(quiet):
        ids = [ordered(quiet, f"{n} {MUTE}")["id"] for n in range(2)]
        with quiet.client() as client:
            wait_for(lambda: {client.get(f"/api/tasks/{each}").json()["state"] for each in ids} == {"unconfirmed"})
    listed = quiet.call("attention", "--json")
    assert (listed.code, listed.document["counts"]) == (1, {"unconfirmed": 2})
    assert {item["task"]["id"] for item in listed.document["items"]} == set(ids)
    table = quiet.call("attention")
    assert all(words in table.out for words in (*ids, "unconfirmed", "adopt it by the id"))
    some = quiet.call("attention", "--acknowledge", ids[0], "tsk_nobody")
    assert (some.code, "tsk_nobody" in some.err, ids[0] in some.out) == (1, True, True)
    assert quiet.call("attention", "--acknowledge", ids[1]).code == 0
    nothing = quiet.call("attention")
    assert (nothing.code, nothing.out.strip()) == (0, "Nothing needs attention.")
    for wrong in (["attention", "--acknowledge"], ["attention", ids[0]]):
        assert quiet.call(*wrong).code == 2

    dear = quiet.call("retry", *ids, "--max-credits", "1")
    assert (dear.code, dear.out, "100 credits" in dear.err) == (1, "", True)
    several = quiet.call("cancel", *ids, ids[0])
    assert (several.code, several.err.count("only a queued one")) == (1, 2)
