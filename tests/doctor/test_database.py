"""A database that is old, damaged, locked or forgotten by its poller is found out, with the remedy."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from receiver.config.addresses import check_database_url
from receiver.core.errors import ConfigError
from receiver.doctor import Finding, Verdict
from receiver.doctor.database import journal
from receiver.store import Store, health, schema
from receiver.store.engine import sqlite_module, wal_is_safe
from tests.store.rig import add_tasks, task_row
from tests.system import postgres
from tests.system.processes import free_port

from .rig import Seen, examined

pytestmark = pytest.mark.anyio

ENVIRON = {"RECEIVER_SECRET_KEYS": "k" * 32, "RECEIVER_API_TOKENS": "t" * 32}
MINUTE = 60_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The database of a sandbox that was migrated."""
    schema.migrate(f"sqlite:///{tmp_path}/sandbox.db")
    return tmp_path / "sandbox.db"


async def look(file: Path, **more: str) -> Seen:
    """Examine where no service runs."""
    return await examined({**ENVIRON, "RECEIVER_DATA_DIR": str(file.parent), "PORT": str(free_port()), **more})


@contextmanager
def connected(file: Path) -> Iterator[Any]:
    connection = sqlite_module().connect(str(file), isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def is_wrong(finding: Finding, words: str, remedy: str) -> None:
    assert finding.verdict is Verdict.WRONG
    assert words in finding.message
    assert remedy in (finding.remedy or "")


async def test_a_whole_and_current_database_is_fine_but_for_its_poller(file: Path) -> None:
    seen = await look(file)
    assert seen.the("database").message == f"{file} is current and can be written"
    assert [seen.the(subject).verdict for subject in ("database", "integrity", "tasks")] == [Verdict.OK] * 3
    assert seen.the("journal").verdict is (
        Verdict.OK if wal_is_safe(sqlite_module().sqlite_version_info) else Verdict.WARNING
    )
    assert seen.report.usable


# --- the poller


@pytest.mark.parametrize(
    ("poller", "minutes", "words"),
    [
        ("on", 0.5, ""),
        ("on", 2, "no sweep has run for 2 min"),
        ("on", None, "no sweep has ever run"),
        ("off", 2, ""),
        ("off", 20, "no sweep has run for 20 min; RECEIVER_POLLER is off"),
    ],
)
async def test_a_silent_poller_is_wrong_and_its_remedy_depends_on_who_sweeps(
    poller: str, minutes: float | None, words: str, file: Path
) -> None:
    if minutes is not None:
        with connected(file) as connection:
            at = time.time_ns() // 1_000_000 - round(minutes * MINUTE)
            connection.execute("INSERT INTO heartbeat (name, at) VALUES ('poller', ?)", (at,))
    finding = (await look(file, RECEIVER_POLLER=poller)).the("poller")
    if words:
        is_wrong(finding, words, "receiver serve" if poller == "on" else "let cron run `* * * * * receiver poll`")
    else:
        assert finding.verdict is Verdict.OK


async def test_where_cron_sweeps_a_fresh_installation_is_not_wrong_until_a_task_was_due(file: Path) -> None:
    finding = (await look(file, RECEIVER_POLLER="off")).the("poller")
    assert finding.verdict is Verdict.SKIPPED
    assert "RECEIVER_POLLER is off" in finding.message
    assert "receiver poll" in finding.message
    due = time.time_ns() // 1_000_000 - 10 * MINUTE
    store = Store(f"sqlite:///{file}")
    await store.write(add_tasks(task_row(next_check_at=due, created_at=due, updated_at=due, state="submitted")))
    await store.close()
    finding = (await look(file, RECEIVER_POLLER="off")).the("poller")
    is_wrong(finding, "no sweep has ever run", "let cron run `* * * * * receiver poll`")


@pytest.mark.parametrize(
    ("url", "minutes", "verdict", "words"),
    [
        ("https://hc.example/the-secret", None, Verdict.SKIPPED, "no sweep has fetched RECEIVER_HEARTBEAT_URL yet"),
        ("https://hc.example/the-secret", 2, Verdict.OK, "fetched 2 min ago"),
    ],
)
async def test_when_a_dead_mans_switch_was_last_told_is_shown(
    url: str, minutes: int | None, verdict: Verdict, words: str, file: Path
) -> None:
    if minutes is not None:
        with connected(file) as connection:
            at = time.time_ns() // 1_000_000 - minutes * MINUTE
            connection.execute("INSERT INTO heartbeat (name, at) VALUES ('heartbeat_url', ?)", (at,))
    finding = (await look(file, RECEIVER_HEARTBEAT_URL=url)).the("heartbeat")
    assert finding.verdict is verdict
    assert words in finding.message
    assert "the-secret" not in str(finding)


# --- the journal


async def test_a_database_that_cannot_use_wal_is_wrong(file: Path) -> None:
    if not wal_is_safe(sqlite_module().sqlite_version_info):
        pytest.skip("this SQLite is not used with WAL")
    with connected(file) as connection:
        connection.execute("PRAGMA journal_mode=TRUNCATE")
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM task").fetchall()  # whoever reads keeps the journal as it is
        seen = await look(file)
    is_wrong(seen.the("journal"), "instead of WAL", "end other programs")


def test_a_version_of_sqlite_that_corrupts_wal_is_reported_with_what_is_used_instead() -> None:
    finding = journal("truncate", (3, 45, 1))
    assert (finding.verdict, "SQLite 3.45.1" in finding.message) == (Verdict.WARNING, True)
    assert "TRUNCATE is used" in finding.message
    assert "pysqlite3" in (finding.remedy or "")
    assert journal("wal", (3, 51, 3)).verdict is Verdict.OK
    assert journal("delete", (3, 51, 3)).verdict is Verdict.WRONG


# --- damage


def overwrite(file: Path, start: int, with_what: bytes) -> None:
    content = bytearray(file.read_bytes())
    content[start : start + len(with_what)] = with_what
    file.write_bytes(content)


async def test_a_damaged_database_is_wrong(file: Path) -> None:
    with connected(file) as connection:
        connection.execute("CREATE TABLE more (a TEXT)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO more VALUES (?)", [(f"{number:0500}",) for number in range(500)])
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'more'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    overwrite(file, (page - 1) * size, bytes([0xFF]) * size)
    is_wrong((await look(file)).the("integrity"), "", "restore the latest backup")


async def test_the_integrity_check_ends_in_time(file: Path) -> None:
    with connected(file) as connection:
        connection.execute("CREATE TABLE more (a TEXT)")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO more VALUES (?)", [(f"{number}",) for number in range(20_000)])
        connection.execute("COMMIT")
    store = Store(f"sqlite:///{file}")
    try:
        assert await store.read(lambda session: health.find_damage(session, -1)) is None
        assert await store.read(lambda session: health.find_damage(session, 60)) == [], "the connection goes on"
    finally:
        await store.close()


# --- not to be worked with


async def test_a_schema_of_another_release_names_the_remedy(file: Path) -> None:
    with connected(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    seen = await look(file)
    is_wrong(seen.the("database"), "of a later release", "install that release")
    assert not seen.report.usable
    with connected(file) as connection:
        connection.execute("DELETE FROM alembic_version")
    is_wrong((await look(file)).the("database"), "older schema", "run `receiver migrate`")


async def test_a_file_that_is_not_a_database_is_reported_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "sandbox.db"
    file.write_bytes(b"no database at all\n" * 100)
    seen = await look(file)
    is_wrong(seen.the("database"), "file is not a database", "RECEIVER_DATABASE_URL")
    assert file.read_bytes() == b"no database at all\n" * 100
    assert seen.the("service").verdict is Verdict.WRONG, "the rest is looked at all the same"


async def test_a_missing_database_is_reported_and_not_created(tmp_path: Path) -> None:
    seen = await look(tmp_path / "sandbox.db")
    is_wrong(seen.the("database"), f"There is no database at {tmp_path}/sandbox.db", "receiver migrate")
    assert not seen.report.usable
    assert not any(tmp_path.iterdir())  # noqa: ASYNC240 - nothing else runs


async def test_unreadable_secrets_are_reported(file: Path) -> None:
    (file.parent / "api_tokens").write_text("")
    (file.parent / "api_tokens").chmod(0o600)
    seen = await look(file, RECEIVER_API_TOKENS="")
    is_wrong(seen.the("secrets"), f"{file.parent}/api_tokens is empty; remove it", "RECEIVER_API_TOKENS")
    assert seen.report.usable


# --- tasks


async def test_unconfirmed_and_overdue_tasks_are_reported(file: Path) -> None:
    store = Store(f"sqlite:///{file}")
    now = time.time_ns() // 1_000_000
    try:
        unclear = [task_row(f"u{n}", state="unconfirmed", next_check_at=now + MINUTE) for n in range(3)]
        late = [task_row(f"l{n}", state="submitted", next_check_at=now - 30 * MINUTE) for n in range(2)]
        await store.write(add_tasks(*unclear, *late))
    finally:
        await store.close()
    first, second = (await look(file)).of("tasks")
    assert (first.verdict, first.message) == (Verdict.WARNING, "3 unconfirmed: they may have been bought")
    assert "receiver adopt" in (first.remedy or "")
    assert (second.verdict, second.message) == (Verdict.WARNING, "2 overdue, the oldest for 30 min")
    assert "receiver poll" in (second.remedy or "")


@pytest.mark.parametrize(
    ("poller", "minutes", "told"), [("on", 3, True), ("on", 1, False), ("off", 3, False), ("off", 11, True)]
)
async def test_overdue_tasks_are_reported_by_account(
    poller: str,
    minutes: int,
    told: bool,  # noqa: FBT001 - a column of the table
    file: Path,
) -> None:
    now = time.time_ns() // 1_000_000
    rows = [task_row(f"d{n}", state="submitted", next_check_at=now - minutes * MINUTE) for n in range(2)]
    await put(file, *rows)
    seen = (await look(file, RECEIVER_POLLER=poller)).of("tasks of revid")
    assert [finding.message for finding in seen] == (
        [f"2 due and not checked, the oldest for {minutes} min"] if told else []
    )


async def test_orders_long_unsent_are_reported_although_none_is_overdue(file: Path) -> None:
    now = time.time_ns() // 1_000_000
    tried = [task_row(f"q{n}", created_at=now - 12 * MINUTE, next_check_at=now + MINUTE) for n in range(172)]
    await put(file, *tried, task_row("new", provider="apixo", created_at=now - MINUTE, next_check_at=now))
    seen = await look(file)
    finding = seen.the("tasks of revid")
    assert (finding.verdict, finding.message) == (Verdict.WARNING, "172 not sent yet, the oldest for 12 min")
    assert "receiver list --provider revid" in (finding.remedy or "")
    assert seen.of("tasks of apixo") == []


async def test_a_replaced_connection_slot_is_reported_for_a_day(file: Path) -> None:
    now = time.time_ns() // 1_000_000
    with connected(file) as connection:
        for account, hours in (("revid", 3), ("apixo", 25)):
            values = f"lost_place:{account}", now - hours * 60 * MINUTE
            connection.execute("INSERT INTO heartbeat (name, at) VALUES (?, ?)", values)
    seen = await look(file)
    assert "a request exceeded every timeout 3 h ago" in seen.the("requests to revid").message
    assert seen.of("requests to apixo") == []


async def put(file: Path, *rows: dict[str, Any]) -> None:
    store = Store(f"sqlite:///{file}")
    try:
        await store.write(add_tasks(*rows))
    finally:
        await store.close()


# --- PostgreSQL


needs_postgresql = pytest.mark.skipif(postgres.binaries() is None, reason="SKIPPED, NOT TESTED: no PostgreSQL binaries")


@needs_postgresql
async def test_postgresql_is_examined_likewise(tmp_path: Path) -> None:
    keys = {"REVID_API_KEY": "a-key", "REVID_BASE_URL": f"http://127.0.0.1:{free_port()}"}
    with postgres.server() as url:
        schema.migrate(check_database_url(url))
        seen = await look(tmp_path / "none", RECEIVER_DATABASE_URL=url, **keys)
    assert seen.the("database").message == "PostgreSQL is current and can be written"
    assert seen.the("tasks").verdict is Verdict.OK
    assert seen.the("durability").verdict is Verdict.OK
    assert seen.of("journal") == seen.of("integrity") == []
    seen = await look(tmp_path / "none", RECEIVER_DATABASE_URL=url.replace("postgres@", "postgres:hunter2@"), **keys)
    is_wrong(seen.the("database"), "port", "start it")
    assert "hunter2" not in repr(seen.report)
    assert not seen.report.usable


@needs_postgresql
@pytest.mark.row("A15")
async def test_settings_that_lose_data_in_a_power_cut_are_reported_unless_we_override_them(tmp_path: Path) -> None:
    """`synchronous_commit` is said with every write; `fsync` and `full_page_writes` are the cluster's alone."""
    keys = {"REVID_API_KEY": "a-key", "REVID_BASE_URL": f"http://127.0.0.1:{free_port()}"}
    with postgres.running("synchronous_commit=off", "fsync=off", "full_page_writes=off") as server:
        schema.migrate(check_database_url(server.url))
        found = (await look(tmp_path / "none", RECEIVER_DATABASE_URL=server.url, **keys)).the("durability")
        risks = schema.durability_warnings(check_database_url(server.url))
        alter(server.url, "ALTER SYSTEM SET fsync = on", "ALTER SYSTEM SET full_page_writes = on")
        server.die_and_return()
        mended = (await look(tmp_path / "none", RECEIVER_DATABASE_URL=server.url, **keys)).the("durability")
        assert schema.durability_warnings(check_database_url(server.url)) == []
    assert found.verdict is Verdict.WARNING
    assert "fsync = off and full_page_writes = off" in found.message
    assert "ALTER SYSTEM SET fsync = on" in (found.remedy or "")
    assert [risk.partition(": a power")[0] for risk in risks] == [
        f"WARNING: PostgreSQL runs with {name} = off" for name in ("fsync", "full_page_writes")
    ]
    assert mended.verdict is Verdict.OK


@needs_postgresql
@pytest.mark.row("A15")
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP"])
async def test_a_database_that_cannot_hold_every_text_is_refused_before_anything_is_done(
    tmp_path: Path, encoding: str
) -> None:
    keys = {"REVID_API_KEY": "a-key", "REVID_BASE_URL": f"http://127.0.0.1:{free_port()}"}
    with postgres.server() as url:
        alter(url, f"CREATE DATABASE narrow ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
        narrow = url.removesuffix("postgres") + "narrow"
        for refusing in (schema.migrate, schema.require_current):
            with pytest.raises(ConfigError, match=f"the encoding {encoding}, which cannot hold every text"):
                refusing(check_database_url(narrow))
        assert alter(narrow, "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'") == [0]
        seen = await look(tmp_path / "none", RECEIVER_DATABASE_URL=narrow, **keys)
    is_wrong(seen.the("database"), encoding, "ENCODING 'UTF8'")
    assert not seen.report.usable


def alter(url: str, *statements: str) -> list[Any]:
    """Run statements as its administrator; gives what the last one finds."""
    found: list[Any] = []
    with psycopg.connect(url, autocommit=True, client_encoding="utf8") as connection:
        for statement in statements:
            result = connection.execute(statement.encode())
            found = [row[0] for row in result] if result.description else []
    return found


# --- callbacks that do not come


@pytest.mark.parametrize(
    ("called_back", "sent", "finds"), [(0, 3, True), (1, 3, False), (0, 0, False)], ids=["none", "one", "nothing sent"]
)
async def test_an_account_that_never_calls_back_is_reported(
    file: Path, called_back: int, sent: int, *, finds: bool
) -> None:
    now = time.time_ns() // 1_000_000
    rows = [
        task_row(
            f"tsk_{number}",
            state="succeeded",
            callback_url=True,
            may_have_cost=True,
            submitted_at=now - 30 * MINUTE,
            deliveries=int(number < called_back),
        )
        for number in range(sent)
    ]
    rows.append(task_row("tsk_new", state="submitted", callback_url=True, may_have_cost=True, submitted_at=now))
    store = Store(f"sqlite:///{file}")
    await store.write(add_tasks(*rows))
    await store.close()
    seen = (await look(file)).of("callbacks of revid")
    assert [each.verdict for each in seen] == [Verdict.WARNING] * finds
    assert all("latest 3 tasks" in each.message for each in seen)
