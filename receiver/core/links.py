"""Signed texts: callback URLs, and tokens of the pages. One salt per purpose, SHA-256, rotating keys.

Only what a caller reads with a maximum age expires: a clock that was set back must never refuse a paid result.
A token has several spellings, so it is never used as a key.
"""

import hashlib
from collections.abc import Sequence

from itsdangerous import BadData, Signer, TimestampSigner

MAX_TOKEN_LENGTH = 512
CALLBACKS = "/callbacks"
NOT_FOUND = "There is nothing at this address."
"""The whole answer for a callback URL that is not one of ours."""


class Links:
    """Signs and reads callback URLs and other tokens."""

    def __init__(self, keys: Sequence[str], public_url: str | None) -> None:
        """Prepare for these keys (the first signs, all verify) and the URL under which providers reach us, if any."""
        self._keys = [key.encode() for key in reversed(keys)]  # itsdangerous signs with the last
        self._public_url = public_url
        self._signers: dict[str, Signer] = {}

    def callback_url(self, provider: str, task_id: str) -> str | None:
        """Return the callback URL of a task of this account; None without a public URL."""
        if self._public_url is None:
            return None
        token = self._callback_signer(provider).sign(task_id).decode()
        return f"{self._public_url}{CALLBACKS}/{provider}/{token}"

    def read_task_id(self, provider: str, token: str) -> str | None:
        """Return the task id in a callback token of this account, or None if it is not one."""
        if len(token) > MAX_TOKEN_LENGTH:
            return None
        try:
            return self._callback_signer(provider).unsign(token).decode()
        except (BadData, UnicodeError):
            return None

    def account_url(self, account: str) -> str | None:
        """Return the callback URL for a whole account; None without a public URL."""
        if self._public_url is None:
            return None
        token = self._account_signer().sign(account).decode()
        return f"{self._public_url}{CALLBACKS}/{account}/{token}"

    def is_account_token(self, account: str, token: str) -> bool:
        """Return whether a token is that of this account's callback URL."""
        if len(token) > MAX_TOKEN_LENGTH:
            return False
        try:
            return self._account_signer().unsign(token) == account.encode()
        except BadData:
            return False

    def sign_timed(self, purpose: str, value: str) -> str:
        """Return a text, signed for one purpose, with the time."""
        return self._timed_signer(purpose).sign(value).decode()

    def unsign_timed(self, purpose: str, text: str, seconds: float) -> str | None:
        """Return the text that was signed for this purpose at most so many seconds ago, or None."""
        if len(text) > MAX_TOKEN_LENGTH:
            return None
        try:
            return self._timed_signer(purpose).unsign(text, max_age=int(seconds)).decode()
        except (BadData, UnicodeError):
            return None

    def sign_text(self, purpose: str, value: str) -> str:
        """Return a text, signed for one purpose, without the time: the two sides' clocks may differ."""
        return self._text_signer(purpose).sign(value).decode()

    def unsign_text(self, purpose: str, text: str) -> str | None:
        """Return the text that was signed for this purpose, or None."""
        if len(text) > MAX_TOKEN_LENGTH:
            return None
        try:
            return self._text_signer(purpose).unsign(text).decode()
        except (BadData, UnicodeError):
            return None

    def _callback_signer(self, provider: str) -> Signer:
        signer = self._signers.get(provider)
        if signer is None:
            salt = f"receiver callback {provider}"
            signer = self._signers[provider] = Signer(
                self._keys, salt=salt, key_derivation="hmac", digest_method=hashlib.sha256
            )
        return signer

    def _account_signer(self) -> Signer:
        return Signer(self._keys, salt="receiver account callback", key_derivation="hmac", digest_method=hashlib.sha256)

    def _text_signer(self, purpose: str) -> Signer:
        return Signer(
            self._keys, salt=f"receiver sealed {purpose}", key_derivation="hmac", digest_method=hashlib.sha256
        )

    def _timed_signer(self, purpose: str) -> TimestampSigner:
        return TimestampSigner(
            self._keys, salt=f"receiver {purpose}", key_derivation="hmac", digest_method=hashlib.sha256
        )
