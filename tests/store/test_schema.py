"""The schema: made once, migrated with every row, and never touched where it is not ours to touch."""

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Column, Connection, Integer, inspect
from sqlmodel import SQLModel

from receiver.core.errors import ConfigError
from receiver.store import Store, schema
from receiver.store.engine import migration_engine, writer_engine
from receiver.store.schema import HEAD

from .conftest import Mount, remount
from .releases import FIRST_TABLES, as_of_today, columns_of, fill, rows_of, steps
from .rig import (
    WHEN_ALL_ARE_READY,
    add_tasks,
    all_at_once,
    beat,
    beats,
    holder,
    look,
    outside,
    put_garbage,
    python,
    task_row,
    url_of,
)

ROWS = 40


def test_migrate_creates_and_a_second_run_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "receiver.db"
    assert schema.migrate(url_of(file)) == (None, HEAD)
    before = digest(file)
    assert schema.migrate(url_of(file)) == (HEAD, HEAD)
    assert digest(file) == before
    schema.require_current(url_of(file))
    assert digest(file) == before
    assert [path.name for path in tmp_path.iterdir()] == ["receiver.db"]


def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    file = tmp_path / "receiver.db"
    file.touch()
    assert schema.migrate(url_of(file)) == (None, HEAD)


def test_a_path_with_odd_characters_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "50% of änything & more" / "a b.db"
    file.parent.mkdir()
    schema.migrate(url_of(file))
    assert file.exists()


def test_a_database_of_the_first_release_comes_through_with_every_row(tmp_path: Path) -> None:
    file = tmp_path / "receiver.db"
    with steps(file) as config:
        command.upgrade(config, "0001")
    fill(file, ROWS)
    shape_before = columns_of(file)
    before = rows_of(file, shape_before)
    assert set(before) == set(FIRST_TABLES)
    assert all(len(rows) == ROWS for rows in before.values())
    with pytest.raises(ConfigError, match="older schema; run `receiver migrate`"):
        schema.require_current(url_of(file))

    assert schema.migrate(url_of(file)) == ("0001", HEAD)

    assert rows_of(file, shape_before) == as_of_today(shape_before, before)
    assert_sound(file)
    schema.require_current(url_of(file))


@pytest.mark.row("A10")
def test_a_step_that_fails_leaves_the_old_schema_whole(tmp_path: Path) -> None:
    file = tmp_path / "receiver.db"
    with steps(file) as config:
        command.upgrade(config, "0001")
    fill(file, ROWS)
    with outside(file) as connection:
        connection.execute("CREATE TABLE heartbeat (in_the_way TEXT)")
    with pytest.raises(ConfigError, match="already exists") as caught:
        schema.migrate(url_of(file))
    assert str(file) in str(caught.value)
    assert look(file, "SELECT version_num FROM alembic_version") == [("0001",)]
    assert look(file, "SELECT count(*) FROM task") == [(ROWS,)]
    assert_sound(file)


@pytest.mark.row("A9")
@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
@pytest.mark.parametrize("call", [schema.migrate, schema.require_current])
def test_a_schema_from_the_future_is_refused_and_not_touched(file: Path, journal_mode: str, call: Any) -> None:
    with outside(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute(f"PRAGMA journal_mode={journal_mode}")
    before = digest(file)
    with pytest.raises(ConfigError, match="9999 of a later release") as caught:
        call(url_of(file))
    assert str(file) in str(caught.value)
    assert digest(file) == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.row("A9")
@pytest.mark.parametrize("call", [schema.migrate, schema.require_current])
def test_a_file_that_is_no_database_is_refused_and_not_touched(tmp_path: Path, call: Any) -> None:
    file = tmp_path / "receiver.db"
    garbage = put_garbage(file)
    with pytest.raises(ConfigError, match="not a database") as caught:
        call(url_of(file))
    assert str(file) in str(caught.value)
    assert file.read_bytes() == garbage


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path, mount: Mount, migrated: bytes) -> None:
    place = tmp_path / "locked"
    place.mkdir(mode=0o500)
    if os.geteuid() == 0:  # whom modes do not stop
        place = mount("size=1m")
        remount(place, "ro")
    file = place / "receiver.db"
    with pytest.raises(ConfigError, match="unable to open") as caught:
        schema.migrate(url_of(file))
    assert str(file) in str(caught.value)
    assert not file.exists()


def test_a_database_on_a_read_only_disk_is_refused_and_not_touched(mount: Mount, migrated: bytes) -> None:
    place = mount("size=1m")
    file = place / "receiver.db"
    file.write_bytes(migrated)
    with outside(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
        connection.execute("DROP TABLE heartbeat")
        connection.execute("PRAGMA journal_mode=delete")
    before = digest(file)
    remount(place, "ro")
    with pytest.raises(ConfigError) as caught:
        schema.migrate(url_of(file))
    assert str(file) in str(caught.value)
    assert digest(file) == before


@pytest.mark.parametrize("path", ["", "receiver.db/receiver.db"])
def test_a_path_that_can_be_no_file_is_refused(file: Path, path: str) -> None:
    with pytest.raises(ConfigError):
        schema.migrate(url_of(file.parent / path))


def test_processes_that_migrate_at_once_all_succeed(tmp_path: Path) -> None:
    file = tmp_path / "receiver.db"
    code = f"from receiver.store import schema\n{WHEN_ALL_ARE_READY}print(schema.migrate(sys.argv[1]))"
    told = all_at_once([python(code, url_of(file)) for _ in range(3)])
    assert [errors for _, errors in told] == [""] * 3
    assert sorted(result for result, _ in told) == sorted(
        [f"(None, '{HEAD}')\n", *[f"('{HEAD}', '{HEAD}')\n"] * 2],
    )
    assert_sound(file)


@pytest.mark.anyio
async def test_a_migration_waits_for_a_writer_longer_than_callers_do(tmp_path: Path) -> None:
    file = tmp_path / "receiver.db"
    with steps(file) as config:
        command.upgrade(config, "0001")
    with holder(file) as other:
        await other.holds()
        migrating = asyncio.create_task(asyncio.to_thread(schema.migrate, url_of(file)))
        done, _ = await asyncio.wait({migrating}, timeout=1.0)
        assert not done
        await other.release()
        assert await migrating == ("0001", HEAD)


@pytest.mark.anyio
async def test_looking_at_the_schema_waits_for_no_writer(file: Path) -> None:
    """Every command does it, beside a service that writes."""
    with holder(file) as other:
        await other.holds()
        await asyncio.to_thread(schema.require_current, url_of(file))


def test_the_migrated_schema_is_the_one_the_tables_say(file: Path, tmp_path: Path) -> None:
    with migration_engine(url_of(file)).connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "render_as_batch": True}
        )
        assert compare_metadata(context, SQLModel.metadata) == []

    fresh = tmp_path / "fresh.db"
    engine = writer_engine(url_of(file_made(fresh)))
    SQLModel.metadata.create_all(engine)
    engine.dispose()
    assert shape(file) == shape(fresh)


def test_a_rebuilt_table_keeps_its_children(tmp_path: Path) -> None:
    """Alembic's batch mode drops the old table: with foreign keys on, that would take the children's rows along."""
    file = tmp_path / "receiver.db"
    with steps(file) as config:
        command.upgrade(config, "head")
    fill(file, ROWS)
    engine = migration_engine(url_of(file))
    with engine.connect() as connection, connection.begin():
        operations = Operations(MigrationContext.configure(connection, opts={"transactional_ddl": False}))
        for table in ("task", "history"):
            with operations.batch_alter_table(table, recreate="always") as batch:
                batch.add_column(Column("added", Integer(), nullable=True))
    engine.dispose()
    assert {table: look(file, f"SELECT count(*) FROM {table}") for table in FIRST_TABLES} == {  # noqa: S608 - our own names
        table: [(ROWS,)] for table in FIRST_TABLES
    }
    assert_sound(file)


@pytest.mark.anyio
async def test_a_store_beside_a_migration_goes_on_afterwards(file: Path) -> None:
    store = Store(url_of(file))
    await store.write(beat("a"))
    await store.write(add_tasks(task_row()))
    engine = migration_engine(url_of(file))
    with engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("ALTER TABLE heartbeat ADD COLUMN later INTEGER")
    engine.dispose()
    await store.write(beat("a", 2))
    assert await store.read(beats("a")) == 2
    await store.close()


# --- helpers


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def assert_sound(file: Path) -> None:
    assert look(file, "PRAGMA integrity_check") == [("ok",)]
    assert look(file, "PRAGMA foreign_key_check") == []


def file_made(file: Path) -> Path:
    file.touch()
    return file


def shape(file: Path) -> dict[str, Any]:
    """Everything that a schema says of its tables, whatever the order of columns and the words of its statements."""
    engine = migration_engine(url_of(file))
    with engine.connect() as connection:
        found = {
            name: table_shape(connection, name)
            for name in inspect(connection).get_table_names()
            if name != "alembic_version"
        }
    engine.dispose()
    return found


def table_shape(connection: Connection, table: str) -> dict[str, Any]:
    look_at = inspect(connection)
    return {
        "columns": {
            column["name"]: (str(column["type"]), column["nullable"], column["default"])
            for column in look_at.get_columns(table)
        },
        "primary": look_at.get_pk_constraint(table)["constrained_columns"],
        "indexes": sorted(
            (index["name"] or "", index["column_names"], bool(index["unique"])) for index in look_at.get_indexes(table)
        ),
        "unique": sorted(unique["column_names"] for unique in look_at.get_unique_constraints(table)),
        "foreign": sorted(
            (key["constrained_columns"], key["referred_table"], key["referred_columns"], key.get("options"))
            for key in look_at.get_foreign_keys(table)
        ),
    }
