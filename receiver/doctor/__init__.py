"""`receiver doctor`: examines everything that must be right, and reports what is wrong, with a remedy.

`cli` calls it, beside a running service or without one. It buys nothing and follows no redirect. It writes only
heartbeats, a file in the archive that it removes, and what every command would: secrets, if there are none yet.
"""

import asyncio
from collections.abc import Callable

from receiver import services as wiring
from receiver.config.keys import with_generated_secrets
from receiver.config.settings import ProviderConfig, Settings
from receiver.core.errors import ConfigError
from receiver.doctor import accounts, archive, database, reachability, storage
from receiver.doctor.findings import Finding, Report, Verdict, ok, skipped, warning, wrong
from receiver.services import Services

__all__ = ["Finding", "Report", "Verdict", "examine"]

REQUEST_SECONDS = 10.0
"""Timeout of one request, whatever the service's own is: a callback may be answered after four seconds."""


async def examine(
    settings: Settings, *, clock: Callable[[], int] = wiring.clock, request_seconds: float = REQUEST_SECONDS
) -> Report:
    """Return a report about everything; `clock` returns Unix milliseconds."""
    kept = storage.examine(settings, storage.Machine.here())
    unusable = await asyncio.to_thread(database.find_unusable, settings)
    if unusable is not None and unusable.is_absent:
        return Report([*_settings(settings), *kept, unusable.finding], usable=False)
    try:
        settings = with_generated_secrets(settings)
    except ConfigError as error:
        remedy = "let this user read and write it, or set RECEIVER_SECRET_KEYS and RECEIVER_API_TOKENS"
        return Report([*_settings(settings), *kept, wrong("secrets", str(error), remedy)], usable=unusable is None)
    services = Services.open(settings.model_copy(update={"timeout": request_seconds}), clock=clock)
    try:
        inside = [unusable.finding] if unusable else await database.examine(services)
        archived, reached, probes = await asyncio.gather(
            archive.examine(services, usable=unusable is None),
            reachability.examine(services, usable=unusable is None),
            accounts.probe_all(services),
        )
    finally:
        await services.close()
    keys = [accounts.judge_key(services, each) for each in probes]
    outside = [*reached, *(keys or [_no_keys()]), accounts.judge_clock(probes)]
    return Report([*_settings(settings), *kept, *inside, *archived, *outside], usable=unusable is None)


def _no_keys() -> Finding:
    return skipped("keys", "the sandbox's accounts are simulated and have no keys")


def _settings(settings: Settings) -> list[Finding]:
    found = [warning("settings", sentence, "correct, complete or remove it") for sentence in settings.warnings]
    message = "no provider key is set, so this is the sandbox, with simulated providers"
    if not settings.sandbox:
        message = "accounts: " + ", ".join(name + _signed(config) for name, config in settings.providers.items())
    prefix = f"; all paths start with {settings.path_prefix}" if settings.path_prefix else ""
    return [*found, ok("settings", f"{message}{prefix}")]


def _signed(config: ProviderConfig) -> str:
    if "webhook_secret" not in type(config).model_fields:
        return ""
    return " (callbacks signed)" if getattr(config, "webhook_secret", None) else " (callbacks not signed)"
