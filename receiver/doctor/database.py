"""Whether the database is there, current, whole and written durably, whether somebody polls, and what waits too long.

It writes one row, a sign of life of its own.
"""

from dataclasses import dataclass

from receiver.config.settings import Settings
from receiver.core.errors import ConfigError, StoreUnavailable
from receiver.core.states import State
from receiver.doctor.findings import Finding, amount, ok, skipped, warning, wrong
from receiver.services import Services
from receiver.store import health, heartbeats, schema
from receiver.store.counts import by_state
from receiver.store.engine import database_file, require_database, sqlite_module, wal_is_safe

LOOK_SECONDS = 5.0
"""How long damage is looked for: it takes about a second for each gigabyte of an idle disk."""
SILENT, SILENT_CRON = 60.0, 600.0
"""Seconds without a sign of life: of a service's poller, and of a cron that may sweep every few minutes."""
OVERDUE = 600.0
LATE = 120.0
"""Seconds for which what is due may wait at an account beside a service that sweeps."""
REMEMBERED = 86_400.0
"""Seconds for which a lost place is told of."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Why a database cannot be used by this release."""

    finding: Finding
    absent: bool
    """There is no file at all."""


def missing(settings: Settings) -> Missing | None:
    """Look whether there is a current database, as every command does before its work."""
    for look in (require_database, schema.require_current):
        try:
            look(settings.database)
        except ConfigError as error:
            words, remedy = _parted(str(error))
            return Missing(wrong("database", words, remedy), absent=look is require_database)
    return None


def _parted(words: str) -> tuple[str, str]:
    """Part what is wrong from what to do about it, where the error says both."""
    for mark in ("`receiver serve` or", "Run this as", "run `receiver migrate`", "install that", "Create one with"):
        if (at := words.find(mark)) > 0:
            return words[:at].rstrip(" .;"), words[at:].rstrip(".")
    return words, "start it, or correct RECEIVER_DATABASE_URL; or restore a backup, if the file is damaged"


async def examine(services: Services) -> list[Finding]:
    """Look into a database that is there and current."""
    found = []
    for look in (_writable, _journal, _damage, _poller, _waiting, _accounts, _callbacks):
        try:
            found += await look(services)
        except StoreUnavailable as error:
            remedy = "end what holds it locked, make room on its disk, and give it to the user of the service"
            found.append(wrong("database", str(error), remedy))
    return found


async def _writable(services: Services) -> list[Finding]:
    now = services.clock()
    await services.store.write(lambda tx: heartbeats.beat(tx, heartbeats.DOCTOR, now))
    file = database_file(services.settings.database)
    return [ok("database", f"{file or 'PostgreSQL'} is current and can be written")]


async def _journal(services: Services) -> list[Finding]:
    mode = await services.store.read(health.journal_mode)
    if mode is None:
        return [durability(*await services.store.read(health.durability))]
    return [journal(mode, sqlite_module().sqlite_version_info)]


def durability(version: str, switched_off: list[str]) -> Finding:
    """Judge what a PostgreSQL cluster keeps over a power cut; when a write counts as stored is up to us."""
    if not switched_off:
        return ok("durability", f"PostgreSQL {version}: every write waits for the disk, whatever role and cluster say")
    words = f"PostgreSQL {version} runs with {' and '.join(f'{name} = off' for name in switched_off)}: {schema.AT_RISK}"
    return warning("durability", words, f"{schema.turn_on(switched_off)}, then `SELECT pg_reload_conf()`")


def journal(mode: str, version: tuple[int, ...]) -> Finding:
    """Judge how SQLite of a version keeps its journal."""
    shown = ".".join(map(str, version))
    if not wal_is_safe(version):
        words = f"SQLite {shown} can corrupt a WAL database, so that {mode.upper()} is used, which is slower"
        return warning("journal", words, "pip install pysqlite3, or use a Python with SQLite 3.51.3 or newer")
    if mode != "wal":
        words = f"{mode.upper()} instead of WAL: slower, and readers hold up writers"
        remedy = "end other programs that have the file open, restart the service, and keep it on a local disk"
        return wrong("journal", words, remedy)
    return ok("journal", f"WAL, SQLite {shown}")


async def _damage(services: Services) -> list[Finding]:
    if database_file(services.settings.database) is None:
        return []
    try:
        faults = await services.store.read(lambda session: health.faults(session, LOOK_SECONDS))
    except StoreUnavailable as error:
        faults = [str(error)]
    if faults is None:
        return [skipped("integrity", f"it takes more than {LOOK_SECONDS:g} s; `PRAGMA quick_check` tells")]
    if faults:
        words = "; ".join(" ".join(fault.split()) for fault in faults)[:300]
        return [wrong("integrity", words, "stop the service, keep a copy, and restore the latest backup")]
    return [ok("integrity", "no damage found")]


async def _poller(services: Services) -> list[Finding]:
    seen = await services.store.read(lambda session: heartbeats.last(session, heartbeats.POLLER))
    on = services.settings.poller
    ago = None if seen is None else abs(services.clock() - seen) / 1000
    if ago is not None and ago < (SILENT if on else SILENT_CRON):
        return [ok("poller", f"last at work {amount(ago)} ago")]
    words = "nobody has ever swept" if ago is None else f"nobody has swept for {amount(ago)}"
    if on:
        return [wrong("poller", words, "start `receiver serve`, or restart it where it runs")]
    if ago is None and not await _late(services):
        hint = "let cron run `* * * * * receiver poll` before you order"
        return [skipped("poller", f"RECEIVER_POLLER is off, and no task was due yet; {hint}")]
    return [wrong("poller", f"{words}; RECEIVER_POLLER is off", "let cron run `* * * * * receiver poll`")]


async def _late(services: Services) -> tuple[int, int] | None:
    """Return how many tasks are overdue, and since when the oldest; None where none is."""
    before = services.clock() - round(OVERDUE * 1000)
    number, oldest = await services.store.read(lambda session: health.overdue(session, before))
    return (number, oldest) if number and oldest is not None else None


async def _waiting(services: Services) -> list[Finding]:
    states, late = await services.store.read(by_state), await _late(services)
    unclear = sum(number for (_, state), number in states.items() if state is State.UNCONFIRMED)
    found = []
    if unclear:
        remedy = "look for them in the provider's list, then `receiver adopt` (`receiver list --state unconfirmed`)"
        found.append(warning("tasks", f"{unclear} unconfirmed: they may have been bought", remedy))
    if late is not None:
        words = f"{late[0]} overdue, the oldest for {amount((services.clock() - late[1]) / 1000)}"
        found.append(warning("tasks", words, "`receiver poll` looks at them; `receiver show TASK_ID` says why"))
    return found or [ok("tasks", f"{sum(states.values())} in all, none unclear or overdue")]


async def _accounts(services: Services) -> list[Finding]:
    """Tell of accounts at which due tasks wait for long, or orders were not sent for long, or a place was lost."""
    now = services.clock()
    late = now - round((LATE if services.settings.poller else OVERDUE) * 1000)
    due = await services.store.read(lambda session: health.due_by_account(session, late))
    unsent = await services.store.read(lambda session: health.unsent_by_account(session, now - round(OVERDUE * 1000)))
    lost = await services.store.read(lambda session: heartbeats.lost_slots(session, now - round(REMEMBERED * 1000)))

    def waiting(words: str, number: int, since: int) -> str:
        return f"{number} {words}, the oldest for {amount((now - since) / 1000)}"

    found = []
    for account in sorted({*due, *unsent}):
        told = [waiting("due and not looked at", *due[account])] if account in due else []
        told += [waiting("not sent yet", *unsent[account])] if account in unsent else []
        remedy = (
            f"`receiver list --provider {account}` and `receiver show TASK_ID` say why; restart a service that is stuck"
        )
        found.append(warning(f"tasks of {account}", "; ".join(told), remedy))
    for account, at in sorted(lost.items()):
        words = f"a request did not end in any time that it may take, {amount(max(now - at, 0) / 1000)} ago"
        found.append(
            warning(f"requests to {account}", words, "its place was replaced; restart a service that is stuck")
        )
    return found


async def _callbacks(services: Services) -> list[Finding]:
    """Tell of accounts whose tasks name a callback URL, and that never call back."""
    before = services.clock() - round(services.settings.callback_grace * 1000)
    silent = await services.store.read(lambda session: health.never_called_back(session, before))
    remedy = "see that nothing before the service turns away POST /callbacks/ by the sender's name, address or country"
    return [
        warning(f"callbacks of {account}", f"none came to the latest {number} tasks that named a URL", remedy)
        for account, number in sorted(silent.items())
    ]
