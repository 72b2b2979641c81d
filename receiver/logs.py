"""How the service logs: one wide line for each thing that happened, on standard error; JSON unless people look.

A value can never begin a line of its own, and no line has a secret: bodies, headers and URLs of callbacks are not
logged at all, tracebacks are without their variables, and every line goes through what `hide` was given.
"""

import io
import logging
import sys
import traceback
from collections.abc import Callable
from typing import TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger


class _Lines:
    """Writes events as lines, without what must not be seen, once that is known."""

    redact: Callable[[str], str] = str

    def written_by(self, renderer: Processor) -> Processor:
        def write(logger: WrappedLogger, name: str, event: EventDict) -> str:
            return self.redact(str(renderer(logger, name, event)))

        return write


_lines = _Lines()


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
        processors=[*shared, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _for_machines() -> list[Processor]:
    return [structlog.processors.format_exc_info, _lines.written_by(structlog.processors.JSONRenderer())]


def _for_people() -> list[Processor]:
    # Not structlog's own tracebacks: they show the values of variables, keys among them.
    return [_visible, _lines.written_by(structlog.dev.ConsoleRenderer(exception_formatter=_traceback))]


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
