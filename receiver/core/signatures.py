"""HMAC signatures of callbacks, and of our own messages: several keys, a replay window, constant time. Pure.

Providers call it from `verify` with the current time, notifications to sign. Whatever a header holds, a check raises
only `Forged`.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping

from receiver.core.errors import Forged

WINDOW_SECONDS = 300
"""How far a signature's time may be from ours, either way. Standard Webhooks says so; for kie.ai, which says nothing,
its public clients do."""
MAX_TIMESTAMP_DIGITS = 12
SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with


def require_recent(time: str | None, now: int) -> str:
    """Return a signature's time (Unix seconds, as text) if it is within the window of `now` (Unix milliseconds).

    Raises `Forged`.
    """
    if time is None or not (time.isascii() and time.isdigit() and len(time) <= MAX_TIMESTAMP_DIGITS):
        raise Forged("The signature's time is missing or is not a number of seconds.")
    if abs(int(time) * 1000 - now) > WINDOW_SECONDS * 1000:
        raise Forged("The signature's time is too far from ours.")
    return time


def require_signature(given: Iterable[str], signed: bytes, keys: Iterable[bytes]) -> None:
    """Raise `Forged` unless one of these texts is the base64 HMAC-SHA256 of `signed` under one of these keys.

    The texts are compared undecoded, so that each signature has only one spelling.
    """
    candidates = [_bytes(text) for text in given]
    expected = [_sign(signed, key) for key in keys]
    fits = [hmac.compare_digest(candidate, one) for candidate in candidates for one in expected]
    if not any(fits):
        raise Forged("The signature is missing or wrong.")


def require_standard_webhook(headers: Mapping[str, str], body: bytes, keys: Iterable[bytes], now: int) -> None:
    """Raise `Forged` unless a callback is signed after Standard Webhooks, version `v1`.

    Header names are in lower case. `webhook-signature` may hold several signatures, separated by spaces. `now` is in
    Unix milliseconds.
    """
    message = headers.get("webhook-id")
    if not message:
        raise Forged("The signature's webhook-id is missing.")
    time = require_recent(headers.get("webhook-timestamp"), now)
    listed = [part.split(",", 1) for part in headers.get("webhook-signature", "").split(" ")]
    given = [parts[1] for parts in listed if parts[0] == "v1" and len(parts) == 2]
    require_signature(given, b".".join((_bytes(message), time.encode(), body)), keys)


def sign_standard_webhook(message_id: str, seconds: int, body: bytes, keys: Iterable[bytes]) -> dict[str, str]:
    """Return the headers of a message after Standard Webhooks, with one `v1` signature for each key.

    `seconds` is the time of this try, in Unix seconds.
    """
    signed = b".".join((_bytes(message_id), str(seconds).encode(), body))
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(f"v1,{_sign(signed, key).decode()}" for key in keys),
    }


def parse_webhook_secret(secret: str) -> bytes:
    """Return the key in a Standard Webhooks secret: base64 after `whsec_`, else the text itself.

    Raises `ValueError`.
    """
    try:
        key = (
            base64.b64decode(secret[len(SECRET_PREFIX) :], validate=True)
            if secret.startswith(SECRET_PREFIX)
            else secret.encode()
        )
    except ValueError as error:
        raise ValueError(f"must be base64 after {SECRET_PREFIX}") from error
    if not key:
        raise ValueError("must not be empty")
    return key


def require_webhook_secret(secret: str) -> None:
    """Raise `ValueError` unless a secret of our own is written as Standard Webhooks wants it."""
    if not secret.startswith(SECRET_PREFIX):
        raise ValueError(f"must begin with {SECRET_PREFIX}, followed by base64")
    parse_webhook_secret(secret)


def _sign(signed: bytes, key: bytes) -> bytes:
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())


def _bytes(text: str) -> bytes:
    """Return a header's text as bytes: `compare_digest` accepts only ASCII text."""
    return text.encode("utf-8", "surrogatepass")
