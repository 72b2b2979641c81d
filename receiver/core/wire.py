"""Parses untrusted input: the one strict JSON reader, and readers for the fields that providers share.

Every provider file, the inbox and our own API use it. Whatever the input, only `Unreadable` is raised. Nothing here
knows a provider.
"""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

from receiver.core.errors import Unreadable

MAX_DEPTH = 100
"""Levels of nesting; real messages have under ten, and the interpreter's own limit is near 1,000."""
MAX_VALUES = 10_000
"""Commas and opening brackets outside of strings. Real messages have under a thousand; each costs time and memory."""
MAX_DIGITS = 400
"""Digits of one integer; the interpreter refuses above 4,300 and slows down long before."""
MAX_URL_LENGTH = 8192
MAX_ID_LENGTH = 512
MILLISECONDS_FROM = 10**11
"""Numbers from here on are milliseconds: as seconds they would lie beyond the year 5100."""
MAX_CREDITS = 1e12


def read_json(data: bytes | str) -> Any:
    """Return the value of one JSON text: UTF-8 (a byte-order mark is allowed), finite numbers, bounded in size.

    The last of duplicate keys wins. Raises `Unreadable` for everything else.
    """
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        opened = text.count("[") + text.count("{")
        if opened > MAX_DEPTH or opened + text.count(",") > MAX_VALUES:
            _check_shape(text)
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not JSON: {error}") from error


def read_object(data: bytes | str) -> dict[str, Any]:
    """Return one JSON object, also if it was encoded twice. Raises `Unreadable` for anything else."""
    value = read_nested(read_json(data))
    if not isinstance(value, dict):
        raise Unreadable("JSON, but not an object")
    return value


def read_message(data: bytes) -> dict[str, Any]:
    """Return the object in a provider's message: it may be in a list of objects, or encoded twice.

    Raises `Unreadable` for anything else.
    """
    value = read_json(data)
    if isinstance(value, str):
        value = read_nested(value)
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        value = value[0]
    if not isinstance(value, dict):
        raise Unreadable("JSON, but not an object")
    return value


def read_nested(value: Any) -> Any:
    """Return the value of JSON inside JSON, also if it was encoded twice; an empty string is None.

    Objects and lists are returned as they are. Raises `Unreadable` for a broken string.
    """
    for _ in range(2):
        if not isinstance(value, str):
            break
        if not value.strip():
            return None
        value = read_json(value)
    return value


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return an object as it is, and an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def read_text(value: Any, limit: int = 2000) -> str | None:
    """Return a non-empty string or a number as clean text of at most `limit` characters; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    # Truncate first: cleaning takes time, and the sender chooses the length.
    return clean_text(truncate(str(value).strip(), limit)).strip() or None


def truncate(value: str, limit: int) -> str:
    """Return at most `limit` characters of a text. An ellipsis marks the cut: `redaction` looks there for a secret."""
    return value if len(value) <= limit else f"{value[: limit - 1].rstrip()}…"


def clean_text(value: str) -> str:
    """Return a text that both databases accept: lone surrogates and NUL become U+FFFD."""
    if value.isascii() and "\0" not in value:
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")


def read_id(value: Any) -> str | None:
    """Return a provider's id as text: a string or an integer of any size; None if it is empty or too long."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    found = str(value).strip()
    return clean_text(found) if 0 < len(found) <= MAX_ID_LENGTH else None


def first_value(source: Mapping[str, Any], *keys: str) -> Any:
    """Return the first value under these keys that is not missing, null or an empty string."""
    for key in keys:
        value = source.get(key)
        if value is not None and value != "":
            return value
    return None


def parse_timestamp(value: Any) -> int | None:
    """Return a time as Unix milliseconds; None for 0, empty, null and anything unreadable.

    Numbers are seconds or milliseconds by their size; texts are ISO 8601, in UTC unless they name a zone.
    """
    if isinstance(value, str):
        return _parse_timestamp_text(value.strip())
    number = as_number(value)
    return None if number is None else _plausible_milliseconds(number if number >= MILLISECONDS_FROM else number * 1000)


def parse_http_date(value: str) -> float | None:
    """Return the date of an HTTP header as Unix seconds, or None."""
    try:
        date = parsedate_to_datetime(value)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None


def parse_progress(value: Any) -> float | None:
    """Return progress as 0 to 1, from `"93%"`, `93`, `0.46` or `"0.50"`; None for anything else.

    Integers are per cent; numbers with a decimal point are fractions up to 1 and per cent above.
    """
    if isinstance(value, str):
        per_cent = value.strip().endswith("%")
        number = _parse_number(value.strip().removesuffix("%"))
        fraction = "." in value and not per_cent
    else:
        number, per_cent, fraction = as_number(value), False, isinstance(value, float)
    if number is None or number < 0:
        return None
    return min(number if fraction and number <= 1 else number / 100, 1.0)


def as_number(value: Any) -> float | int | None:
    """Return a finite number as it is; None for booleans, strings and everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None


def parse_integer(value: Any) -> int | None:
    """Return an integer of up to nine digits, also from a string; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value) if len(value) < 10 else None
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**9 else None


def parse_credits(value: Any) -> float | None:
    """Return an amount of credits, also from a string; None if it is out of range."""
    number = _parse_number(value) if isinstance(value, str) else as_number(value)
    return float(number) if number is not None and abs(number) <= MAX_CREDITS else None


def as_list(value: Any) -> list[Any]:
    """Return a list as it is, a single string as a list of one, and an empty list for anything else."""
    if isinstance(value, list):
        return value
    return [value] if isinstance(value, str) else []


def _parse_number(value: str) -> float | None:
    if len(value) > 40 or not value.isascii():
        return None
    try:
        return as_number(float(value))
    except ValueError:
        return None


def _parse_timestamp_text(value: str) -> int | None:
    number = _parse_number(value)
    if number is not None:
        return parse_timestamp(number)
    try:
        parsed = datetime.fromisoformat(value)
        return _plausible_milliseconds((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def _plausible_milliseconds(milliseconds: float) -> int | None:
    return int(milliseconds) if 1 <= milliseconds < MILLISECONDS_FROM * 1000 else None


_BRACKETS = re.compile(r"[\[{\]}]")


def _check_shape(text: str) -> None:
    """Raise `ValueError` for too much depth or too many values, before the decoder allocates anything.

    The counts are exact for what the decoder accepts.
    """
    if text.count("\\") > 30 * MAX_VALUES:  # a large string within a string has more of them than values
        raise ValueError(f"more than {MAX_VALUES} values")
    bare = text.replace("\\\\", "").replace('\\"', "")  # the escapes that are left hold no quote
    if bare.count('"') > 4 * MAX_VALUES:
        raise ValueError(f"more than {MAX_VALUES} values")
    outside = "".join(bare.split('"')[::2])
    if sum(map(outside.count, ",[{]}")) > 2 * MAX_VALUES or sum(map(outside.count, ",[{")) > MAX_VALUES:
        raise ValueError(f"more than {MAX_VALUES} values")
    depth = 0
    for bracket in _BRACKETS.findall(outside):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")


def _decode_integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an integer of more than {MAX_DIGITS} digits")
    return int(digits)


def _decode_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number out of range")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_int=_decode_integer, parse_float=_decode_float, parse_constant=_refuse_constant)
