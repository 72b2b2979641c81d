"""Commands beside a running sandbox service: what they do, their exit codes, and the shapes that scripts read."""

import contextlib
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import httpx

from receiver.core.links import Links
from receiver.store.engine import sqlite_module
from tests.behaviour.families import REVID as REVID_FAMILY
from tests.behaviour.families import RIVYA
from tests.measuring import HANG, wait_for

from .rig import Home, Ran

REVID = ("submit", "revid", "sora-2-text-to-video")
TASK_KEYS = {
    "id", "state", "provider", "model", "remote_id", "remote_state", "progress", "input", "validated", "metadata",
    "outputs", "result", "error", "credits", "settled_by", "evidence", "notices", "retry_of", "attempts", "checks",
    "deliveries", "sandbox", "created_at", "submitted_at", "finished_at", "updated_at", "next_check_at",
    "next_check_because",
}  # fmt: skip
TASK_ID = re.compile(r"tsk_[0-9a-z]{26}")


MEDIA = Path(__file__).parents[2] / "receiver" / "sandbox" / "media.mp4"


def order(knobs: str, *more: str, wait: bool = True) -> list[str]:
    return [*REVID, "--prompt", f"a boat [sandbox: {knobs}]", *(["--wait"] if wait else []), *more]


def test_a_task_is_submitted_and_waited_for_with_one_line_for_scripts(home: Home) -> None:
    good, bad, lost, many = home.run_all(
        [
            order("after=0.5"),
            order("after=0.2 result=fail"),
            order("after=0.2 callback=drop", "--json"),
            order("after=0.1", "--json", "--metadata", "a.b=x=y", "--metadata", "c=", "--set", "n_frames=15"),
        ]
    )
    task_id, state, result = good.out.rstrip("\n").split("\t")
    assert (good.code, state) == (0, "succeeded")
    assert TASK_ID.fullmatch(task_id)
    assert result.startswith(f"{home.url}/sandbox/media/")
    assert (bad.code, bad.out.split("\t")[1]) == (1, "failed"), "a task that did not succeed"
    assert (lost.code, lost.document["settled_by"]) == (0, "check"), "polled, since its callback was lost"
    assert set(many.document) == TASK_KEYS
    assert many.document["metadata"] == {"a.b": "x=y", "c": ""}
    assert many.document["input"] == {"n_frames": "15", "prompt": "a boat [sandbox: after=0.1]"}
    for ran in (good, bad, lost, many):
        assert ran.err == "", "quiet in a pipe"
        assert len(ran.out.splitlines()) == 1


def test_the_files_of_a_task_are_written_into_a_directory_and_named(home: Home, tmp_path: Path) -> None:
    task_id = home.call(*order("after=0.1")).task_id
    written = home.call("download", task_id, "--to", str(tmp_path))
    (name,) = written.out.splitlines()
    assert (written.code, Path(name)) == (0, tmp_path / f"{task_id}-0.mp4"), written.err
    assert Path(name).read_bytes() == MEDIA.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == [Path(name).name], "nothing beside it"
    failed = home.call(*order("after=0.1 result=fail")).out.split("\t")[0]
    missing = home.call("download", failed, "--json")
    assert (missing.code, missing.document) == (1, {"files": []})
    assert "has no files" in missing.err
    done = home.call("archive", "--missing", "--json")
    assert (done.code, done.document["failed"]) == (0, 0)


def test_the_running_service_is_found_whatever_its_port(home: Home) -> None:
    knows_no_port = Home(home.directory, {name: value for name, value in home.settings.items() if name != "PORT"})
    done = knows_no_port.call(*order("after=0.1"))
    assert (done.code, done.out.split("\t")[1]) == (0, "succeeded"), done.err


def test_an_order_under_a_key_buys_once(home: Home) -> None:
    again = order("after=0.1", "--key", "my key #1", wait=False)
    before = len(purchases(home))
    first, second = home.run_all([again, again])
    assert (first.code, second.code) == (0, 0)
    assert first.task_id == second.task_id
    assert len(purchases(home)) == before + 1
    third = home.call(*REVID, "--prompt", "another", "--key", "my key #1")
    assert (third.code, third.out) == (1, "")
    assert "another order" in third.err


def purchases(home: Home) -> list[dict[str, Any]]:
    with home.client() as client:
        found: list[dict[str, Any]] = client.get("/sandbox/ledger").json()["purchases"]
    return found


def ordered(home: Home, *prompts: str) -> list[str]:
    """Order tasks from the service itself; gives their ids."""
    with home.client() as client:
        bodies = [{"provider": "revid", "model": REVID[2], "input": {"prompt": prompt}} for prompt in prompts]
        return [client.post("/api/tasks", json=body).json()["id"] for body in bodies]


def settle(home: Home, task_id: str) -> None:
    with home.client() as client:
        assert client.get(f"/api/tasks/{task_id}", params={"wait": 20}).json()["state"] == "succeeded"


def history(home: Home, task_id: str) -> list[dict[str, Any]]:
    with home.client() as client:
        found: list[dict[str, Any]] = client.get(f"/api/tasks/{task_id}/history").json()["events"]
    return found


def test_tasks_are_shown_listed_waited_for_and_ordered_again(home: Home, tmp_path: Path) -> None:
    (task_id,) = ordered(home, "listed [sandbox: after=0.1]")
    settle(home, task_id)
    home.call("download", task_id, "--to", str(tmp_path))  # its file is archived by then: nothing more happens to it
    shown, table, listed, retried = home.call_all(
        [
            ["show", task_id, "--json"],
            ["show", task_id],
            ["list", "--json", "--limit", "1", "--state", "succeeded", "--q", task_id, "--provider", "revid"],
            ["retry", task_id, "--json", "--key", "again"],
        ]
    )
    document = shown.document
    assert set(document) == TASK_KEYS | {"history"}
    assert {event["kind"] for event in document["history"]} >= {"move", "attempt", "delivery"}
    assert all(event["at"] and isinstance(event["id"], int) for event in document["history"])
    assert document["history"] == history(home, task_id), "as the API gives it"
    assert task_id in table.out
    assert "callback: applied" in table.out
    assert "token yes" in table.out, "in words"
    assert not re.search(r"\b(True|False|None)\b|'", table.out), "and not as Python writes values"
    assert "…" not in table.out, "nothing is cut in a pipe"
    assert set(listed.document) == {"tasks"}
    assert [task["id"] for task in listed.document["tasks"]] == [task_id]
    assert set(listed.document["tasks"][0]) == TASK_KEYS
    assert (retried.code, retried.document["retry_of"]) == (0, task_id)

    both = [task_id, retried.document["id"]]
    waited, everything, cancelled = home.call_all([["wait", *both, both[0], "--json"], ["list"], ["cancel", task_id]])
    assert [task["id"] for task in waited.document["tasks"]] == both, "each once, in the order asked for"
    assert set(both) <= set(TASK_ID.findall(everything.out)), "whole ids also in a pipe"
    assert (cancelled.code, cancelled.out) == (1, "")
    assert "only a queued one" in cancelled.err


def test_a_stored_callback_is_replayed_by_its_number_in_the_history(home: Home) -> None:
    (task_id,) = ordered(home, "read again [sandbox: after=0.1]")
    settle(home, task_id)
    final = [event for event in history(home, task_id) if event["kind"] == "delivery"][-1]["delivery"]
    told, plain, shown, gone, nonsense = (
        home.call(*words)
        for words in (
            ("replay", str(final), "--json"),
            ("replay", str(final)),
            ("show", task_id),
            ("replay", str(2**62)),
            ("replay", "last"),
        )
    )
    assert told.code == 0
    assert told.document == {
        "delivery": final,
        "was": "applied",
        "outcome": "repeated",
        "task": task_id,
        "state": "succeeded",
    }
    expected = f"delivery {final}: repeated (was applied); task {task_id} is succeeded\n"
    assert (plain.code, plain.out) == (0, expected)
    assert f"callback: applied (delivery {final})" in shown.out
    assert f"Delivery {final} was replayed: repeated (first outcome: applied)." in shown.out
    assert (gone.code, gone.out, nonsense.code) == (1, "", 2)
    assert "receiver show" in gone.err


def test_a_whole_history_is_replayed_and_its_changes_are_shown_first(home: Home) -> None:
    (task_id,) = ordered(home, "mended [sandbox: after=600]")
    key = (home.data / "secret_keys").read_text().strip()
    answer = httpx.post(
        str(Links([key], home.url).callback_url("revid", task_id)), content=b"?", timeout=HANG, trust_env=False
    )
    assert (answer.status_code, answer.json()) == (200, {"outcome": "unreadable"})
    task = home.call("show", task_id, "--json").document
    url = "https://cdn.example.com/out.mp4"
    with contextlib.closing(sqlite_module().connect(str(home.data / "sandbox.db"))) as database:
        body = json.dumps(REVID_FAMILY.done(task["remote_id"], url)).encode()
        database.execute("UPDATE delivery SET body = ? WHERE task_id = ?", (body, task_id))
        database.commit()

    every = ["replay", "--all", "--since", "1h"]
    looked, shown, unchanged = home.call_all([[*every, "--json"], every, ["show", task_id, "--json"]])
    (change,) = looked.document["changes"]
    assert (looked.code, looked.document["applied"], change["task"]) == (0, False, task_id)
    assert (change["from"]["outputs"], change["to"]["state"], change["to"]["outputs"]) == ([], "succeeded", [url])
    assert task_id in shown.out
    assert f"+ {url}" in shown.out
    assert "--apply" in shown.err
    assert unchanged.document["state"] == task["state"]

    (applied,) = home.call_all([[*every, "--apply", "--json"]])
    assert (applied.code, applied.document["applied"]) == (0, True)
    done, again = home.call_all([["show", task_id, "--json"], every])
    assert (done.document["state"], done.document["outputs"][0]["url"]) == ("succeeded", url)
    assert (again.code, again.out) == (0, "Replaying changes nothing.\n")


def test_replay_takes_one_delivery_or_all_and_a_valid_time(home: Home) -> None:
    wrong = [
        ["replay"],
        ["replay", "1", "--all"],
        ["replay", "1", "--since", "1h"],
        ["replay", "--all", "--since", "soon"],
    ]
    assert [ran.code for ran in home.call_all(wrong)] == [2, 2, 2, 2]
    since = ["2h", "7d", "2026-11-20T12:00Z", "2026-11-20"]
    assert [ran.code for ran in home.call_all([["replay", "--all", "--since", time] for time in since])] == [0] * 4


def test_callbacks_that_no_task_has_are_listed_by_their_numbers(home: Home) -> None:
    url = Links([(home.data / "secret_keys").read_text().strip()], home.url).account_url("rivya")
    event = {"id": "evt_1", "type": "generation.succeeded", "data": {"generation": RIVYA.done("nobodys-id")}}
    answer = httpx.post(str(url), json=event, timeout=HANG, trust_env=False)
    assert (answer.status_code, answer.json()) == (200, {"outcome": "held"})
    listed, shown = home.call_all([["deliveries", "--json"], ["deliveries"]])
    (found,) = listed.document["deliveries"]
    assert (found["provider"], found["outcome"], found["remote_id"]) == ("rivya", "held", "nobodys-id")
    assert f"{found['delivery']}" in shown.out
    assert "nobodys-id" in shown.out
    again = home.call("replay", str(found["delivery"]), "--json")
    assert (again.code, again.document["outcome"], again.document["task"]) == (0, "held", None)


def test_waiting_gives_up_after_its_time(home: Home) -> None:
    (task_id,) = ordered(home, "slow [sandbox: after=3000]")
    waited = home.call("wait", task_id, "--timeout", "0.3", "--json")
    assert waited.code == 1
    assert waited.document["state"] in ("submitted", "running")


def test_a_missing_task_is_an_error_and_an_empty_list_is_not(home: Home) -> None:
    shown, listed = home.call_all([["show", "\udcff\x1b[31m"], ["list", "--q", "\udcff"]])
    assert (shown.code, shown.out) == (1, "")
    assert "no task" in shown.err
    assert "\x1b" not in shown.err
    assert (listed.code, listed.out) == (0, "no tasks\n")


def test_the_token_is_printed_alone_and_opens_the_api(home: Home) -> None:
    ran = home.run("token")
    assert ran == Ran(0, f"{home.token()}\n", "")
    with home.client() as client:
        assert client.get("/api/tasks", headers={"Authorization": f"Bearer {ran.out.strip()}"}).status_code == 200
        assert client.get("/api/tasks", headers={"Authorization": f"Bearer {ran.out.strip()}x"}).status_code == 401


def test_providers_and_migrate_say_what_there_is(home: Home) -> None:
    listed, migrated = home.call_all([["providers", "--json"], ["migrate"]])
    documents = listed.document["providers"]
    assert {one["name"] for one in documents} >= {"rivya", "apixo", "revid", "gateway"}
    assert all(set(one) >= {"name", "family", "configured", "callbacks", "signed", "models"} for one in documents)
    assert all(set(model) >= {"id", "input", "price"} for one in documents for model in one["models"])
    assert (migrated.code, migrated.out) == (0, "")
    assert "The schema is current" in migrated.err


def test_two_polls_beside_a_running_service_buy_and_settle_everything_once(home: Home) -> None:
    before = len(purchases(home))
    made = ordered(home, *(f"{number} [sandbox: after=0.1 callback=drop]" for number in range(20)))
    told, plain = home.run_all([["poll", "--json"], ["poll"]])
    assert (told.code, plain.code) == (0, 0)
    assert set(told.document) == {"submitted", "checked", "settled", "expired", "failed"}
    assert told.document["failed"] == 0
    assert re.fullmatch(r"submitted \d+ checked \d+ settled \d+ expired \d+ failed 0\n", plain.out)
    with home.client() as client:

        def all_settled() -> list[dict[str, Any]] | None:
            tasks = [client.get(f"/api/tasks/{task_id}").json() for task_id in made]
            return tasks if all(task["state"] == "succeeded" for task in tasks) else None

        tasks = wait_for(all_settled)
    assert len(purchases(home)) - before == 20
    assert {task["settled_by"] for task in tasks} == {"check"}
    for task_id in made:
        moves = [event["to"] for event in history(home, task_id) if event["kind"] == "move"]
        assert moves.count("succeeded") == 1


def test_polls_that_keep_going_end_well_when_told(home: Home) -> None:
    processes = [home.start("poll", "--every", "60", "--json") for _ in range(2)]
    for process, number in zip(processes, (signal.SIGTERM, signal.SIGINT), strict=True):
        assert process.stdout is not None
        assert process.stdout.readline().startswith('{"submitted"')
        process.send_signal(number)
        out, err = process.communicate(timeout=HANG)
        assert (process.returncode, out) == (0, "")
        assert "Traceback" not in err


def test_waiting_that_is_interrupted_shows_no_traceback(home: Home) -> None:
    (task_id,) = ordered(home, "slow [sandbox: after=3000]")
    process = home.start("wait", task_id)
    wait_for(lambda: has_database_open(process.pid))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=HANG)
    assert process.returncode not in (0, 2)
    assert out == ""
    assert "Traceback" not in err


def has_database_open(pid: int) -> bool:
    links = []
    for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - likewise
        with contextlib.suppress(OSError):
            links.append(os.readlink(f"/proc/{pid}/fd/{name}"))  # noqa: PTH115
    return any(link.endswith("-wal") for link in links)


def test_a_closed_pipe_ends_a_listing_quietly(home: Home) -> None:
    process = home.start("list", "--json")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.wait(HANG)
    process.stderr.close()
    assert "Traceback" not in err


def test_a_settings_file_is_read_and_the_environment_wins(home: Home) -> None:
    file = home.directory / ".env"
    file.write_text("RECEIVER_API_TOKENS=from-the-file\nRECEIVER_POLLR=on\n")
    try:
        ran = home.run("token", RECEIVER_API_TOKENS="from-the-environment,another", RECEIVER_SECRET_KEYS="")
    finally:
        file.unlink()
    assert ran.out == "from-the-environment\n"
    assert "did you mean RECEIVER_POLLER?" in ran.err


def test_the_database_was_whole_all_the_time(home: Home) -> None:
    """The last of this module: after everything above, by several processes at once."""
    connection = sqlite_module().connect(str(home.database))
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()
