"""Register this service's URL at a provider that knows one webhook for a whole account. The command line calls it."""

import httpx

from receiver.errors import ConfigError, Conflict, ProviderError, Unreadable
from receiver.keys import keep_webhook_secret
from receiver.providers.base import RegistersWebhook
from receiver.services import Services


async def register(services: Services, account: str) -> str:
    """Create the webhook endpoint and keep its signing secret; returns the endpoint's id.

    Raises `Invalid` for no such account, `ConfigError` without a public URL, `Conflict` where the provider has no
    such webhooks or refused.
    """
    provider = services.provider(account)
    url = services.links.account_url(account)
    if url is None:
        raise ConfigError("RECEIVER_PUBLIC_URL: is needed; for example RECEIVER_PUBLIC_URL=https://hooks.example.com")
    if not isinstance(provider, RegistersWebhook):
        raise Conflict(f"{account} has no webhooks for a whole account: its tasks name their own callback URLs.")
    try:
        made = await services.outbound.run(account, provider.register_webhook(url), answered=_ignore)
    except (ProviderError, Unreadable) as error:
        raise Conflict(f"{account} did not register it: {services.redactor.text(str(error))}") from error
    keep_webhook_secret(services.settings, account, made.secret)
    return made.id


def _ignore(_answer: httpx.Response) -> None:
    """Keep nothing of the answer: it has the secret in it."""
