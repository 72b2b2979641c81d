"""Requests to a provider account that concern no task: balance, upload of a reference file, webhook registration.

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


async def fetch_balance(services: Services, account: str) -> float:
    """Return the credits that are left, in the provider's own unit.

    Raises `NotFound` for an unknown account, `Conflict` if the provider has no such request or gave no usable answer.
    """
    provider = services.providers.get(account)
    if provider is None:
        raise NotFound(f"There is no provider account {account[:60]}.")
    if not isinstance(provider, HasBalance):
        raise Conflict(f"{account} documents no request for the balance.")
    try:
        return await services.outbound.run(account, provider.balance(), on_answer=_ignore)
    except (ProviderError, Unreadable) as error:
        raise Conflict(f"{account} did not return its balance: {services.redactor.redact_text(str(error))}") from error


async def register_webhook(services: Services, account: str) -> str:
    """Return the id of a new webhook endpoint at the provider; its signing secret is stored.

    Raises `Invalid` for an unknown account, `ConfigError` without a public URL, `Conflict` where the provider has no
    such webhooks or refused.
    """
    provider = services.provider(account)
    url = services.links.account_url(account)
    if url is None:
        raise ConfigError("RECEIVER_PUBLIC_URL: is not set; for example RECEIVER_PUBLIC_URL=https://hooks.example.com")
    if not isinstance(provider, RegistersWebhooks):
        raise Conflict(f"{account} has no account webhooks: each task names its own callback URL.")
    try:
        made = await services.outbound.run(account, provider.register_webhook(url), on_answer=_ignore)
    except (ProviderError, Unreadable) as error:
        raise Conflict(
            f"{account} did not register the webhook: {services.redactor.redact_text(str(error))}"
        ) from error
    store_webhook_secret(services.settings, account, made.secret)
    return made.id


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file for an order's input; `content` is open for reading."""

    provider: str
    model: str
    kind: str
    name: str
    mime_type: str
    size: int
    content: BinaryIO


async def upload_file(services: Services, new: NewFile) -> Uploaded:
    """Return the provider's reference to a file that is streamed to it.

    Raises `Invalid` for a file that the provider would refuse, `Conflict` where it refused or gave no usable answer.
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
        why = services.redactor.redact_text(str(error))
        raise Conflict(f"{new.provider} did not accept the file: {why}. An upload buys nothing: try again.") from error


def check_file(provider: Provider, new: NewFile) -> None:
    """Raise `Invalid` where a file is outside its provider's limits."""
    limit = file_limit(provider, new.kind)
    if not limit.accepts(new.mime_type):
        accepted = ", ".join(limit.mime_types)
        raise _invalid("file", f'has the type "{new.mime_type[:60]}"; types accepted as {new.kind}: {accepted}')
    if new.size == 0:
        raise _invalid("file", "is empty")
    if new.size > limit.max_bytes:
        raise _invalid("file", f"has {new.size:,} bytes; at most {limit.max_bytes:,} are accepted as {new.kind}")


def file_limit(provider: Provider, kind: str) -> FileLimit:
    """Return a provider's limits for a kind of file; raises `Invalid` if it accepts no files, or none of this kind."""
    if not isinstance(provider, AcceptsUploads):
        raise _invalid("provider", f"{provider.name} documents no uploads; put a public URL into the input instead")
    limit = provider.file_limits.get(kind)
    if limit is None:
        raise _invalid("kind", f'must be one of: {", ".join(provider.file_limits)}, not "{kind[:60]}"')
    return limit


def max_upload_bytes(services: Services) -> int:
    """Return the largest file size that any configured provider accepts."""
    uploaders = [provider for provider in services.providers.values() if isinstance(provider, AcceptsUploads)]
    return max((limit.max_bytes for provider in uploaders for limit in provider.file_limits.values()), default=0)


def _invalid(field: str, message: str) -> Invalid:
    return Invalid([Fault((field,), message)])


def _ignore(_response: httpx.Response) -> None:
    """Store nothing of the response: it may hold a secret."""
