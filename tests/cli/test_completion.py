"""What a shell completes: bash itself is asked, as if somebody pressed Tab."""

import asyncio
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from receiver.cli.commands import COMMANDS, cli
from receiver.config.keys import with_generated_secrets
from receiver.config.settings import Settings
from receiver.providers import CONFIG_TYPES
from receiver.services import Services
from receiver.store import schema
from receiver.tasks.submission import NewTask, place
from tests.measuring import HANG

from .rig import Home

RECEIVER = Path(sys.executable).with_name("receiver")
HEAVY = ("sqlalchemy", "httpx", "starlette", "structlog", "receiver.services")
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed: apt-get install bash")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, list[str]]:
    """A home with a database of two tasks, and their ids, newest first. Nothing runs there."""
    home = Home(tmp_path_factory.mktemp("tasks"))
    settings = with_generated_secrets(Settings.load({"RECEIVER_DATA_DIR": str(home.data)}, CONFIG_TYPES))
    schema.migrate(settings.database)
    order = NewTask("revid", "sora-2-text-to-video", {"prompt": "A boat"}, digest="-")

    async def fill() -> list[str]:
        services = Services.open(settings)
        try:
            return [
                (await place(services, order, {"state": "queued", "validated": True}, lambda _: None))[0]
                for _ in range(2)
            ]
        finally:
            await services.close()

    return home, sorted(asyncio.run(fill()), reverse=True)


def pressed(home: Home, *lines: str) -> list[list[str]]:
    """Press Tab at the end of each line, in a bash with the script that the command shows; returns what is offered."""
    script = ['eval "$(receiver --show-completion bash)"']
    for line in lines:
        words = [*line.split(), *([""] if line.endswith(" ") else [])]
        script += [
            f"COMP_WORDS=({' '.join(map(shlex.quote, words))}) COMP_CWORD={len(words) - 1}",
            "_receiver_completion receiver",
            "printf '%s\\n' \"${COMPREPLY[@]}\" --",
        ]
    path = f"{RECEIVER.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(  # noqa: S603 - our own words
        ["bash", "--norc", "-c", "\n".join(script)],  # noqa: S607 - whichever bash is first on the path
        cwd=home.directory,
        env=home.environ(PATH=path),
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )
    assert done.stderr == "", "it would stand in the middle of the line that is typed"
    *found, rest = done.stdout.split("--\n")
    assert (done.returncode, rest) == (0, "")
    return [[word for word in each.splitlines() if word] for each in found]


@needs_bash
def test_bash_completes_commands_tasks_and_models(tasks: tuple[Home, list[str]]) -> None:
    home, ids = tasks
    commands, found, models = pressed(
        home, "receiver ", f"receiver wait {ids[0]} tsk_", "receiver submit revid sora-2-t"
    )
    assert commands == list(COMMANDS)
    assert found == ids
    assert models == ["sora-2-text-to-video"]


def test_completing_a_command_loads_nothing_that_takes_long(empty: Home) -> None:
    script = (
        "import sys; from receiver.cli import main\n"
        "sys.argv = ['receiver']\n"
        "try: main()\n"
        f"finally: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"
    )
    asked = {"_RECEIVER_COMPLETE": "complete_bash", "COMP_WORDS": "receiver s", "COMP_CWORD": "1"}
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", script], env=empty.environ(**asked), capture_output=True, text=True, check=False
    )
    assert "serve" in done.stdout.split()
    assert done.stderr == "[]\n"


def offered(home: Home, monkeypatch: pytest.MonkeyPatch, *words: str, **changes: str) -> list[str]:
    """Return what is offered for the last word, asked of the command in this process."""
    with monkeypatch.context() as patch:
        patch.chdir(home.directory)
        for name in os.environ.keys() - home.environ().keys():
            patch.delenv(name)
        asked = {"COMP_WORDS": " ".join(["receiver", *words]), "COMP_CWORD": str(len(words))}
        environ = home.environ(_RECEIVER_COMPLETE="complete_bash", **asked, **changes)
        ended = CliRunner().invoke(cli, [], env=environ, prog_name="receiver")
    assert ended.stderr == ""
    assert isinstance(ended.exception, SystemExit | None)
    return ended.stdout.split()


def test_accounts_are_completed_wherever_one_is_named(empty: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (["submit"], ["track"], ["balance"], ["register"], ["upload"], ["list", "--provider"]):
        assert offered(empty, monkeypatch, *words, "re") == ["revid"], words
    assert offered(empty, monkeypatch, "submit", "nobody", "so") == []


def test_tasks_are_found_by_what_is_typed_of_their_ids_newest_first(
    tasks: tuple[Home, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, ids = tasks
    commands = ("show", "wait", "check", "retry", "cancel", "adopt", "download", "attention", "notifications --task")
    for command in commands:
        assert offered(home, monkeypatch, *command.split(), "tsk_") == ids, command
    assert offered(home, monkeypatch, "show", ids[0][:-1]) == [ids[0]]
    assert offered(home, monkeypatch, "show", "boat") == [], "part of a prompt is no beginning of an id"


def test_nothing_is_offered_or_said_where_there_is_nothing_to_read(
    empty: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert offered(empty, monkeypatch, "show", "tsk_") == []
    assert not empty.data.exists()
    assert offered(empty, monkeypatch, "show", "tsk_", RECEIVER_POLLER="perhaps") == []
    assert offered(empty, monkeypatch, "submit", "re", RECEIVER_POLLER="perhaps") == []
    empty.data.mkdir()
    empty.database.write_bytes(b"this is no database")
    assert offered(empty, monkeypatch, "show", "tsk_") == []
