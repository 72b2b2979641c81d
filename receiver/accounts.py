"""What a provider account is asked that is about no task: its balance, a place for a reference file, a webhook.

The API, the pages and the command line call it; nothing is stored but a webhook's signing secret.
"""

import secrets
from dataclasses import dataclass
from typing import BinaryIO

import httpx

from receiver.config.keys import store_webhook_secret
from receiver.core.errors import ConfigError, Conflict, Fault, Invalid, NotFound, ProviderError, Refused, Unreadable
from receiver.providers.base import AcceptsUploads, FileLimit, HasBalance, Provider, RegistersWebhooks, Upload, Uploaded
from receiver.services import Services


async def balance(services: Services, account: str) -> float:
    """Return the credits that are left, in the provider's own unit.

    Raises `NotFound` for no such account, `Conflict` where the provider has no such call or gave no usable answer.
    """
    provider = services.providers.get(account)
    if provider is None:
        raise NotFound(f"There is no provider account {account[:60]}.")
    if not isinstance(provider, HasBalance):
        raise Conflict(f"{account} documents no call for its balance.")
    try:
        return await services.outbound.run(account, provider.balance(), on_answer=_ignore)
    except (ProviderError, Unreadable) as error:
        raise Conflict(f"{account} did not tell its balance: {services.redactor.redact_text(str(error))}") from error


async def register(services: Services, account: str) -> str:
    """Create the webhook endpoint and keep its signing secret; returns the endpoint's id.

    Raises `Invalid` for no such account, `ConfigError` without a public URL, `Conflict` where the provider has no
    such webhooks or refused.
    """
    provider = services.provider(account)
    url = services.links.account_url(account)
    if url is None:
        raise ConfigError("RECEIVER_PUBLIC_URL: is needed; for example RECEIVER_PUBLIC_URL=https://hooks.example.com")
    if not isinstance(provider, RegistersWebhooks):
        raise Conflict(f"{account} has no webhooks for a whole account: its tasks name their own callback URLs.")
    try:
        made = await services.outbound.run(account, provider.register_webhook(url), on_answer=_ignore)
    except (ProviderError, Unreadable) as error:
        raise Conflict(f"{account} did not register it: {services.redactor.redact_text(str(error))}") from error
    store_webhook_secret(services.settings, account, made.secret)
    return made.id


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
    check_file(provider, new)
    if not isinstance(provider, AcceptsUploads):
        raise TypeError(new.provider)  # `check_file` has refused it
    file = Upload(f"file_{secrets.token_hex(8)}", new.kind, new.model, new.name, new.mime_type, new.size, new.content)
    try:
        return await services.outbound.run(new.provider, provider.upload(file), on_answer=_ignore)
    except Refused as error:
        raise Conflict(f"{new.provider} refused the file: {services.redactor.redact_text(str(error))}") from error
    except (ProviderError, Unreadable) as error:
        words = services.redactor.redact_text(str(error))
        raise Conflict(f"{new.provider} did not take the file: {words}. An upload buys nothing: try again.") from error


def check_file(provider: Provider, new: NewFile) -> None:
    """Check a file against its provider's limits; raises `Invalid`."""
    limit = limit_of(provider, new.kind)
    if not limit.accepts(new.mime_type):
        taken = ", ".join(limit.mime_types)
        raise _invalid("file", f'is "{new.mime_type[:60]}"; of the kind {new.kind} are taken: {taken}')
    if new.size == 0:
        raise _invalid("file", "is empty")
    if new.size > limit.max_bytes:
        raise _invalid("file", f"has {new.size} bytes; of the kind {new.kind} at most {limit.max_bytes} are taken")


def limit_of(provider: Provider, kind: str) -> FileLimit:
    """Return what a provider takes of a kind; raises `Invalid` where it takes no files, or none of this kind."""
    if not isinstance(provider, AcceptsUploads):
        raise _invalid("provider", f"{provider.name} documents no uploads: name a public URL in the order's input")
    limit = provider.file_limits.get(kind)
    if limit is None:
        raise _invalid("kind", f'must be one of: {", ".join(provider.file_limits)}, not "{kind[:60]}"')
    return limit


def largest_upload(services: Services) -> int:
    """Return the most bytes that any configured provider takes of any kind."""
    able = [provider for provider in services.providers.values() if isinstance(provider, AcceptsUploads)]
    return max((limit.max_bytes for provider in able for limit in provider.file_limits.values()), default=0)


def _invalid(place: str, words: str) -> Invalid:
    return Invalid([Fault((place,), words)])


def _ignore(_answer: httpx.Response) -> None:
    """Keep nothing of the answer: it may hold a secret."""
