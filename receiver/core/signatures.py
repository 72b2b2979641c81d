"""HMAC signatures over callbacks: several keys, a replay window, constant time. Pure.

Providers call it from `verify`, with the time as an argument. Whatever a header holds, nothing but `Forged` comes out
of a check; `standard_key` reads a setting and raises `ValueError`.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping

from receiver.core.errors import Forged

WINDOW_SECONDS = 300
"""How far a signature's time may lie from ours, either way: the tolerance of Standard Webhooks, and of public clients
of kie.ai, which gives none."""
LONGEST_TIME = 12
SCHEME = "whsec_"


def require_recent(time: str | None, now: int) -> str:
    """Return a signature's time (Unix seconds, as text) if it is within the window of `now` (Unix milliseconds).

    Raises `Forged`.
    """
    if time is None or not (time.isascii() and time.isdigit() and len(time) <= LONGEST_TIME):
        raise Forged("The signature's time is missing, or is no number of seconds.")
    if abs(int(time) * 1000 - now) > WINDOW_SECONDS * 1000:
        raise Forged("The signature is too old, or from the future.")
    return time


def require_signature(given: Iterable[str], signed: bytes, keys: Iterable[bytes]) -> None:
    """Check that one of these texts is the base64 of the HMAC-SHA256 over `signed` under one of these keys.

    Raises `Forged`. The texts are compared as they are, so that there is one spelling of a signature and no other.
    """
    candidates = [_bytes(text) for text in given]
    expected = [base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()) for key in keys]
    fits = [hmac.compare_digest(candidate, one) for candidate in candidates for one in expected]
    if not any(fits):
        raise Forged("The signature is missing or wrong.")


def require_standard(headers: Mapping[str, str], body: bytes, keys: Iterable[bytes], now: int) -> None:
    """Check a callback signed after Standard Webhooks, version `v1`; header names are in lower case.

    `webhook-signature` may list several signatures, parted by blanks. `now` is in Unix milliseconds. Raises `Forged`.
    """
    message = headers.get("webhook-id")
    if not message:
        raise Forged("The signature names no message.")
    time = require_recent(headers.get("webhook-timestamp"), now)
    listed = [part.split(",", 1) for part in headers.get("webhook-signature", "").split(" ")]
    given = [parts[1] for parts in listed if parts[0] == "v1" and len(parts) == 2]
    require_signature(given, b".".join((_bytes(message), time.encode(), body)), keys)


def standard_key(secret: str) -> bytes:
    """Read a secret of Standard Webhooks: base64 after `whsec_`, and without that prefix its text as it is.

    Raises `ValueError`, as settings are checked.
    """
    try:
        key = base64.b64decode(secret[len(SCHEME) :], validate=True) if secret.startswith(SCHEME) else secret.encode()
    except ValueError as error:
        raise ValueError(f"must be base64 after {SCHEME}") from error
    if not key:
        raise ValueError("must not be empty")
    return key


def _bytes(text: str) -> bytes:
    """Encode whatever a header holds: `compare_digest` takes no text beyond ASCII."""
    return text.encode("utf-8", "surrogatepass")
