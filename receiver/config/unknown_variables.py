"""Variables that are set and do nothing: misspelt ones, and those of an account without its key. Pure.

`settings` asks; `cli` says the sentences on standard error. None of them stops the start.
"""

import difflib
from collections.abc import Collection, Mapping


def unknown(given: Collection[str], known: Collection[str]) -> list[str]:
    """Name the variables that look like ours and are no setting, with the nearest one that is."""
    sentences = []
    for name in sorted(given):
        if name in known or not name.startswith("RECEIVER_"):
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)  # all share their prefix
        sentences.append(f"{name} is no setting of this service{f'; did you mean {near[0]}?' if near else ''}")
    return sentences


def unused(given: Collection[str], accounts: Mapping[str, Collection[str]], *, sandbox: bool) -> list[str]:
    """Name what belongs to an account that has no key, and a database beside the sandbox's own.

    `accounts` are their variables by account name, the key's first.
    """
    sentences = []
    for name, (key, *others) in accounts.items():
        if key not in given:
            sentences += [
                f"{each} is set, but {key} is not: {name} is not configured" for each in others if each in given
            ]
    named = [variable for variable in ("RECEIVER_DATABASE_URL", "DATABASE_URL") if sandbox and variable in given]
    return sentences + [f"{variable} is not used by the sandbox, which has its own database" for variable in named]
