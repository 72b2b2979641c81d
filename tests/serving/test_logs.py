"""The log: one line a record, no values of variables, no secrets; the same for machines and for people."""

import json
import os
import pty
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

import pytest

from receiver.serving.logs import MAX_LINES, WINDOW, RateLimit
from tests.measuring import HANG

SECRET = "sk-canary-in-a-variable"
HOSTILE = "x\r\n2026-01-01 [info] forged \x1b[31mred\x9b1m \u2028next \u2029 \x00 \u202etxt.exe \x85 \ud800 \x08"
PROGRAM = """
import logging, sys, structlog
from receiver.serving import logs
from receiver.core.redaction import Redactor
secret, hostile = {secret!r}, {hostile!r}
logs.configure(logging.DEBUG)
logs.set_redaction(Redactor([secret]).redact_text)
log = structlog.get_logger()
log.info("happened", said=hostile, told=secret, nested={{"key": [hostile, secret]}})
log.debug(hostile)
logging.getLogger("uvicorn.error").error("foreign %s", hostile)
def fails(argument, words):
    inside = {{"authorization": argument}}
    raise ValueError(words)
for words in (hostile, "broken by " + secret):
    try:
        fails(secret, words)
    except ValueError as error:
        log.error("background_work_failed", exc_info=error)
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
"""
RECORDS = 3 + 2 * 2


def to_a_pipe(program: str) -> str:
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, cwd="/")  # noqa: S603 - ours
    return ran.stderr.decode()


def to_a_terminal(program: str) -> str:
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", program], stderr=theirs, cwd="/") as process:  # noqa: S603 - ours
        os.close(theirs)
        told = b""
        try:
            while part := os.read(ours, 65536):
                told += part
        except OSError:  # the other end was closed
            pass
        assert process.wait(30) == 0, told
    os.close(ours)
    return told.decode()


def log(run: Callable[[str], str]) -> str:
    return run(PROGRAM.format(secret=SECRET, hostile=HOSTILE))


@pytest.mark.row("C9")
def test_in_a_pipe_a_record_is_one_line_of_json_with_all_values() -> None:
    told = log(to_a_pipe)
    assert told.isascii()
    records = [json.loads(line) for line in told.splitlines()]
    assert len(records) == RECORDS
    assert (records[0]["said"], records[0]["told"], records[1]["event"]) == (HOSTILE, "[redacted]", HOSTILE)
    assert records[2]["event"] == f"foreign {HOSTILE}"
    assert all("ValueError: " in record["exception"] for record in records[3:])


@pytest.mark.row("C9")
def test_on_a_terminal_a_record_is_one_line_and_a_traceback_is_indented() -> None:
    lines = log(to_a_terminal).replace("\r\n", "\n").rstrip("\n").split("\n")
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]  # structlog's own colours
    assert all(line.isprintable() for line in plain), plain
    assert not any("\x1b[31mred" in line for line in lines)
    records = [line for line in plain if not line.startswith("    ")]
    assert len(records) == RECORDS
    assert all(re.match(r"\d\d:\d\d:\d\d (\[error\] )?\S", line) for line in records), records


@pytest.mark.row("C8")
@pytest.mark.parametrize("run", [to_a_pipe, to_a_terminal])
def test_no_record_holds_a_secret_or_the_value_of_a_variable(run: Callable[[str], str]) -> None:
    told = log(run)
    assert "in fails" in told, "where it failed"
    assert "broken by [redacted]" in told
    assert SECRET not in told
    assert "authorization" not in re.sub(r"\x1b\[[0-9;]*m", "", told)


BOUNDED = """
import logging, structlog
from receiver.serving import logs
logs.configure()
for number in range(50):
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    structlog.get_logger().warning("not_ready", reason=str(number))
    structlog.get_logger().info("attempt", task=str(number))
"""


def test_lines_that_clients_cause_are_limited_and_those_of_tasks_are_not() -> None:
    lines = [json.loads(line) for line in to_a_pipe(BOUNDED).splitlines()]
    assert Counter(line["event"] for line in lines) == {
        "Invalid HTTP request received.": MAX_LINES,
        "not_ready": MAX_LINES,
        "attempt": 50,
    }


def test_the_next_line_says_how_many_were_dropped() -> None:
    now = 0.0
    limit = RateLimit(lambda: now)
    told = [limit.admit("a") for _ in range(MAX_LINES + 7)]
    assert told == [0] * MAX_LINES + [None] * 7
    assert limit.admit("b") == 0, "of another kind"
    now = WINDOW
    assert limit.admit("a") == 7
    assert limit.admit("a") == 0


NUMERIC = """
import structlog
from receiver.serving import logs
from receiver.core.redaction import Redactor
logs.configure()
logs.set_redaction(Redactor(["12345678", "null,null", "true, 2, 3"]).redact_text)
structlog.get_logger().info("happened", number=12345678, more=[1123456789, True, 2, 3], text="12345678", none=None)
"""


def test_a_secret_of_digits_or_of_syntax_leaves_a_line_json() -> None:
    line = json.loads(to_a_pipe(NUMERIC))
    assert (line["number"], line["text"], line["more"][0]) == ("[redacted]", "[redacted]", "1[redacted]9")


def test_a_log_that_nobody_reads_any_more_stops_nothing() -> None:
    script = (
        "import os\n"
        "from receiver.serving import logs\n"
        "import structlog\n"
        "logs.configure()\n"
        "for _ in range(3): structlog.get_logger().warning('a line')\n"
        "print('went on')\n"
    )
    process = subprocess.Popen(  # noqa: S603 - our own code
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    process.stderr.close()
    assert process.stdout is not None
    assert process.stdout.read() == "went on\n"
    process.stdout.close()
    process.wait(HANG)
