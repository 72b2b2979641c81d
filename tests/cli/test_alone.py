"""Commands where nothing runs: what is missing is named, nothing is created, and wrong use exits with 2."""

import contextlib
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast

import pytest
from rich.console import Console

from receiver.cli.terminal import summarize, task_table, to_one_line
from receiver.documents import TaskDocument

from .rig import Home

NEEDS_A_DATABASE = [["list", "--json"], ["submit", "revid", "sora-2", "-p", "x"], ["poll"]]


def test_commands_without_a_database_exit_2_name_the_path_and_make_nothing(empty: Home) -> None:
    for words, ran in zip(NEEDS_A_DATABASE, empty.call_all(NEEDS_A_DATABASE), strict=True):
        assert (ran.code, ran.out) == (2, ""), words
        assert str(empty.database) in ran.err
        assert "receiver migrate" in ran.err
        assert len(ran.err.splitlines()) == 1
    assert list(empty.directory.iterdir()) == []


WRONG = {
    "PORT": "eighty",
    "RECEIVER_TIMEOUT": "-1",
    "RECEIVER_CONFIRM": "maybe",
    "RECEIVER_PUBLIC_URL": "http://example.com",
    "REVID_API_KEY": "with blanks hunter2",
    "REVID_WEBHOOK_SECRET": "hunter2",
}


@pytest.mark.row("C8")
def test_wrong_settings_exit_2_and_every_variable_is_named_and_no_secret_shown(empty: Home) -> None:
    for ran in empty.run_all([["list"], ["serve"]], **WRONG):
        assert (ran.code, ran.out) == (2, "")
        assert {name for name in WRONG if name in ran.err} == set(WRONG)
        assert len(ran.err.splitlines()) == 1 + len(WRONG)
        assert "hunter2" not in ran.err
    assert list(empty.directory.iterdir()) == []


@pytest.mark.row("C8")
def test_a_database_that_cannot_be_reached_is_named_without_its_password(empty: Home) -> None:
    environ = {"REVID_API_KEY": "a-key-of-revid", "PORT": "0"}
    environ["RECEIVER_DATABASE_URL"] = "postgres://user:hunter2%40canary@127.0.0.1:9/receiver"
    for ran in empty.run_all([["list"], ["serve"]], **environ):
        assert ran.code != 0
        assert "127.0.0.1" in ran.err
        assert "hunter2" not in ran.err + ran.out
        assert "canary" not in ran.err + ran.out


def test_wrong_use_exits_2_and_says_how(empty: Home) -> None:
    commands = [["submitt"], ["submit", "revid"], ["list", "--state", "happy"]]
    for words, ran in zip(commands, empty.run_all(commands), strict=True):
        assert (ran.code, ran.out) == (2, ""), words
        assert "Usage" in ran.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--set", "n=NaN"], 'set.n: not JSON: NaN is not JSON; to pass it as text, write "NaN"'),
        (["--set", "n=-Infinity"], "-Infinity is not JSON"),
        (["--set", 'n={"a": [1, NaN]}'], "NaN is not JSON"),
        (["--set", "n=1e999"], "a number out of range"),
        (["--set", "n=" + "[" * 200 + "]" * 200], "nested deeper than 100 levels"),
        (["--input", '{"n": NaN}'], "input: not JSON: NaN is not JSON"),
        (["--input", '"{}"'], "input: must be a JSON object"),
        (["--prompt", "x", "--set", "prompt=y"], "prompt: is given by both --prompt and --set prompt="),
    ],
)
def test_an_invalid_input_is_refused_before_anything_is_done(empty: Home, words: list[str], told: str) -> None:
    assert empty.call("migrate").code == 0
    ran = empty.call("submit", "gateway", "a-model", "-p", "x", *words)
    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err
    assert empty.call("list", "--json").document == {"tasks": []}


@contextlib.contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """A server of somebody else, and the paths that were fetched from it."""
    fetched: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fetched.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", fetched
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_offline_a_task_is_stored_cancelled_and_ordered_again(empty: Home) -> None:
    """Nobody listens where the sandbox would be: provably not sent, so it waits."""
    empty.settings |= {"PORT": "1", "RECEIVER_POLL_EVERY": "0.01"}
    made = empty.call("migrate")
    assert (made.code, made.out) == (0, "")
    assert "Created the schema" in made.err

    first, unknown, invalid = empty.call_all(
        [
            ["submit", "revid", "sora-2-text-to-video", "-p", "x\udcff", "--json"],
            ["submit", "nobody", "sora-2", "-p", "x"],
            ["submit", "revid", "sora-2-text-to-video", "--set", "n_frames=eleven"],
        ]
    )
    task = first.document
    assert (first.code, task["state"], task["attempts"]) == (0, "queued", 1)
    assert "Not accepted yet" in task["notices"][0]
    assert [(ran.code, ran.out) for ran in (unknown, invalid)] == [(2, "")] * 2
    assert "provider" in unknown.err
    assert "revid" in unknown.err
    assert "n_frames" in invalid.err

    with listening() as (url, fetched):
        polled = empty.call("poll", "--json", RECEIVER_HEARTBEAT_URL=f"{url}/ping")
    assert fetched == ["/ping"], "a single sweep tells the dead man's switch, too"
    assert polled.code == 0
    assert polled.document == {"submitted": 0, "checked": 0, "settled": 0, "expired": 0, "failed": 1}
    assert "not_sent" in polled.err, "what it did is logged, and not among its results"

    cancelled = empty.call("cancel", task["id"])
    assert (cancelled.code, cancelled.out.split("\t")[:2]) == (0, [task["id"], "cancelled"])
    again, waited = empty.call_all([["retry", task["id"]], ["wait", task["id"]]])
    assert (again.code, again.out.split("\t")[1]) == (0, "queued")
    assert (waited.code, waited.out.split("\t")[1]) == (1, "cancelled"), "settled, and not a success"
    assert again.task_id != task["id"]
    assert (empty.data.stat().st_mode & 0o777) == 0o700


@pytest.mark.row("C9")
@pytest.mark.parametrize(
    "text", ["\u202etxt.exe", "two\nlines", "a\ttab", "\x1b]0;title\x07", "\u2028next", "\x9b31m", "a\rb", "\udcff"]
)
def test_no_untrusted_text_moves_the_cursor_or_starts_a_line(text: str) -> None:
    shown = to_one_line(text)
    assert len(shown) == len(text)
    assert shown.isprintable()
    error = {"code": text, "message": text}

    def task(**values: object) -> TaskDocument:
        return cast("TaskDocument", {"outputs": [], "error": error, "progress": None, "notices": []} | values)

    assert summarize(task()).plain.isprintable()
    assert summarize(task(error=None, notices=[text])).plain.isprintable()
    assert summarize(task(outputs=[{"url": text}])).plain.isprintable()
    whole: dict[str, object] = {
        "id": "tsk_1",
        "state": "failed",
        "provider": "[red]x[/red]",
        "model": text,
        "created_at": "2026-11-20T12:00:00Z",
    }
    drawing = io.StringIO()
    Console(file=drawing, width=300, soft_wrap=True).print(task_table([task(**whole)]))
    head, *rows = drawing.getvalue().rstrip("\n").split("\n")
    assert head.startswith("task")
    assert len(rows) == 1
    assert rows[0].isprintable()
    assert "[red]x[/red]" in rows[0], "no markup is read in it"


def test_an_order_over_a_days_limit_is_refused_with_both_figures(empty: Home) -> None:
    empty.settings |= {
        "REVID_API_KEY": "a-key-of-revid",
        "REVID_BASE_URL": "http://127.0.0.1:9",
        "REVID_MAX_CREDITS_PER_DAY": "55.5",
    }
    assert empty.call("migrate").code == 0
    order = ["submit", "revid", "sora-2-text-to-video", "-p", "a boat"]
    dear, cheap = empty.call_all([[*order, "--set", "n_frames=15"], order])
    assert (dear.code, dear.out) == (2, "")
    assert "model: this order costs about 60 credits, and REVID_MAX_CREDITS_PER_DAY allows 55.5 a day" in dear.err
    assert cheap.code == 0
    (task,) = empty.call("list", "--json").document["tasks"]
    assert task["id"] == cheap.task_id
    (table,) = empty.call("stats").out.splitlines()[1:]
    assert table.split() == ["revid", "all", "1", "queued", "0", "spent"]


@pytest.mark.parametrize(
    "words",
    [
        ["submit", "revid", "sora-2", "-p", "x", "--key", ""],
        ["submit", "revid", "sora-2", "-p", "x", "--key", "\u00e4"],
        ["retry", "tsk_1", "--key", ""],
        ["wait", "tsk_1", "--timeout", "nan"],
        ["wait", "tsk_1", "--timeout", "-1"],
        ["poll", "--every", "inf"],
    ],
    ids=" ".join,
)
def test_an_empty_key_and_an_invalid_duration_are_refused(empty: Home, words: list[str]) -> None:
    ran = empty.call(*words)
    assert (ran.code, ran.out) == (2, "")
    assert "must be" in ran.err
