"""Ids of tasks: `tsk_` and a text that sorts by time, also within one millisecond of one process."""

import secrets

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_RANDOM_BITS = 80
_LENGTH = 26

_last = 0


def new_id(now: int) -> str:
    """Make an id at a time in Unix milliseconds: 48 bits of time, 80 of chance."""
    global _last  # noqa: PLW0603 - the only memory: the id before, so that the next one sorts after it
    number = (now << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
    if number <= _last and (_last >> _RANDOM_BITS) - now < 1000:
        number = _last + 1 + secrets.randbits(32)
    _last = number
    return "tsk_" + "".join(_ALPHABET[(number >> shift) & 31] for shift in range((_LENGTH - 1) * 5, -1, -5))
