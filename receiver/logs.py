"""How the service logs: one wide line for each thing that happened, on standard error; JSON unless people look.

A value can never begin a line of its own, and no line has a secret: bodies, headers and URLs of callbacks are not
logged at all.
"""

import logging
import sys

import structlog


def configure(level: int = logging.INFO) -> None:
    """Set up logging for this process."""
    people_look = sys.stderr.isatty()
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        stamp,
        structlog.processors.format_exc_info,
    ]
    if people_look:
        shared.pop()  # the console draws tracebacks itself
    structlog.configure(
        processors=[*shared, _renderer(people_look)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(people_look)],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _renderer(people_look: bool) -> structlog.typing.Processor:  # noqa: FBT001 - private
    return structlog.dev.ConsoleRenderer() if people_look else structlog.processors.JSONRenderer()
