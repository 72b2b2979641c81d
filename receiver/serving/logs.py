"""How the service logs: one line for each thing that happened, on standard error. Short on a terminal, JSON in a pipe.

A value can never start a line of its own, and no line holds a secret: bodies, headers and URLs of callbacks are not
logged at all, tracebacks are without their variables, and every line passes the function given to `set_redaction`.
"""

import io
import json
import logging
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from receiver.core.redaction import redact_values

MAX_LINES = 20
"""Lines of one kind within `WINDOW` seconds, where clients may cause as many as they like."""
WINDOW = 60.0
RATE_LIMITED = frozenset({"unexpected_error", "not_ready", "background_work_put_off"})
"""Our own events of that kind; every line of a library is."""
EVENT_WIDTH = 14
"""Columns that an event's name takes on a terminal, at least."""


class _Lines:
    """Renders events as lines; `redact` removes secrets, once they are known."""

    redact: Callable[[str], str] = str

    def for_terminal(self, renderer: Processor) -> Processor:
        def write(logger: WrappedLogger, name: str, event: EventDict) -> str:
            return self.redact(str(renderer(logger, name, event)))

        return write

    def for_pipe(self, _logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        """Redact values before they are serialised, so that the line stays JSON."""
        plain: EventDict = json.loads(json.dumps(event, default=repr))
        redacted: EventDict = redact_values(plain, self.redact)
        return redacted


_lines = _Lines()


class RateLimit:
    """Drops lines that repeat too often; the next line says how many were dropped."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """`now` returns the time in seconds."""
        self._now = now
        self._counts: dict[str, tuple[float, int]] = {}

    def admit(self, kind: str) -> int | None:
        """Return how many lines of a kind were dropped before this one; None where this one is dropped, too."""
        now = self._now()
        began, number = self._counts.get(kind, (now, 0))
        if now - began >= WINDOW:
            self._counts[kind] = (now, 1)
            return max(number - MAX_LINES, 0)
        self._counts[kind] = (began, number + 1)
        return 0 if number < MAX_LINES else None


class _LibraryRateLimit(logging.Filter):
    """Limits the lines of libraries: uvicorn writes one for each request that is not HTTP."""

    def __init__(self) -> None:
        super().__init__()
        self._limit = RateLimit()

    def filter(self, record: logging.LogRecord) -> bool:
        dropped = self._limit.admit(f"{record.name} {record.msg}"[:200])
        if dropped:
            record.msg = f"{record.msg} ({dropped} similar lines were dropped)"
        return dropped is not None


def _limit_rate() -> Processor:
    rate_limit = RateLimit()

    def limit(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        if event["event"] not in RATE_LIMITED:
            return event
        dropped = rate_limit.admit(event["event"])
        if dropped is None:
            raise structlog.DropEvent
        return {**event, "dropped": dropped} if dropped else event

    return limit


class _StandardError:
    """Standard error as it is when a line is written; a line that cannot be written is dropped.

    Whoever reads the log may go away: that must not stop what is being logged.
    """

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def set_redaction(redact: Callable[[str], str]) -> None:
    """Pass every line through this function from now on: it removes secrets."""
    _lines.redact = redact


def configure(level: int = logging.INFO) -> None:
    """Set up logging for this process.

    On a terminal, a level of INFO shows DEBUG, too: a line for each callback. In a pipe these would slow down the
    answers to callbacks.
    """
    is_terminal = sys.stderr.isatty()
    if is_terminal and level == logging.INFO:
        level = logging.DEBUG
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
        if is_terminal
        else structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendered = _for_terminal() if is_terminal else _for_pipe()
    structlog.configure(
        processors=[_limit_rate(), *shared, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _StandardError())),
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(_LibraryRateLimit())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("receiver").setLevel(level)


def _for_pipe() -> list[Processor]:
    return [structlog.processors.format_exc_info, _lines.for_pipe, structlog.processors.JSONRenderer()]


def _for_terminal() -> list[Processor]:
    # Not structlog's own tracebacks: they show the values of variables, keys among them.
    renderer = structlog.dev.ConsoleRenderer(
        pad_event_to=EVENT_WIDTH, pad_level=False, sort_keys=False, exception_formatter=_traceback
    )
    return [_shorten, _escape_values, _lines.for_terminal(renderer)]


def _shorten(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Return an event with its name in words, and without fields that say nothing: an ordinary level, None, False."""
    shown = {name: value for name, value in event.items() if value is not None and value is not False}
    if shown["level"] in ("debug", "info"):
        del shown["level"]
    return {**shown, "event": str(event["event"]).replace("_", " ")}


def _escape_values(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    return {name: _escape(value) if isinstance(value, str) else value for name, value in event.items()}


def _escape(text: str) -> str:
    """Write characters that would move the cursor or start a line as escapes."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _traceback(out: TextIO, error: ExcInfo) -> None:
    """Write an indented traceback, so that no line of a message can pass for a line of the log."""
    text = io.StringIO()
    traceback.print_exception(*error, file=text)
    out.writelines(f"\n    {_escape(line)}" for line in text.getvalue().rstrip("\n").split("\n"))
