"""Times in words for the pages: relative for reading, absolute in UTC for comparing. Pure.

Everything here takes Unix milliseconds; what time it is now, the caller says.
"""

from datetime import UTC, datetime

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def span(milliseconds: int) -> str:
    """Say how long something lasts, in its two largest units; what ends before it began lasts 0 s."""
    milliseconds = max(milliseconds, 0)
    if milliseconds < MINUTE:
        return f"{milliseconds // SECOND} s"
    for unit, name, smaller, smaller_name in ((DAY, "d", HOUR, "h"), (HOUR, "h", MINUTE, "min")):
        if milliseconds >= unit:
            rest = milliseconds % unit // smaller
            return f"{milliseconds // unit} {name}" + (f" {rest} {smaller_name}" if rest else "")
    rest = milliseconds % MINUTE // SECOND
    return f"{milliseconds // MINUTE} min" + (f" {rest} s" if rest and milliseconds < 10 * MINUTE else "")


def took(milliseconds: int) -> str:
    """Say how long a request took: tenths of a second count."""
    if milliseconds < SECOND // 10:
        return "under 0.1 s"
    return f"{milliseconds / SECOND:.1f} s" if milliseconds < 10 * SECOND else span(milliseconds)


def relative(at: int, now: int) -> str:
    """Say how far away a moment is."""
    if abs(at - now) < SECOND:
        return "now"
    return f"in {span(at - now)}" if at > now else f"{span(now - at)} ago"


def absolute(at: int) -> str:
    """Write a moment in UTC, to the second."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
