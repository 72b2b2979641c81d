"""Ends a process that was told to stop and cannot. `server` starts it when the signal arrives."""

import os
import threading
from functools import partial

import structlog

log = structlog.get_logger()

WARN_AFTER, EXIT_AFTER = 9.0, 9.5
"""Seconds after the signal at which a stop counts as stuck, and at which the process exits in any case. A stop takes at
most eight, even when the database does not answer."""


def start() -> None:
    """Make sure that the process exits in time even when something blocks for ever, such as a disk."""
    for seconds, act in ((WARN_AFTER, _log_stuck), (EXIT_AFTER, partial(os._exit, 1))):
        timer = threading.Timer(seconds, act)
        timer.daemon = True  # a process that stops by itself does not wait for it
        timer.start()


def _log_stuck() -> None:
    log.error("stop_takes_too_long", remedy="the process exits now; the next start recovers what was not stored")
