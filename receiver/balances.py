"""Ask a provider what is left on the account, where it has a call for that.

The API, the pages and the command line call it when a person wants to know; nothing is stored.
"""

import httpx

from receiver.errors import Conflict, NotFound, ProviderError, Unreadable
from receiver.providers.base import Balance
from receiver.services import Services


async def balance(services: Services, account: str) -> float:
    """Return the credits that are left, in the provider's own unit.

    Raises `NotFound` for no such account, `Conflict` where the provider has no such call or gave no usable answer.
    """
    provider = services.providers.get(account)
    if provider is None:
        raise NotFound(f"There is no provider account {account[:60]}.")
    if not isinstance(provider, Balance):
        raise Conflict(f"{account} documents no call for its balance.")
    try:
        return await services.outbound.run(account, provider.balance(), answered=_ignore)
    except (ProviderError, Unreadable) as error:
        raise Conflict(f"{account} did not tell its balance: {services.redactor.text(str(error))}") from error


def _ignore(_answer: httpx.Response) -> None:
    """Keep nothing of the answer."""
