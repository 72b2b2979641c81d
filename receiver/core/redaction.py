"""Takes secrets out of what is shown: provider keys, callback tokens that providers echo, credentials in headers.

Whatever shows stored bytes (history, pages, command line) goes through here, and every line of the log. The stored
bytes stay as they came. A secret is known plain, as JSON, in a URL, in HTML, in base64 and in hexadecimal, and by its
beginning where a text was cut.
"""

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from html.entities import codepoint2name
from typing import Any
from urllib.parse import quote

REDACTED = "[redacted]"
SECRET_HEADER = re.compile(r"authori[sz]ation|cookie|api-?key|token|secret|password", re.IGNORECASE)
SHORTEST = 8
"""Characters of the shortest secret; what is shorter is none, and would spoil every text."""


def redact_values(value: Any, redact: Callable[[str], str]) -> Any:
    """Return a JSON value with every text in it redacted, names too; a number that is a secret becomes a text.

    What was serialised before would be no JSON any more where a secret consists of digits or of a piece of syntax.
    """
    if isinstance(value, dict):
        return {redact(str(name)): redact_values(inner, redact) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact_values(inner, redact) for inner in value]
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, int | float) and len(written := str(value)) >= SHORTEST:
        shown = redact(written)
        return value if shown == written else shown
    return value


def _spellings(character: str) -> str:
    """Match a character plain, escaped once or more (JSON inside JSON), as a JSON escape, percent-encoded, or as an
    entity of HTML."""
    if character.isascii() and character.isalnum():
        return character
    units = character.encode("utf-16-be", "surrogatepass").hex()
    escapes = "".join(rf"\\{{1,16}}u{units[i : i + 4]}" for i in range(0, len(units), 4))
    encoded = "".join(f"%(?:25){{0,4}}{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    code = ord(character)
    entity = rf"&(?:amp;){{0,4}}(?:#0{{0,4}}{code}|#x0{{0,4}}{code:x}|{codepoint2name.get(code, f'#{code}')});"
    return rf"(?:\\{{0,16}}{re.escape(character)}|(?i:{escapes}|{encoded}|{entity}))"


_SLASH = _spellings("/")
_HALF_AN_ESCAPE = r"((?:%(?:25){0,4}[0-9A-Fa-f]?|\\{1,16}(?:u[0-9A-Fa-f]{0,3})?|&[#0-9A-Za-z]{0,8})??)"
_CUT = re.compile(rf"{_HALF_AN_ESCAPE}(?:{_spellings('…')}|\Z)")
_ENTITY = r"&(?:amp;){0,4}#[0-9A-Fa-fx]{1,8};"
_TOKEN = re.compile(rf"(callbacks{_SLASH}(?:[A-Za-z0-9-]|{_ENTITY})+{_SLASH})(?:[A-Za-z0-9_.~%-]|{_ENTITY})+")
_SIGNED_ID = re.compile(r"(tsk_[0-9a-z]+\.)[A-Za-z0-9_-]{27,}")


def _aligned(text: bytes) -> Iterator[str]:
    """Write bytes in base64 as they look inside of longer base64, wherever they begin there."""
    for before, unsure in ((0, 0), (1, 2), (2, 3)):
        whole = base64.b64encode(bytes(before) + text).decode()
        yield whole.rstrip("=")[unsure : len(whole) if (before + len(text)) % 3 == 0 else -1]


def _in_base64(text: bytes) -> Iterator[str]:
    for plain in _aligned(text):
        yield from (plain, plain.replace("/", "\\/"), quote(plain, safe=""), plain.replace("+", "-").replace("/", "_"))


_CALLBACKS = b"/callbacks/"
_ENCODED_TOKEN = re.compile(
    rf"(?:{'|'.join(_aligned(_CALLBACKS))})[A-Za-z0-9+/_=-]*|(?i:{_CALLBACKS.hex()})[0-9A-Fa-f]*"
)


class Redactor:
    """Knows this service's secrets."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """Take the secrets; those shorter than `SHORTEST` are left out."""
        known = sorted({secret for secret in secrets if len(secret) >= SHORTEST}, key=len, reverse=True)
        self._secrets = re.compile("|".join("".join(map(_spellings, secret)) for secret in known)) if known else None
        raw = [secret.encode("utf-8", "surrogatepass") for secret in known]
        encoded = {code for secret in raw for code in (*_in_base64(secret), secret.hex(), secret.hex().upper())}
        self._encoded = sorted(encoded, key=len, reverse=True)
        self._characters = [[re.compile(_spellings(each)) for each in secret] for secret in known]
        beginnings = dict.fromkeys("".join(map(_spellings, secret[:SHORTEST])) for secret in known)
        self._beginnings = re.compile("|".join(beginnings))

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        text = _TOKEN.sub(rf"\g<1>{REDACTED}", text)
        return self.url(_ENCODED_TOKEN.sub(REDACTED, text))

    def url(self, url: str) -> str:
        """Return a result's URL without secrets; whatever else is in it stays, for it has to work."""
        if self._secrets is not None:
            url = self._secrets.sub(REDACTED, url)
            for code in self._encoded:
                url = url.replace(code, REDACTED)
            url = self._without_cut(url)
        return _SIGNED_ID.sub(rf"\g<1>{REDACTED}", url)

    def value(self, value: Any) -> Any:
        """Return a JSON value without secrets."""
        return redact_values(value, self.text)

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return headers without secrets."""
        return {name: REDACTED if SECRET_HEADER.search(name) else self.text(value) for name, value in headers.items()}

    def _without_cut(self, text: str) -> str:
        """Take away beginnings of secrets after which a text was cut: at its end, or before an ellipsis."""
        kept, after = [], 0
        for found in self._beginnings.finditer(text):
            ends = (_cut(characters, text, found.start()) for characters in self._characters)
            end = next((end for end in ends if end is not None), None)
            if end is not None:
                kept += [text[after : found.start()], REDACTED]
                after = end
        return "".join([*kept, text[after:]]) if kept else text


def _cut(characters: Iterable[re.Pattern[str]], text: str, at: int) -> int | None:
    """Follow a secret from its beginning; return where the text was cut in it, None where it goes on otherwise."""
    for number, character in enumerate(characters):
        if number >= SHORTEST and (cut := _CUT.match(text, at)):
            return cut.end(1)
        step = character.match(text, at)
        if step is None:
            return None
        at = step.end()
    return None
