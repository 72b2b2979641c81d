"""`receiver doctor`: looks at everything that must be right, and says what is not, with its remedy.

`cli` calls it, beside a running service or without one. It buys nothing and follows nobody; it writes only signs of
life, and what every command would: secrets, where none were made yet.
"""

import asyncio
from collections.abc import Callable

from receiver import services as wiring
from receiver.config.keys import with_generated_secrets
from receiver.config.settings import ProviderConfig, Settings
from receiver.core.errors import ConfigError
from receiver.doctor import accounts, database, places, reaching
from receiver.doctor.findings import Finding, Report, Verdict, ok, skipped, warning, wrong
from receiver.services import Services

__all__ = ["Finding", "Report", "Verdict", "examine"]

PATIENCE = 10.0
"""Seconds for one request, however long those of the service may take: a callback may be answered after four."""


async def examine(settings: Settings, *, clock: Callable[[], int] = wiring.clock, patience: float = PATIENCE) -> Report:
    """Look at everything; `clock` gives Unix milliseconds."""
    kept = places.examine(settings, places.Machine.here())
    gap = await asyncio.to_thread(database.missing, settings)
    if gap is not None and gap.absent:
        return Report([*_settings(settings), *kept, gap.finding], usable=False)
    try:
        settings = with_generated_secrets(settings)
    except ConfigError as error:
        remedy = "let this user read and write it, or set RECEIVER_SECRET_KEYS and RECEIVER_API_TOKENS"
        return Report([*_settings(settings), *kept, wrong("secrets", str(error), remedy)], usable=gap is None)
    services = Services.open(settings.model_copy(update={"timeout": patience}), clock=clock)
    try:
        inside = [gap.finding] if gap else await database.examine(services)
        reached, asked = await asyncio.gather(
            reaching.examine(services, usable=gap is None), accounts.ask_all(services)
        )
    finally:
        await services.close()
    keys = [accounts.judge(services, each) for each in asked]
    outside = [*reached, *(keys or [_no_keys()]), accounts.clock(asked)]
    return Report([*_settings(settings), *kept, *inside, *outside], usable=gap is None)


def _no_keys() -> Finding:
    return skipped("keys", "the sandbox's accounts are simulated: there are no keys")


def _settings(settings: Settings) -> list[Finding]:
    found = [warning("settings", sentence, "correct it, complete it, or remove it") for sentence in settings.warnings]
    words = "the sandbox, a simulated provider: no provider key is set"
    if not settings.sandbox:
        words = "accounts: " + ", ".join(name + _signed(config) for name, config in settings.providers.items())
    prefix = f"; all paths begin with {settings.path_prefix}" if settings.path_prefix else ""
    return [*found, ok("settings", f"{words}{prefix}")]


def _signed(config: ProviderConfig) -> str:
    if "webhook_secret" not in type(config).model_fields:
        return ""
    return " (callbacks signed)" if getattr(config, "webhook_secret", None) else " (callbacks not signed)"
