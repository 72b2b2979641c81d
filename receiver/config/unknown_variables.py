"""Warnings about variables that have no effect: misspelt ones, and those of an account without a key. Pure.

`settings` collects them; `cli` prints them on standard error. None of them stops the start.
"""

import difflib
from collections.abc import Collection, Mapping


def find_unknown(given: Collection[str], known: Collection[str]) -> list[str]:
    """Return a warning for each variable that looks like ours but is not a setting, with the most similar one."""
    sentences = []
    for name in sorted(given):
        if name in known or not name.startswith("RECEIVER_"):
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)  # all share their prefix
        sentences.append(f"{name} is not a setting{f'; did you mean {near[0]}?' if near else ''}")
    return sentences


def find_unused(given: Collection[str], accounts: Mapping[str, Collection[str]], *, sandbox: bool) -> list[str]:
    """Return a warning for each variable of an account without a key, and for a database URL in the sandbox.

    `accounts` maps each account's name to its variables, the key's first.
    """
    sentences = []
    for name, (key, *others) in accounts.items():
        if key not in given:
            sentences += [
                f"{each} is set, but {key} is not: {name} is not configured" for each in others if each in given
            ]
    named = [variable for variable in ("RECEIVER_DATABASE_URL", "DATABASE_URL") if sandbox and variable in given]
    return sentences + [f"{variable} has no effect: the sandbox has its own database" for variable in named]
