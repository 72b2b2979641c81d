"""The engines: which SQLite may use WAL, which files are opened, and which never are made."""

from pathlib import Path

import pytest
from sqlalchemy import make_url

from receiver.config.settings import Settings
from receiver.core.errors import ConfigError
from receiver.providers import CONFIG_TYPES
from receiver.store import Store, engine

from .rig import beat, look, move, remove, there, url_of

SAFE = [(3, 44, 6), (3, 44, 7), (3, 50, 7), (3, 50, 8), (3, 51, 3), (3, 51, 4), (3, 52, 0), (3, 53, 4), (4, 0, 0)]
UNSAFE = [(3, 7, 0), (3, 40, 1), (3, 44, 5), (3, 45, 0), (3, 49, 2), (3, 50, 6), (3, 51, 0), (3, 51, 2)]


@pytest.mark.row("A13")
@pytest.mark.parametrize("version", SAFE)
def test_a_fixed_library_may_use_wal(version: tuple[int, ...]) -> None:
    assert engine.wal_is_safe(version)


@pytest.mark.row("A13")
@pytest.mark.parametrize("version", UNSAFE)
def test_a_library_that_can_corrupt_a_wal_database_may_not(version: tuple[int, ...]) -> None:
    assert not engine.wal_is_safe(version)


@pytest.mark.row("G9")
def test_the_library_in_use_is_the_one_that_comes_with_pysqlite3() -> None:
    pytest.importorskip("pysqlite3", reason="SKIPPED, NOT TESTED: there is no wheel for this machine")
    assert engine.sqlite_module().__name__ == "pysqlite3.dbapi2"
    assert engine.wal_is_safe(engine.sqlite_module().sqlite_version_info)


@pytest.mark.parametrize("make", [Store, engine.require_database])
def test_a_missing_file_is_named_and_not_made(tmp_path: Path, make: type[Store]) -> None:
    file = tmp_path / "no such directory" / "receiver.db"
    with pytest.raises(ConfigError) as caught:
        make(url_of(file))
    assert str(file) in str(caught.value)
    assert "receiver migrate" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.anyio
async def test_a_missing_file_is_not_made_later_either(store: Store, file: Path) -> None:
    """The connections are made on first use, and the file may be gone by then."""
    away = move(file, file.with_name("elsewhere.db"))
    with pytest.raises(Exception, match="is gone"):
        await store.write(beat("a"))
    assert not there(file)
    remove(away)


@pytest.mark.anyio
async def test_no_connection_stays_open_after_the_close(store: Store, file: Path) -> None:
    await store.write(beat("a"))
    await store.read(lambda session: session.connection().exec_driver_sql("SELECT 1").all())
    await store.close()
    assert [path.name for path in directory(file)] == [file.name], "the last connection takes its log with it"
    assert look(file, "SELECT name FROM heartbeat") == [("a",)]


def directory(file: Path) -> list[Path]:
    return sorted(file.parent.iterdir())


@pytest.mark.parametrize("given", ["postgres://user:pass-word@db/receiver", "postgresql://user:pass-word@db/receiver"])
@pytest.mark.parametrize("variable", ["DATABASE_URL", "RECEIVER_DATABASE_URL"])
def test_postgresql_urls_are_taken(given: str, variable: str) -> None:
    settings = Settings.load({variable: given, "REVID_API_KEY": "a-key"}, CONFIG_TYPES)
    assert make_url(settings.database).get_backend_name() == "postgresql"
    made = engine.writer_engine(settings.database)
    assert made.dialect.driver == "psycopg"
    assert "pass-word" not in repr(made)
    assert "pass-word" not in repr(settings)
    assert engine.database_file(settings.database) is None
    engine.require_database(settings.database)


def test_own_setting_wins_over_the_platforms() -> None:
    environ = {"RECEIVER_DATABASE_URL": "sqlite:////srv/ours.db", "DATABASE_URL": "postgres://db/theirs"}
    settings = Settings.load({**environ, "REVID_API_KEY": "a-key"}, CONFIG_TYPES)
    assert engine.database_file(settings.database) == Path("/srv/ours.db")
