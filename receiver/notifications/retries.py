"""When a message is tried again, and when it is given up. Pure; `delivery` asks it."""

DELAYS = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Seconds after each failed try, over 75 hours in all; after one more failure a message is given up."""
JITTER = 0.1
"""Pauses are longer by up to this share, so that messages that failed together do not come back together."""


def next_delay(failed: int, chance: float, asked: float | None) -> float | None:
    """Return the seconds until the next try after so many failed ones; None if there is none.

    `chance` is a random number from 0 to 1. A receiver that asks for more time gets it; it cannot ask for less, or its
    tries would soon be used up.
    """
    if failed > len(DELAYS):
        return None
    return max(DELAYS[failed - 1] * (1 + JITTER * chance), asked or 0.0)
