"""How callbacks are signed: kie's way, and Standard Webhooks as the likely way of Rivya.

The families name the scheme, `posts` applies it for each try. Pure.
"""

import base64
import hashlib
import hmac
import secrets

from receiver.sandbox.family import JSON

SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with
SECRET_BYTES = 24


def new_secret() -> str:
    """Return a signing secret of Standard Webhooks: the prefix and the key in base64."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def sign_for_kie(body: JSON, _raw: bytes, key: str, now: float) -> dict[str, str]:
    """Return the page on webhook verification: id and time are signed, the rest of the body is not."""
    timestamp = str(int(now))
    signed = f"{body['data']['taskId']}.{timestamp}"
    return {"X-Webhook-Timestamp": timestamp, "X-Webhook-Signature": _mac(key.encode(), signed.encode())}


def sign_standard_webhook(body: JSON, raw: bytes, key: str, now: float) -> dict[str, str]:
    """Return Standard Webhooks headers: they sign the event's id, the time and the body's bytes."""
    event_id, timestamp = str(body["id"]), str(int(now))
    signature = _mac(base64.b64decode(key.removeprefix(SECRET_PREFIX)), f"{event_id}.{timestamp}.".encode() + raw)
    return {"webhook-id": event_id, "webhook-timestamp": timestamp, "webhook-signature": f"v1,{signature}"}


def _mac(key: bytes, signed: bytes) -> str:
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
