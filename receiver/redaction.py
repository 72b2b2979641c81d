"""Takes secrets out of what is shown: provider keys, callback tokens that providers echo, credentials in headers.

Whatever shows stored bytes (history, pages, command line) goes through here. The stored bytes stay as they came.
"""

import re
from collections.abc import Iterable, Mapping

REDACTED = "[redacted]"
SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key"})


def _spellings(character: str) -> str:
    """Match a character plain, escaped once or more (JSON inside JSON), as a JSON escape, or percent-encoded."""
    if character.isascii() and character.isalnum():
        return character
    units = character.encode("utf-16-be", "surrogatepass").hex()
    escapes = "".join(rf"\\{{1,16}}u{units[i : i + 4]}" for i in range(0, len(units), 4))
    encoded = "".join(f"%(?:25){{0,4}}{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    return rf"(?:\\{{0,16}}{re.escape(character)}|(?i:{escapes}|{encoded}))"


_SLASH = _spellings("/")
_TOKEN = re.compile(rf"(callbacks{_SLASH}[A-Za-z0-9-]+{_SLASH})[A-Za-z0-9_.~%-]+")


class Redactor:
    """Knows this service's secrets."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """Take the secrets; very short ones are no secrets and would spoil every text."""
        known = sorted({secret for secret in secrets if len(secret) >= 8}, key=len, reverse=True)
        self._secrets = re.compile("|".join("".join(map(_spellings, secret)) for secret in known)) if known else None

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        if self._secrets is not None:
            text = self._secrets.sub(REDACTED, text)
        return _TOKEN.sub(rf"\g<1>{REDACTED}", text)

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return headers without secrets."""
        return {
            name: REDACTED if name.lower() in SECRET_HEADERS else self.text(value) for name, value in headers.items()
        }
