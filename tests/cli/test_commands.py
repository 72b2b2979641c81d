"""The commands are imported when they run, and the help lists what they are."""

import subprocess
import sys

import pytest

from receiver.cli.commands import COMMANDS, cli, load

HEAVY = ("sqlalchemy", "pydantic", "httpx", "starlette", "uvicorn", "structlog", "receiver.services")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_of_a_command_is_what_it_says_of_itself(name: str) -> None:
    command = load(name, COMMANDS[name][0])
    assert command.name == name
    assert " ".join(command.help.split("\n\n")[0].split()) == COMMANDS[name][1]


def test_no_command_is_left_out_of_the_help() -> None:
    for name, (module, _) in COMMANDS.items():
        load(name, module)
    registered = {info.name or getattr(info.callback, "__name__", "") for info in cli.registered_commands}
    assert registered == set(COMMANDS)


@pytest.mark.parametrize("words", [["--help"], ["--version"], []])
def test_the_help_loads_nothing_that_takes_long(words: list[str]) -> None:
    script = (
        "import sys; from receiver.cli import main\n"
        f"sys.argv = ['receiver', *{words}]\n"
        "try: main()\n"
        f"finally: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.stderr.splitlines()[-1] == "[]", done.stderr


def test_no_garbage_is_collected_while_a_command_is_loaded() -> None:
    script = (
        "import gc; from receiver.cli.commands import load\n"
        "collected = []; gc.callbacks.append(lambda phase, info: collected.append(phase))\n"
        "load('serve', 'service')\n"
        "print(collected, gc.isenabled())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout == "[] True\n"
