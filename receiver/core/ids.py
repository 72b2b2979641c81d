"""Ids of tasks (`tsk_`) and messages (`msg_`): texts that sort by time.

Those of tasks sort also within one millisecond of one process.
"""

import secrets

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_RANDOM_BITS = 80
_LENGTH = 26

_last_number = 0


def new_id(now: int) -> str:
    """Return a new task id for a time in Unix milliseconds: 48 bits of time, 80 random bits."""
    global _last_number  # noqa: PLW0603 - the next id must sort after the last one
    number = (now << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
    if number <= _last_number and (_last_number >> _RANDOM_BITS) - now < 1000:
        number = _last_number + 1 + secrets.randbits(32)
    _last_number = number
    return f"tsk_{_as_text(number)}"


def new_message_id(now: int) -> str:
    """Return a new message id for a time in Unix milliseconds. It keeps no state: any thread may call it."""
    return f"msg_{_as_text((now << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS))}"


def _as_text(number: int) -> str:
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range((_LENGTH - 1) * 5, -1, -5))
