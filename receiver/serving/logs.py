"""How the service logs: one wide line for each thing that happened, on standard error; JSON unless people look.

A value can never begin a line of its own, and no line has a secret: bodies, headers and URLs of callbacks are not
logged at all, tracebacks are without their variables, and every line goes through what `hide` was given.
"""

import io
import json
import logging
import sys
import time
import traceback
from collections.abc import Callable
from typing import TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from receiver.core.redaction import redact_values

MOST_LINES = 20
"""Lines of one kind within `WINDOW` seconds, where strangers may cause as many as they like."""
WINDOW = 60.0
STRANGERS = frozenset({"fault", "not_ready", "background_work_postponed"})
"""Events of our own of that kind; every line that a library writes is."""


class _Lines:
    """Writes events as lines, without what must not be seen, once that is known."""

    redact: Callable[[str], str] = str

    def for_people(self, renderer: Processor) -> Processor:
        def write(logger: WrappedLogger, name: str, event: EventDict) -> str:
            return self.redact(str(renderer(logger, name, event)))

        return write

    def for_machines(self, _logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        """Redact values before they are written: the line has to stay JSON."""
        plain: EventDict = json.loads(json.dumps(event, default=repr))
        redacted: EventDict = redact_values(plain, self.redact)
        return redacted


_lines = _Lines()


class Repeats:
    """Leaves out lines that repeat themselves, and says how many were when it tells of the next one."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Take what tells the time in seconds."""
        self._now = now
        self._told: dict[str, tuple[float, int]] = {}

    def admit(self, kind: str) -> int | None:
        """Return how many lines of a kind were left out before this one; None where this one is left out, too."""
        now = self._now()
        began, number = self._told.get(kind, (now, 0))
        if now - began >= WINDOW:
            self._told[kind] = (now, 1)
            return max(number - MOST_LINES, 0)
        self._told[kind] = (began, number + 1)
        return 0 if number < MOST_LINES else None


class _Bounded(logging.Filter):
    """Bounds the lines of libraries: uvicorn has one for each request that is none."""

    def __init__(self) -> None:
        super().__init__()
        self._repeats = Repeats()

    def filter(self, record: logging.LogRecord) -> bool:
        left_out = self._repeats.admit(f"{record.name} {record.msg}"[:200])
        if left_out:
            record.msg = f"{record.msg} ({left_out} more like it were left out)"
        return left_out is not None


def _bounded() -> Processor:
    repeats = Repeats()

    def bound(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        if event["event"] not in STRANGERS:
            return event
        left_out = repeats.admit(event["event"])
        if left_out is None:
            raise structlog.DropEvent
        return {**event, "left_out": left_out} if left_out else event

    return bound


def hide(redact: Callable[[str], str]) -> None:
    """From now on, pass every line through this: it takes secrets out."""
    _lines.redact = redact


def configure(level: int = logging.INFO) -> None:
    """Set up logging for this process."""
    people_look = sys.stderr.isatty()
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendered = _for_people() if people_look else _for_machines()
    structlog.configure(
        processors=[_bounded(), *shared, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(_Bounded())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _for_machines() -> list[Processor]:
    return [structlog.processors.format_exc_info, _lines.for_machines, structlog.processors.JSONRenderer()]


def _for_people() -> list[Processor]:
    # Not structlog's own tracebacks: they show the values of variables, keys among them.
    return [_visible, _lines.for_people(structlog.dev.ConsoleRenderer(exception_formatter=_traceback))]


def _visible(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    return {name: _seen(value) if isinstance(value, str) else value for name, value in event.items()}


def _seen(text: str) -> str:
    """Write what would move the cursor or begin a line as an escape."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _traceback(out: TextIO, error: ExcInfo) -> None:
    """Write a traceback for people, set in, so that no line of a message passes for one of the log."""
    told = io.StringIO()
    traceback.print_exception(*error, file=told)
    out.writelines(f"\n    {_seen(line)}" for line in told.getvalue().rstrip("\n").split("\n"))
