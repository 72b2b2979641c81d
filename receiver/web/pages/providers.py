"""What the page of providers shows: the accounts that are configured, and what to set for those that are not.

`pages` calls it. It shows no key, not even whether one looks right.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from receiver.config.settings import ProviderConfig, Settings
from receiver.core.catalog import Model
from receiver.core.times import MINUTE, SECOND, span
from receiver.documents import format_timestamp
from receiver.lifecycle.schedule import Schedule
from receiver.lifecycle.spending_limits import UNCONFIRMED_COUNTS
from receiver.providers import CONFIG_TYPES, FAMILIES
from receiver.providers.base import HasBalance, Provider
from receiver.services import Services
from receiver.web.pages.wording import credits_

SPEND_DAYS = 14


def day(milliseconds: int) -> str:
    """Write the UTC day of a time in Unix milliseconds."""
    return (format_timestamp(milliseconds) or "")[:10]


@dataclass(frozen=True, slots=True)
class Account:
    """One configured account: sentences about it, and its models."""

    name: str
    address: str
    facts: tuple[str, ...]
    models: Mapping[str, Model]
    balance: bool
    """Whether the provider has a call for what is left."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A family without an account: the variables to set, and its models."""

    name: str
    variables: tuple[str, ...]
    models: Mapping[str, Model]


def accounts(services: Services) -> list[Account]:
    """List every configured account."""
    settings = services.settings
    return [
        Account(
            name,
            config.base_url,
            tuple(_facts(settings, provider, config)),
            provider.models,
            isinstance(provider, HasBalance),
        )
        for name, provider in services.providers.items()
        if (config := settings.providers.get(name)) is not None
    ]


def missing(services: Services) -> list[Missing]:
    """List every family that has no account; all of them while the sandbox stands in for them."""
    unset = [name for name in FAMILIES if services.settings.sandbox or name not in services.providers]
    return [Missing(name, variables(name, CONFIG_TYPES[name]), FAMILIES[name].models) for name in unset]


def variables(family: str, config_type: type[ProviderConfig]) -> tuple[str, ...]:
    """Name the variables without which a family is not configured."""
    fields = config_type.model_fields.items()
    return tuple(f"{family.upper()}_{name.upper()}" for name, field in fields if field.is_required())


def _facts(settings: Settings, provider: Provider, config: ProviderConfig) -> list[str]:
    schedule = Schedule.of(settings, provider.first_check_after)
    called = provider.takes_callbacks and settings.public_url is not None
    first = schedule.callback_grace if called else schedule.poll_after
    facts = [
        _on_callbacks(settings, provider),
        f"The first check comes {_span(first)} after submission.",
        "An unclear try is repeated under its idempotency key, which buys once."
        if provider.supports_idempotency_keys
        else "It takes no idempotency key, so an unclear try is never repeated by itself.",
    ]
    if provider.output_ttl_seconds is not None:
        facts.append(f"Its result links are documented to work for {_span(provider.output_ttl_seconds)}.")
    if config.max_running is not None:
        minutes = UNCONFIRMED_COUNTS // MINUTE
        facts.append(f"At most {config.max_running} tasks run at once; an unconfirmed one counts for {minutes} min.")
    if config.max_credits_per_day is not None:
        facts.append(f"At most {credits_(config.max_credits_per_day)} credits are spent a day.")
    return facts


def _on_callbacks(settings: Settings, provider: Provider) -> str:
    if not provider.takes_callbacks:
        return "Its tasks name no callback address, so they are polled."
    if settings.public_url is None:
        return "It could call back, but RECEIVER_PUBLIC_URL is not set, so its tasks are polled."
    return "It calls back to each task's own signed address."


def _span(seconds: float) -> str:
    return span(round(seconds * SECOND))
