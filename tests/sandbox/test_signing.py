"""Signatures, held against vectors that others have made."""

import base64

from receiver.sandbox.signing import new_secret, sign_for_kie, sign_standard_webhook


def test_kies_signature_covers_id_and_time_and_nothing_else() -> None:
    body = {"code": 200, "data": {"taskId": "e989621f54392584b05867f87b160672", "state": "success"}}
    assert sign_for_kie(body, b"anything", "test-webhook-hmac-key", 1769670760.9) == {
        "X-Webhook-Timestamp": "1769670760",
        "X-Webhook-Signature": "QUC21Q09sGCd3KI0Jws6WObnYR1cS1LLF4DL3Pwkz64=",
    }


def test_a_standard_webhook_is_signed_as_its_specification_has_it() -> None:
    secret, raw = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    assert sign_standard_webhook({"id": "msg_p5jXN8AQM9LWM0D4loKWxJek"}, raw, secret, 1614265330.0) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_new_secret_holds_a_key_of_24_bytes() -> None:
    secret = new_secret()
    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 24
    assert secret != new_secret()
