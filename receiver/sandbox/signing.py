"""How callbacks are signed: kie's way, and Standard Webhooks as the likely way of Rivya.

The families name the scheme, the courier applies it at the moment of each try. Pure.
"""

import base64
import hashlib
import hmac
import secrets

from receiver.sandbox.family import JSON

SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with
SECRET_BYTES = 24


def new_secret() -> str:
    """A signing secret of Standard Webhooks: the prefix and the key in base64."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def kie_seal(body: JSON, _raw: bytes, key: str, now: float) -> dict[str, str]:
    """The page on webhook verification: id and time are signed, the rest of the body is not."""
    timestamp = str(int(now))
    signed = f"{body['data']['taskId']}.{timestamp}"
    return {"X-Webhook-Timestamp": timestamp, "X-Webhook-Signature": _mac(key.encode(), signed.encode())}


def standard_seal(body: JSON, raw: bytes, key: str, now: float) -> dict[str, str]:
    """Standard Webhooks: the event's id, the time and the bytes that are sent, under the key behind the prefix."""
    event_id, timestamp = str(body["id"]), str(int(now))
    signature = _mac(base64.b64decode(key.removeprefix(SECRET_PREFIX)), f"{event_id}.{timestamp}.".encode() + raw)
    return {"webhook-id": event_id, "webhook-timestamp": timestamp, "webhook-signature": f"v1,{signature}"}


def _mac(key: bytes, signed: bytes) -> str:
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
