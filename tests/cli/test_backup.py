"""`receiver backup`: one whole file beside a running service, or a reason and nothing at all."""

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from receiver.store.engine import sqlite_module
from tests.store.conftest import Mount, mount, remount
from tests.store.rig import look

from .rig import Home, Served

__all__ = ["mount"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture(scope="module")
def task_id(served: Served) -> str:
    ran = served.home.call("submit", "revid", "sora-2-text-to-video", "-p", "A boat [sandbox: after=0.1]", "--wait")
    assert ran.code == 0, ran.err
    return ran.task_id


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_copy_is_one_file_of_ours_alone_that_holds_every_task(home: Home, task_id: str, folder: Path) -> None:
    file = folder / "copy of [mine].db"
    ran = home.run("backup", str(file), "--json")
    assert ran.code == 0, ran.err
    stat = file.stat()
    (tasks,) = look(home.database, "SELECT count(*) FROM task")[0]
    (schema,) = look(home.database, "SELECT version_num FROM alembic_version")[0]
    assert ran.document == {"path": str(file), "bytes": stat.st_size, "tasks": tasks, "schema": schema}
    assert stat.st_mode & 0o777 == 0o600
    assert look(file, "PRAGMA journal_mode") == [("delete",)], "nothing beside it is a part of it"
    assert look(file, "PRAGMA integrity_check") == [("ok",)]
    assert (task_id, "succeeded") in look(file, "SELECT id, state FROM task")
    assert names(folder) == [file.name]


def test_it_names_the_secrets_that_are_to_be_kept_with_it_and_shows_none(home: Home, folder: Path) -> None:
    ran = home.call("backup", str(folder / "copy.db"))
    (line,) = ran.err.splitlines()
    for name in ("secret_keys", "api_tokens"):
        assert str(home.data / name) in line
        assert (home.data / name).read_text().strip() not in ran.out + ran.err
    assert len(ran.out.splitlines()) == 1, "no progress in a pipe"


def test_on_a_terminal_it_shows_how_far_it_is(home: Home, folder: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "receiver", "backup", str(folder / "copy.db")]
    environ = home.environ(TERM="xterm")
    process = subprocess.Popen(  # noqa: S603 - our own command
        command, cwd=home.directory, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # which says that the other end is closed
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    assert process.wait(30) == 0
    assert b"checking" in shown


def test_an_existing_file_is_replaced_only_with_force(home: Home, folder: Path) -> None:
    file = folder / "copy.db"
    file.write_text("dear to somebody")
    refused = home.call("backup", str(file))
    assert (refused.code, refused.out) == (2, "")
    assert str(file) in refused.err
    assert "--force" in refused.err
    assert file.read_text() == "dear to somebody"
    assert home.call("backup", str(file), "--force").code == 0
    assert look(file, "PRAGMA integrity_check") == [("ok",)]
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_live_database_is_no_target_by_any_name(home: Home, folder: Path) -> None:
    link = folder / "link.db"
    link.symlink_to(home.database)
    hard = home.data / "hard.db"
    hard.hardlink_to(home.database)
    log = home.database.with_name(home.database.name + "-wal")
    before = home.database.stat().st_ino
    try:
        targets = [home.database, log, link, hard, home.data / ".." / "data" / home.database.name]
        for target, ran in zip(targets, home.run_all([["backup", str(t), "--force"] for t in targets]), strict=True):
            assert (ran.code, ran.out) == (2, ""), target
            assert "name another file" in ran.err
    finally:
        hard.unlink()
    assert home.database.stat().st_ino == before
    with home.client() as client:
        assert client.get("/readyz").status_code == 200


def test_secrets_are_no_target(home: Home) -> None:
    secrets = sorted(home.data.glob("*_keys")) + sorted(home.data.glob("api_tokens"))
    assert secrets
    before = [secret.read_bytes() for secret in secrets]
    for ran in home.call_all([["backup", str(secret), "--force"] for secret in secrets]):
        assert (ran.code, ran.out) == (2, "")
        assert "holds secrets" in ran.err
    assert [secret.read_bytes() for secret in secrets] == before


def test_an_impossible_target_is_refused_with_the_reason(home: Home, folder: Path) -> None:
    (folder / "open.db-wal").touch()
    wrong = {
        folder / "none" / "copy.db": "does not exist",
        folder: "not a file",
        folder / "open.db": "open as a database",
        Path("/dev/null"): "not a file",
    }
    before = names(folder)
    for (target, words), ran in zip(
        wrong.items(), home.call_all([["backup", str(t), "--force"] for t in wrong]), strict=True
    ):
        assert (ran.code, ran.out) == (2, ""), target
        assert words in ran.err
        assert str(target if target.parent.exists() else target.parent) in ran.err
        assert len(ran.err.splitlines()) == 1
    assert names(folder) == before


def test_a_full_disk_leaves_nothing_and_an_older_copy_as_it_was(home: Home, task_id: str, mount: Mount) -> None:
    place = mount("size=64k")
    old = place / "old.db"
    old.write_text("older")
    for words in (["backup", str(place / "new.db")], ["backup", str(old), "--force"]):
        ran = home.call(*words)
        assert (ran.code, ran.out) == (1, "")
        assert "full" in ran.err
        assert words[1] in ran.err
        assert len(ran.err.splitlines()) == 1
    assert names(place) == ["old.db"]
    assert old.read_text() == "older"
    remount(place, "ro")
    ran = home.call("backup", str(place / "new.db"))
    assert (ran.code, ran.out) == (2, "")
    assert "cannot be written" in ran.err


def test_an_older_schema_is_copied_as_it_is_before_an_upgrade(empty: Home, folder: Path) -> None:
    empty.call("migrate")
    change(empty.database, "UPDATE alembic_version SET version_num = '0001'")
    ran = empty.call("backup", str(folder / "copy.db"), "--json")
    assert (ran.code, ran.document["schema"]) == (0, "0001")
    assert look(folder / "copy.db", "SELECT version_num FROM alembic_version") == [("0001",)]


@pytest.mark.parametrize(
    ("trouble", "code", "words"),
    [("missing", 2, "no database"), ("empty", 2, "no tables"), ("garbage", 1, "not a database"), ("future", 2, "later"),
     ("damaged", 1, "damaged")],
)  # fmt: skip
def test_what_is_no_whole_database_of_ours_is_not_backed_up(
    empty: Home, folder: Path, trouble: str, code: int, words: str
) -> None:
    if trouble != "missing":
        empty.call("migrate")
    if trouble == "empty":
        empty.database.write_bytes(b"")
    elif trouble == "garbage":
        empty.database.write_bytes(b"no database at all" * 300)
    elif trouble == "future":
        change(empty.database, "UPDATE alembic_version SET version_num = '9999'")
    elif trouble == "damaged":
        with empty.database.open("r+b") as file:
            file.seek(2 * 4096)
            file.write(b"\xff" * 4096)
    target = folder / "new" / "copy.db"
    target.parent.mkdir()
    ran = empty.call("backup", str(target))
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err
    assert len(ran.err.splitlines()) == 1
    assert names(target.parent) == []


def test_on_postgresql_it_names_the_tool_that_does_it_there(empty: Home, folder: Path) -> None:
    url = "postgres://somebody:pass-word@127.0.0.1:9/none"
    ran = empty.call("backup", str(folder / "copy.db"), RECEIVER_DATABASE_URL=url, REVID_API_KEY="a-key")
    assert (ran.code, ran.out) == (2, "")
    assert "pg_dump" in ran.err
    assert "pass-word" not in ran.err


def change(file: Path, statement: str) -> None:
    connection = sqlite_module().connect(str(file), isolation_level=None)
    connection.execute(statement)
    connection.close()
