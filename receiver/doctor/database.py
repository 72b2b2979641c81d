"""Whether the database exists, is current, undamaged and durable, whether a poller runs, and what is overdue.

It writes one row, a heartbeat of its own.
"""

from dataclasses import dataclass

from receiver.config.settings import Settings
from receiver.core.errors import ConfigError, StoreUnavailable
from receiver.core.states import State
from receiver.doctor.findings import Finding, format_seconds, ok, skipped, warning, wrong
from receiver.services import Services
from receiver.store import health, heartbeats, schema
from receiver.store.counts import count_by_state
from receiver.store.engine import database_file, require_database, sqlite_module, wal_is_safe

INTEGRITY_SECONDS = 5.0
"""Time for the integrity check, which takes about a second per gigabyte on an idle disk."""
MAX_SILENCE, MAX_SILENCE_CRON = 60.0, 600.0
"""Seconds without a heartbeat: of a service's poller, and of a cron that may sweep every few minutes."""
OVERDUE = 600.0
LATE = 120.0
"""Seconds that a due task of an account may wait beside a service that sweeps."""
REPLACED_WITHIN = 86_400.0
"""Seconds for which a replaced connection slot is reported."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why a database cannot be used by this release."""

    finding: Finding
    is_absent: bool
    """Whether there is no file at all."""


def find_unusable(settings: Settings) -> Unusable | None:
    """Return why the database cannot be used, by the same tests as every command; None if it can."""
    for require in (require_database, schema.require_current):
        try:
            require(settings.database)
        except ConfigError as error:
            message, remedy = _split_remedy(str(error))
            return Unusable(wrong("database", message, remedy), is_absent=require is require_database)
    return None


def _split_remedy(message: str) -> tuple[str, str]:
    """Return an error's message in two parts, what is wrong and what to do about it, where it says both."""
    for mark in ("`receiver serve` or", "Run this as", "run `receiver migrate`", "install that", "Create one with"):
        if (at := message.find(mark)) > 0:
            return message[:at].rstrip(" .;"), message[at:].rstrip(".")
    return message, "start it, or correct RECEIVER_DATABASE_URL; or restore a backup, if the file is damaged"


async def examine(services: Services) -> list[Finding]:
    """Return findings about a database that exists and is current."""
    found = []
    for examine_part in (
        _writable,
        _journal,
        _damage,
        _poller,
        _heartbeat_url,
        _task_states,
        _stuck_accounts,
        _missing_callbacks,
    ):
        try:
            found += await examine_part(services)
        except StoreUnavailable as error:
            remedy = "end what holds it locked, free space on its disk, and let the service's user own it"
            found.append(wrong("database", str(error), remedy))
    return found


async def _writable(services: Services) -> list[Finding]:
    now = services.clock()
    await services.store.write(lambda tx: heartbeats.record_heartbeat(tx, heartbeats.DOCTOR, now))
    file = database_file(services.settings.database)
    return [ok("database", f"{file or 'PostgreSQL'} is current and can be written")]


async def _journal(services: Services) -> list[Finding]:
    mode = await services.store.read(health.read_journal_mode)
    if mode is None:
        return [durability(*await services.store.read(health.read_durability))]
    return [journal(mode, sqlite_module().sqlite_version_info)]


def durability(version: str, switched_off: list[str]) -> Finding:
    """Return a finding about settings with which a PostgreSQL cluster loses data in a power cut."""
    if not switched_off:
        return ok(
            "durability",
            f"PostgreSQL {version}: every write waits for the disk, whatever the role's and cluster's settings",
        )
    message = (
        f"PostgreSQL {version} runs with {' and '.join(f'{name} = off' for name in switched_off)}: {schema.AT_RISK}"
    )
    return warning(
        "durability", message, f"{schema.alter_system_statements(switched_off)}, then `SELECT pg_reload_conf()`"
    )


def journal(mode: str, version: tuple[int, ...]) -> Finding:
    """Return a finding about the journal mode of this version of SQLite."""
    shown = ".".join(map(str, version))
    if not wal_is_safe(version):
        message = f"SQLite {shown} can corrupt a WAL database, so {mode.upper()} is used, which is slower"
        return warning("journal", message, "pip install pysqlite3, or use a Python with SQLite 3.51.3 or newer")
    if mode != "wal":
        message = f"{mode.upper()} instead of WAL: slower, and readers block writers"
        remedy = "end other programs that have the file open, restart the service, and keep it on a local disk"
        return wrong("journal", message, remedy)
    return ok("journal", f"WAL, SQLite {shown}")


async def _damage(services: Services) -> list[Finding]:
    if database_file(services.settings.database) is None:
        return []
    try:
        faults = await services.store.read(lambda session: health.find_damage(session, INTEGRITY_SECONDS))
    except StoreUnavailable as error:
        faults = [str(error)]
    if faults is None:
        return [skipped("integrity", f"it takes more than {INTEGRITY_SECONDS:g} s; run `PRAGMA quick_check` yourself")]
    if faults:
        message = "; ".join(" ".join(fault.split()) for fault in faults)[:300]
        return [wrong("integrity", message, "stop the service, keep a copy, and restore the latest backup")]
    return [ok("integrity", "no damage found")]


async def _poller(services: Services) -> list[Finding]:
    seen = await services.store.read(lambda session: heartbeats.read_last(session, heartbeats.POLLER))
    on = services.settings.poller
    ago = None if seen is None else abs(services.clock() - seen) / 1000
    if ago is not None and ago < (MAX_SILENCE if on else MAX_SILENCE_CRON):
        return [ok("poller", f"last ran {format_seconds(ago)} ago")]
    message = "no sweep has ever run" if ago is None else f"no sweep has run for {format_seconds(ago)}"
    if on:
        return [wrong("poller", message, "start `receiver serve`, or restart it if it runs")]
    if ago is None and not await _overdue_tasks(services):
        hint = "let cron run `* * * * * receiver poll` before you order"
        return [skipped("poller", f"RECEIVER_POLLER is off, and no task was due yet; {hint}")]
    return [wrong("poller", f"{message}; RECEIVER_POLLER is off", "let cron run `* * * * * receiver poll`")]


async def _heartbeat_url(services: Services) -> list[Finding]:
    if services.settings.heartbeat_url is None:
        return []
    sent = await services.store.read(lambda session: heartbeats.read_last(session, heartbeats.HEARTBEAT_URL))
    if sent is None:
        return [skipped("heartbeat", "no sweep has fetched RECEIVER_HEARTBEAT_URL yet")]
    return [ok("heartbeat", f"fetched {format_seconds(abs(services.clock() - sent) / 1000)} ago")]


async def _overdue_tasks(services: Services) -> tuple[int, int] | None:
    """Return how many tasks are overdue, and since when the oldest is; None if none is."""
    before = services.clock() - round(OVERDUE * 1000)
    number, oldest = await services.store.read(lambda session: health.count_overdue(session, before))
    return (number, oldest) if number and oldest is not None else None


async def _task_states(services: Services) -> list[Finding]:
    states, late = await services.store.read(count_by_state), await _overdue_tasks(services)
    unconfirmed = sum(number for (_, state), number in states.items() if state is State.UNCONFIRMED)
    found = []
    if unconfirmed:
        remedy = "find them in the provider's list, then `receiver adopt` (`receiver list --state unconfirmed`)"
        found.append(warning("tasks", f"{unconfirmed} unconfirmed: they may have been bought", remedy))
    if late is not None:
        message = f"{late[0]} overdue, the oldest for {format_seconds((services.clock() - late[1]) / 1000)}"
        found.append(warning("tasks", message, "`receiver poll` handles them; `receiver show TASK_ID` says why"))
    return found or [ok("tasks", f"{sum(states.values())} in all, none unconfirmed or overdue")]


async def _stuck_accounts(services: Services) -> list[Finding]:
    """Return findings about accounts with overdue tasks, orders long unsent, or a replaced connection slot."""
    now = services.clock()
    late = now - round((LATE if services.settings.poller else OVERDUE) * 1000)
    due = await services.store.read(lambda session: health.count_due_by_account(session, late))
    unsent = await services.store.read(
        lambda session: health.count_unsent_by_account(session, now - round(OVERDUE * 1000))
    )
    lost = await services.store.read(
        lambda session: heartbeats.lost_slots(session, now - round(REPLACED_WITHIN * 1000))
    )

    def overdue(what: str, number: int, since: int) -> str:
        return f"{number} {what}, the oldest for {format_seconds((now - since) / 1000)}"

    found = []
    for account in sorted({*due, *unsent}):
        parts = [overdue("due and not checked", *due[account])] if account in due else []
        parts += [overdue("not sent yet", *unsent[account])] if account in unsent else []
        remedy = f"`receiver list --provider {account}` and `receiver show TASK_ID` say why; restart a stuck service"
        found.append(warning(f"tasks of {account}", "; ".join(parts), remedy))
    for account, at in sorted(lost.items()):
        message = f"a request exceeded every timeout {format_seconds(max(now - at, 0) / 1000)} ago"
        found.append(
            warning(
                f"requests to {account}",
                message,
                "its connection was replaced; if tasks are stuck, restart the service",
            )
        )
    return found


async def _missing_callbacks(services: Services) -> list[Finding]:
    """Return findings about accounts that never call back although their tasks name a callback URL."""
    before = services.clock() - round(services.settings.callback_grace * 1000)
    silent = await services.store.read(lambda session: health.count_without_callbacks(session, before))
    remedy = "make sure that no proxy or firewall blocks POST /callbacks/ by User-Agent, address or country"
    found = []
    for account, number in sorted(silent.items()):
        tasks = "task" if number == 1 else f"{number} tasks"
        message = f"none arrived for the latest {tasks} with a callback URL"
        found.append(warning(f"callbacks of {account}", message, remedy))
    return found
