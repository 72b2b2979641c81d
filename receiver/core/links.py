"""Signed texts: callback URLs, and what the pages hand out. One salt per purpose, SHA-256, rotating keys.

Nothing here expires by itself except where a caller asks for it: a clock that is stepped back must never refuse a
paid result. A token's text is malleable, so it is never used as a key.
"""

import hashlib
from collections.abc import Sequence

from itsdangerous import BadData, Signer, TimestampSigner

LONGEST_TOKEN = 512
CALLBACKS = "/callbacks"
NOWHERE = "There is nothing at this address."
"""All that is told of a callback URL that is not one of ours."""


class Links:
    """Makes and reads the URLs that we give to providers."""

    def __init__(self, keys: Sequence[str], public_url: str | None) -> None:
        """Take the keys (the first signs, all verify) and the URL under which providers reach us, if any."""
        self._keys = [key.encode() for key in reversed(keys)]  # itsdangerous signs with the last
        self._public_url = public_url
        self._signers: dict[str, Signer] = {}

    def callback_url(self, provider: str, task_id: str) -> str | None:
        """Return the URL that calls back to a task of this provider account; None without a public URL."""
        if self._public_url is None:
            return None
        token = self._signer(provider).sign(task_id).decode()
        return f"{self._public_url}{CALLBACKS}/{provider}/{token}"

    def task_of(self, provider: str, token: str) -> str | None:
        """Return the task id in a callback token of this provider account, or None where it is no such token."""
        if len(token) > LONGEST_TOKEN:
            return None
        try:
            return self._signer(provider).unsign(token).decode()
        except (BadData, UnicodeError):
            return None

    def account_url(self, account: str) -> str | None:
        """Return the URL for providers that know one webhook for a whole account; None without a public URL."""
        if self._public_url is None:
            return None
        token = self._account_signer().sign(account).decode()
        return f"{self._public_url}{CALLBACKS}/{account}/{token}"

    def is_account(self, account: str, token: str) -> bool:
        """Tell whether a token is the one of this account's webhook."""
        if len(token) > LONGEST_TOKEN:
            return False
        try:
            return self._account_signer().unsign(token) == account.encode()
        except BadData:
            return False

    def sign(self, purpose: str, value: str) -> str:
        """Sign a text for one purpose, with the time."""
        return self._dated(purpose).sign(value).decode()

    def read(self, purpose: str, text: str, seconds: float) -> str | None:
        """Return the text signed for this purpose at most so many seconds ago, or None."""
        if len(text) > LONGEST_TOKEN:
            return None
        try:
            return self._dated(purpose).unsign(text, max_age=int(seconds)).decode()
        except (BadData, UnicodeError):
            return None

    def seal(self, purpose: str, value: str) -> str:
        """Sign a text for one purpose, without the time: the two sides' clocks may differ."""
        return self._sealer(purpose).sign(value).decode()

    def unseal(self, purpose: str, text: str) -> str | None:
        """Return the text sealed for this purpose, or None."""
        if len(text) > LONGEST_TOKEN:
            return None
        try:
            return self._sealer(purpose).unsign(text).decode()
        except (BadData, UnicodeError):
            return None

    def _signer(self, provider: str) -> Signer:
        signer = self._signers.get(provider)
        if signer is None:
            salt = f"receiver callback {provider}"
            signer = self._signers[provider] = Signer(
                self._keys, salt=salt, key_derivation="hmac", digest_method=hashlib.sha256
            )
        return signer

    def _account_signer(self) -> Signer:
        return Signer(self._keys, salt="receiver account callback", key_derivation="hmac", digest_method=hashlib.sha256)

    def _sealer(self, purpose: str) -> Signer:
        return Signer(
            self._keys, salt=f"receiver sealed {purpose}", key_derivation="hmac", digest_method=hashlib.sha256
        )

    def _dated(self, purpose: str) -> TimestampSigner:
        return TimestampSigner(
            self._keys, salt=f"receiver {purpose}", key_derivation="hmac", digest_method=hashlib.sha256
        )
