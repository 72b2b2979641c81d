"""Removes secrets from output: provider keys, callback tokens that providers echo, credentials in headers.

History, pages, command line and log show stored bytes only through here; the stored bytes stay as they are. A secret is
found in plain text, JSON, URLs, HTML, base64 and hexadecimal, and by its beginning where a text was truncated.
"""

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from html.entities import codepoint2name
from typing import Any
from urllib.parse import quote

REDACTED = "[redacted]"
SECRET_HEADER = re.compile(r"authori[sz]ation|cookie|api-?key|token|secret|password", re.IGNORECASE)
MIN_SECRET_LENGTH = 8
"""Shorter texts are not redacted: they occur everywhere by chance."""


def redact_values(value: Any, redact: Callable[[str], str]) -> Any:
    """Return a JSON value with every string in it redacted, names too; a number that is a secret becomes a string.

    Redacting serialised JSON would break it where a secret consists of digits or of syntax.
    """
    if isinstance(value, dict):
        return {redact(str(name)): redact_values(inner, redact) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact_values(inner, redact) for inner in value]
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, int | float) and len(written := str(value)) >= MIN_SECRET_LENGTH:
        shown = redact(written)
        return value if shown == written else shown
    return value


def _spelling_pattern(character: str) -> str:
    """Return a pattern for a character in every spelling: plain, escaped once or more, percent-encoded, HTML entity."""
    if character.isascii() and character.isalnum():
        return character
    units = character.encode("utf-16-be", "surrogatepass").hex()
    escapes = "".join(rf"\\{{1,16}}u{units[i : i + 4]}" for i in range(0, len(units), 4))
    encoded = "".join(f"%(?:25){{0,4}}{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    code = ord(character)
    entity = rf"&(?:amp;){{0,4}}(?:#0{{0,4}}{code}|#x0{{0,4}}{code:x}|{codepoint2name.get(code, f'#{code}')});"
    return rf"(?:\\{{0,16}}{re.escape(character)}|(?i:{escapes}|{encoded}|{entity}))"


_SLASH = _spelling_pattern("/")
_PARTIAL_ESCAPE = r"((?:%(?:25){0,4}[0-9A-Fa-f]?|\\{1,16}(?:u[0-9A-Fa-f]{0,3})?|&[#0-9A-Za-z]{0,8})??)"
_CUT = re.compile(rf"{_PARTIAL_ESCAPE}(?:{_spelling_pattern('…')}|\Z)")
_ENTITY = r"&(?:amp;){0,4}#[0-9A-Fa-fx]{1,8};"
_TOKEN = re.compile(rf"(callbacks{_SLASH}(?:[A-Za-z0-9-]|{_ENTITY})+{_SLASH})(?:[A-Za-z0-9_.~%-]|{_ENTITY})+")
_SIGNED_ID = re.compile(r"(tsk_[0-9a-z]+\.)[A-Za-z0-9_-]{27,}")


def _base64_alignments(text: bytes) -> Iterator[str]:
    """Return what bytes look like inside longer base64, for each of the three places where they may begin."""
    for before, unsure in ((0, 0), (1, 2), (2, 3)):
        whole = base64.b64encode(bytes(before) + text).decode()
        yield whole.rstrip("=")[unsure : len(whole) if (before + len(text)) % 3 == 0 else -1]


def _base64_spellings(text: bytes) -> Iterator[str]:
    for plain in _base64_alignments(text):
        yield from (plain, plain.replace("/", "\\/"), quote(plain, safe=""), plain.replace("+", "-").replace("/", "_"))


_CALLBACKS = b"/callbacks/"
_ENCODED_TOKEN = re.compile(
    rf"(?:{'|'.join(_base64_alignments(_CALLBACKS))})[A-Za-z0-9+/_=-]*|(?i:{_CALLBACKS.hex()})[0-9A-Fa-f]*"
)


class Redactor:
    """Removes this service's secrets."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """Prepare for these secrets; those shorter than `MIN_SECRET_LENGTH` are left out."""
        known = sorted({secret for secret in secrets if len(secret) >= MIN_SECRET_LENGTH}, key=len, reverse=True)
        self._secrets = (
            re.compile("|".join("".join(map(_spelling_pattern, secret)) for secret in known)) if known else None
        )
        raw = [secret.encode("utf-8", "surrogatepass") for secret in known]
        encoded = {code for secret in raw for code in (*_base64_spellings(secret), secret.hex(), secret.hex().upper())}
        self._encoded = sorted(encoded, key=len, reverse=True)
        self._characters = [[re.compile(_spelling_pattern(each)) for each in secret] for secret in known]
        beginnings = dict.fromkeys("".join(map(_spelling_pattern, secret[:MIN_SECRET_LENGTH])) for secret in known)
        self._prefixes = re.compile("|".join(beginnings))

    def redact_text(self, text: str) -> str:
        """Return a text without secrets."""
        text = _TOKEN.sub(rf"\g<1>{REDACTED}", text)
        return self.redact_url(_ENCODED_TOKEN.sub(REDACTED, text))

    def redact_url(self, url: str) -> str:
        """Return a result's URL without secrets, and otherwise unchanged: it has to work."""
        if self._secrets is not None:
            url = self._secrets.sub(REDACTED, url)
            for code in self._encoded:
                url = url.replace(code, REDACTED)
            url = self._redact_truncated(url)
        return _SIGNED_ID.sub(rf"\g<1>{REDACTED}", url)

    def redact_value(self, value: Any) -> Any:
        """Return a JSON value without secrets."""
        return redact_values(value, self.redact_text)

    def redact_headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return headers without secrets."""
        return {
            name: REDACTED if SECRET_HEADER.search(name) else self.redact_text(value) for name, value in headers.items()
        }

    def _redact_truncated(self, text: str) -> str:
        """Return a text without beginnings of secrets that were truncated: at its end, or before an ellipsis."""
        kept, after = [], 0
        for found in self._prefixes.finditer(text):
            ends = (_find_truncation(characters, text, found.start()) for characters in self._characters)
            end = next((end for end in ends if end is not None), None)
            if end is not None:
                kept += [text[after : found.start()], REDACTED]
                after = end
        return "".join([*kept, text[after:]]) if kept else text


def _find_truncation(characters: Iterable[re.Pattern[str]], text: str, at: int) -> int | None:
    """Return where a text was truncated within a secret that begins at `at`; None if something else follows."""
    for number, character in enumerate(characters):
        if number >= MIN_SECRET_LENGTH and (cut := _CUT.match(text, at)):
            return cut.end(1)
        step = character.match(text, at)
        if step is None:
            return None
        at = step.end()
    return None
