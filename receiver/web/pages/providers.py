"""What the providers page shows: the configured accounts, and what to set for the others.

`routes` calls it. It shows no key, not even whether one looks right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from receiver.config.settings import ProviderConfig, Settings
from receiver.core.catalog import Model
from receiver.core.measured import Measured
from receiver.core.times import MINUTE, SECOND, format_duration
from receiver.documents import Document, format_timestamp
from receiver.lifecycle.schedule import Schedule
from receiver.lifecycle.spending_limits import UNCONFIRMED_COUNTS
from receiver.providers import CONFIG_TYPES, FAMILIES
from receiver.providers.base import HasBalance, Provider
from receiver.services import Services
from receiver.web.measured import MeasuredModels, measured_documents
from receiver.web.pages.wording import format_credits

SPEND_DAYS = 14


def format_day(milliseconds: int) -> str:
    """Return the UTC day of a time in Unix milliseconds."""
    return (format_timestamp(milliseconds) or "")[:10]


@dataclass(frozen=True, slots=True)
class Account:
    """One configured account: sentences about it, and its models."""

    name: str
    address: str
    facts: tuple[str, ...]
    models: Mapping[str, Model]
    has_balance: bool
    """Whether the provider has a request for the balance."""
    measured: Sequence[Document] = ()
    """What was measured of its models, as the API tells it."""


@dataclass(frozen=True, slots=True)
class UnconfiguredFamily:
    """A family without a configured account: the variables to set, and its models."""

    name: str
    variables: tuple[str, ...]
    models: Mapping[str, Model]


def list_accounts(services: Services, known: MeasuredModels = MappingProxyType({})) -> list[Account]:
    """Return every configured account; `known` is what was measured, by account and model."""
    settings = services.settings
    return [
        Account(
            name,
            config.base_url,
            tuple(_facts(settings, provider, config)),
            provider.models,
            isinstance(provider, HasBalance),
            measured_documents(services, name, known),
        )
        for name, provider in services.providers.items()
        if (config := settings.providers.get(name)) is not None
    ]


def list_unconfigured(services: Services) -> list[UnconfiguredFamily]:
    """Return every family without an account; in the sandbox that is all of them."""
    unset = [name for name in FAMILIES if services.settings.sandbox or name not in services.providers]
    return [
        UnconfiguredFamily(name, required_variables(name, CONFIG_TYPES[name]), FAMILIES[name].models) for name in unset
    ]


def required_variables(family: str, config_type: type[ProviderConfig]) -> tuple[str, ...]:
    """Return the variables that a family needs to be configured."""
    fields = config_type.model_fields.items()
    return tuple(f"{family.upper()}_{name.upper()}" for name, field in fields if field.is_required())


def _facts(settings: Settings, provider: Provider, config: ProviderConfig) -> list[str]:
    schedule = Schedule.of(settings, provider.first_check_after)
    has_callbacks = provider.takes_callbacks and settings.public_url is not None
    first, _ = schedule.first_pause(Measured(), callback=has_callbacks)
    facts = [
        _describe_callbacks(settings, provider),
        f"The first status check is {_format_seconds(first)} after submission, until a model's own times are known.",
        "An attempt without a clear answer is repeated under its idempotency key, so it buys only once."
        if provider.supports_idempotency_keys
        else "It has no idempotency keys, so an attempt without a clear answer is never repeated automatically.",
    ]
    if provider.output_ttl_seconds is not None:
        facts.append(f"By its documentation, result links work for {_format_seconds(provider.output_ttl_seconds)}.")
    if config.max_running is not None:
        minutes = UNCONFIRMED_COUNTS // MINUTE
        facts.append(f"At most {config.max_running} tasks run at once; an unconfirmed task counts for {minutes} min.")
    if config.max_credits_per_day is not None:
        facts.append(f"At most {format_credits(config.max_credits_per_day)} credits are spent per day.")
    return facts


def _describe_callbacks(settings: Settings, provider: Provider) -> str:
    if not provider.takes_callbacks:
        return "It has no per-task callbacks, so its tasks are polled."
    if settings.public_url is None:
        return "It supports callbacks, but RECEIVER_PUBLIC_URL is not set, so its tasks are polled."
    return "It calls back to a signed URL of each task."


def _format_seconds(seconds: float) -> str:
    return format_duration(round(seconds * SECOND))
