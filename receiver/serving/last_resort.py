"""Ends a process that was told to stop and cannot. `server` starts it with the signal."""

import os
import threading
from functools import partial

import structlog

log = structlog.get_logger()

TOLD, ENDED = 9.0, 9.5
"""Seconds after the signal at which a stop counts as stuck, and at which the process ends whatever it does. All that
can be done takes eight, also with a database that does not answer."""


def start() -> None:
    """End the process in time also where something never lets go of it, such as a disk that does not answer."""
    for seconds, act in ((TOLD, _tell), (ENDED, partial(os._exit, 1))):
        alarm = threading.Timer(seconds, act)
        alarm.daemon = True  # where all goes well, the process is gone before
        alarm.start()


def _tell() -> None:
    log.error("stop_takes_too_long", remedy="the process ends now; its next start finds what it could not write down")
