"""Times in words for the pages: relative for reading, absolute in UTC for comparing. Pure.

Everything here takes Unix milliseconds; the caller says what time it is now.
"""

from datetime import UTC, datetime

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def format_duration(milliseconds: int) -> str:
    """Return a duration in its two largest units, such as "2 h 5 min"; a negative one is "0 s"."""
    milliseconds = max(milliseconds, 0)
    if milliseconds < MINUTE:
        return f"{milliseconds // SECOND} s"
    for unit, name, smaller, smaller_name in ((DAY, "d", HOUR, "h"), (HOUR, "h", MINUTE, "min")):
        if milliseconds >= unit:
            rest = milliseconds % unit // smaller
            return f"{milliseconds // unit} {name}" + (f" {rest} {smaller_name}" if rest else "")
    rest = milliseconds % MINUTE // SECOND
    return f"{milliseconds // MINUTE} min" + (f" {rest} s" if rest and milliseconds < 10 * MINUTE else "")


def format_elapsed(milliseconds: int) -> str:
    """Return how long a request took; under ten seconds to a tenth of a second."""
    if milliseconds < SECOND // 10:
        return "under 0.1 s"
    return f"{milliseconds / SECOND:.1f} s" if milliseconds < 10 * SECOND else format_duration(milliseconds)


def format_relative(at: int, now: int) -> str:
    """Return how far away a time is, such as "in 5 s" or "2 h ago"."""
    if abs(at - now) < SECOND:
        return "now"
    return f"in {format_duration(at - now)}" if at > now else f"{format_duration(now - at)} ago"


def format_absolute(at: int) -> str:
    """Return a time in UTC, to the second."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
