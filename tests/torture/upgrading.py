"""Migrates copies of an old database in processes that are killed on the way, for `test_upgrade`.

`python -m tests.torture.upgrading OLD DIRECTORY NUMBER SEED`: there are as many moments to be killed at as there are
ends of statements, and one before the commit. So many of them are tried, the last two always, each on a copy; then the
migration is begun again. It prints for each the copy's name and the schema that the second migration found and left,
and goes on when it is told to.
"""

import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from receiver.store import schema
from tests.store.rig import url_of

MOMENTS = ("before_cursor_execute", "after_cursor_execute", "commit")


def main() -> None:
    old, directory, number, seed = sys.argv[1:]
    moments = count(shutil.copy(old, f"{old}.counted"))
    chance = random.Random(seed)  # noqa: S311 - chance that can be repeated, not a secret
    some = chance.sample(range(1, moments - 1), min(int(number), moments) - 2)
    for moment in (*sorted(some), moments - 1, moments):
        file = shutil.copy(old, f"{directory}/killed{moment}.db")
        ended = in_a_process(partial(migrate, file, dying_at(moment)))
        assert os.WIFSIGNALED(ended), f"moment {moment} never came"
        assert os.WTERMSIG(ended) == signal.SIGKILL
        ended = in_a_process(partial(migrate_and_tell, file))
        assert os.waitstatus_to_exitcode(ended) == 0, f"killed at moment {moment}, the migration does not finish"
        sys.stdin.readline()


def migrate_and_tell(file: str) -> None:
    print(file, *schema.migrate(url_of(Path(file))))  # noqa: T201 - read by the test


def migrate(file: str, at_each: Callable[..., None]) -> None:
    for moment in MOMENTS:
        event.listen(Engine, moment, at_each)
    schema.migrate(url_of(Path(file)))


def count(file: str) -> int:
    passed = 0

    def one_more(*_: Any) -> None:
        nonlocal passed
        passed += 1

    migrate(file, one_more)
    return passed


def dying_at(moment: int) -> Callable[..., None]:
    passed = 0

    def perhaps(*_: Any) -> None:
        nonlocal passed
        passed += 1
        if passed == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    return perhaps


def in_a_process(work: Callable[[], None]) -> int:
    """Do something in a process of its own; returns how it ended. Nothing is open here that it could share."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitpid(child, 0)[1]


if __name__ == "__main__":
    main()
