"""Hostile bytes in, plain values out: the one strict JSON reader, and the readings of fields that providers share.

Every provider file, the inbox and our own API read through here. Nothing in this module raises anything but
`Unreadable`, whatever it is fed, and nothing here knows a provider.
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
"""Commas and opening brackets outside of texts; real messages have under a thousand, and each costs time and memory."""
MAX_DIGITS = 400
"""Digits of one integer; the interpreter refuses above 4,300 and slows down long before."""
MAX_URL = 8192
MAX_IDENTIFIER = 512
MILLISECONDS_FROM = 10**11
"""Numbers from here on are milliseconds: as seconds they would lie beyond the year 5100."""
MAX_CREDITS = 1e12


def read_json(data: bytes | str) -> Any:
    """Read one JSON text: UTF-8 (a byte-order mark is allowed), finite numbers, bounded depth, values and digits.

    Of duplicate keys the last wins. Raises `Unreadable` for everything else.
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
    """Read one JSON object, also one that was encoded twice; raises `Unreadable` for anything else."""
    value = read_nested(read_json(data))
    if not isinstance(value, dict):
        raise Unreadable("JSON, but not an object")
    return value


def read_message(data: bytes) -> dict[str, Any]:
    """Read what a provider says: one object, the first of a list of objects, or either as a text within a text.

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
    """Read JSON inside JSON: a text, a text encoded twice, an object or list as it is; empty or null is None.

    Raises `Unreadable` where the text is broken.
    """
    for _ in range(2):
        if not isinstance(value, str):
            break
        if not value.strip():
            return None
        value = read_json(value)
    return value


def mapping(value: Any) -> Mapping[str, Any]:
    """Take an object as it is, and anything else as an empty one."""
    return value if isinstance(value, dict) else {}


def text(value: Any, limit: int = 2000) -> str | None:
    """Take a non-empty text or a number as clean text of at most `limit` characters; anything else is None."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    # Cut first: cleaning takes time, and what a stranger sends is as long as he likes.
    return clean(cut(str(value).strip(), limit)).strip() or None


def cut(value: str, limit: int) -> str:
    """Cut a text to at most `limit` characters, and show that it was: `redaction` looks there for half a secret."""
    return value if len(value) <= limit else f"{value[: limit - 1].rstrip()}…"


def clean(value: str) -> str:
    """Replace what one database or the other refuses: lone surrogates and NUL become U+FFFD."""
    if value.isascii() and "\0" not in value:
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")


def identifier(value: Any) -> str | None:
    """Take a provider's id as text: texts and whole numbers of any size, but nothing empty or over-long."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    found = str(value).strip()
    return clean(found) if 0 < len(found) <= MAX_IDENTIFIER else None


def first(source: Mapping[str, Any], *keys: str) -> Any:
    """Take the first of these keys whose value is neither missing, null nor empty text."""
    for key in keys:
        value = source.get(key)
        if value is not None and value != "":
            return value
    return None


def moment(value: Any) -> int | None:
    """Read a time as Unix milliseconds: seconds or milliseconds by magnitude, ISO 8601, or naive text taken as UTC.

    0, empty, null and anything unreadable is None.
    """
    if isinstance(value, str):
        return _moment_of_text(value.strip())
    number = finite(value)
    return None if number is None else _plausible(number if number >= MILLISECONDS_FROM else number * 1000)


def http_date(value: str) -> float | None:
    """Take a date of an HTTP header as Unix seconds."""
    try:
        date = parsedate_to_datetime(value)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None


def progress(value: Any) -> float | None:
    """Read progress as 0 to 1 from `"93%"`, `93`, `0.46` or `"0.50"`; anything else is None.

    Whole numbers are per cent; numbers with a point are fractions up to 1 and per cent above.
    """
    if isinstance(value, str):
        per_cent = value.strip().endswith("%")
        number = _number(value.strip().removesuffix("%"))
        fraction = "." in value and not per_cent
    else:
        number, per_cent, fraction = finite(value), False, isinstance(value, float)
    if number is None or number < 0:
        return None
    return min(number if fraction and number <= 1 else number / 100, 1.0)


def finite(value: Any) -> float | int | None:
    """Take a finite number as it is; booleans, texts and everything else are None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None


def whole(value: Any) -> int | None:
    """Read a whole number of up to nine digits, also from text; anything else is None."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value) if len(value) < 10 else None
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**9 else None


def credit(value: Any) -> float | None:
    """Read an amount of credits, also from text; out-of-range amounts are None."""
    number = _number(value) if isinstance(value, str) else finite(value)
    return float(number) if number is not None and abs(number) <= MAX_CREDITS else None


def strings(value: Any) -> list[Any]:
    """Take a list as it is, a lone text as a list of one, and anything else as empty."""
    if isinstance(value, list):
        return value
    return [value] if isinstance(value, str) else []


def _number(value: str) -> float | None:
    if len(value) > 40 or not value.isascii():
        return None
    try:
        return finite(float(value))
    except ValueError:
        return None


def _moment_of_text(value: str) -> int | None:
    number = _number(value)
    if number is not None:
        return moment(number)
    try:
        parsed = datetime.fromisoformat(value)
        return _plausible((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def _plausible(milliseconds: float) -> int | None:
    return int(milliseconds) if 1 <= milliseconds < MILLISECONDS_FROM * 1000 else None


_BRACKETS = re.compile(r"[\[{\]}]")


def _check_shape(text: str) -> None:
    """Refuse too much depth or too many values before anything is made of them; exact for what the decoder accepts."""
    if text.count("\\") > 30 * MAX_VALUES:  # a large text in a text has more of them than values
        raise ValueError(f"more than {MAX_VALUES} values")
    bare = text.replace("\\\\", "").replace('\\"', "")  # what is left of a text's escapes holds no quote
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


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an integer of more than {MAX_DIGITS} digits")
    return int(digits)


def _real(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number out of range")
    return number


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_real, parse_constant=_constant)
