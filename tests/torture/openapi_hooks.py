"""Hooks of Schemathesis, which loads this file by itself: `SCHEMATHESIS_HOOKS` names it."""

from typing import Any

import schemathesis

LONGEST_WAIT = 0.05


def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Keep long polls short: a valid wait may be a minute, and there are thousands of calls."""
    wait = (case.query or {}).get("wait")
    if isinstance(wait, int | float) and not isinstance(wait, bool) and LONGEST_WAIT < wait <= 60:
        case.query["wait"] = LONGEST_WAIT


schemathesis.hook(before_call)
