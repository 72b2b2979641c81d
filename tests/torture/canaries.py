"""Secrets that can be told apart, how others write them, and where they come to light.

The heart of each is twelve random bytes in hexadecimal, which no escaping changes: half of it is found as well as all,
plain, in capitals, in base64 and in hexadecimal of its own.
"""

import base64
import html
import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

HALF = 12
SPECIAL = "+/=&%41\\\"'~"
"""What escaping changes; printable ASCII, no comma, which parts secrets in a setting, and nothing like a tag."""


def canary(name: str) -> str:
    """Make a secret that can be told from all others."""
    return f"{name}-{secrets.token_hex(12)}{SPECIAL}"


def php(text: str) -> str:
    """Write JSON as PHP does: slashes escaped."""
    return json.dumps(text).replace("/", "\\/")


def spellings(secret: str) -> list[str]:
    """Write a secret in every way in which a provider or a proxy may echo it."""
    raw = secret.encode()
    return [
        secret,
        json.dumps(secret),
        php(secret),
        json.dumps({"param": php(secret)}),
        quote(secret, safe=""),
        quote(quote(secret, safe=""), safe="").lower(),
        html.escape(secret),
        base64.b64encode(raw).decode(),
        base64.b64encode(b"Bearer " + raw).decode(),
        php(base64.b64encode(b"x:" + raw).decode()),
        base64.urlsafe_b64encode(raw).decode().rstrip("="),
        raw.hex(),
        raw.hex().upper(),
    ]


@dataclass(frozen=True)
class Canaries:
    """The secrets of one run, by name, and what of them is looked for."""

    hearts: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def plant(self, name: str) -> str:
        """Make one more."""
        made = canary(name.lower().replace("_", "-"))
        self.watch(name, re.findall(r"-([0-9a-f]{24})", made)[0])
        return made

    def watch(self, name: str, heart: str) -> None:
        """Look for what was not made here: a signature, a cookie. Only its random part is given."""
        self.hearts[name] = tuple(dict.fromkeys(_needles(heart)))

    def in_text(self, text: str) -> set[str]:
        """Name the secrets that a text holds, or half of them."""
        return {name for name, needles in self.hearts.items() if any(needle in text for needle in needles)}

    def in_places(self, places: Mapping[str, str]) -> dict[str, set[str]]:
        """Name the secrets in each place that holds any."""
        return {place: names for place, text in places.items() if (names := self.in_text(text))}


def _needles(heart: str) -> Iterator[str]:
    for half in (heart[:HALF], heart[-HALF:]):
        yield from (half, half.encode().hex(), half.encode().hex().upper())
        yield from _aligned(half)
        if re.fullmatch(r"[0-9a-f]+", heart):
            yield half.upper()


def _aligned(text: str) -> Iterable[str]:
    """What base64 makes of a text inside of a longer one, for each of the three places where it may begin."""
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + text.encode()).decode().rstrip("=")
        yield whole[-(-before * 8 // 6) : -1]
