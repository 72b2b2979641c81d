"""Hand a reference file to a provider that takes files. Nothing is stored here: the answer says what an order needs.

The API and the command line call it. What the provider is known to refuse is refused before anything is sent.
"""

import secrets
from dataclasses import dataclass
from typing import BinaryIO

import httpx

from receiver.errors import Conflict, Fault, Invalid, ProviderError, Refused, Unreadable
from receiver.providers.base import FileLimit, Provider, Upload, Uploaded, Uploads
from receiver.services import Services


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file that somebody wants to use in an order; `content` is open for reading."""

    provider: str
    model: str
    kind: str
    name: str
    mime_type: str
    size: int
    content: BinaryIO


async def upload(services: Services, new: NewFile) -> Uploaded:
    """Stream a file to its provider.

    Raises `Invalid` for what would be refused, `Conflict` where the provider refused or gave no usable answer.
    """
    provider = services.provider(new.provider)
    check(provider, new)
    if not isinstance(provider, Uploads):
        raise TypeError(new.provider)  # `check` has refused it
    file = Upload(f"file_{secrets.token_hex(8)}", new.kind, new.model, new.name, new.mime_type, new.size, new.content)
    try:
        return await services.outbound.run(new.provider, provider.upload(file), answered=_ignore)
    except Refused as error:
        raise Conflict(f"{new.provider} refused the file: {services.redactor.text(str(error))}") from error
    except (ProviderError, Unreadable) as error:
        words = services.redactor.text(str(error))
        raise Conflict(f"{new.provider} did not take the file: {words}. An upload buys nothing: try again.") from error


def check(provider: Provider, new: NewFile) -> None:
    """Check a file against its provider's limits; raises `Invalid`."""
    limit = limit_of(provider, new.kind)
    if not limit.takes(new.mime_type):
        taken = ", ".join(limit.mime_types)
        raise _invalid("file", f'is "{new.mime_type[:60]}"; of the kind {new.kind} are taken: {taken}')
    if new.size == 0:
        raise _invalid("file", "is empty")
    if new.size > limit.max_bytes:
        raise _invalid("file", f"has {new.size} bytes; of the kind {new.kind} at most {limit.max_bytes} are taken")


def limit_of(provider: Provider, kind: str) -> FileLimit:
    """Return what a provider takes of a kind; raises `Invalid` where it takes no files, or none of this kind."""
    if not isinstance(provider, Uploads):
        raise _invalid("provider", f"{provider.name} documents no uploads: name a public URL in the order's input")
    limit = provider.file_limits.get(kind)
    if limit is None:
        raise _invalid("kind", f'must be one of: {", ".join(provider.file_limits)}, not "{kind[:60]}"')
    return limit


def largest(services: Services) -> int:
    """Return the most bytes that any configured provider takes of any kind."""
    able = [provider for provider in services.providers.values() if isinstance(provider, Uploads)]
    return max((limit.max_bytes for provider in able for limit in provider.file_limits.values()), default=0)


def _invalid(place: str, words: str) -> Invalid:
    return Invalid([Fault((place,), words)])


def _ignore(_answer: httpx.Response) -> None:
    """Keep nothing of the answer."""
