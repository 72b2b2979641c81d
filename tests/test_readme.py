"""Holds the README to the truth: its states, commands, variables, endpoints, knobs and files are those of the code."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from receiver.cli.frame import cli
from receiver.providers import CONFIG_TYPES
from receiver.sandbox.knobs import Knobs
from receiver.settings import VARIABLES
from receiver.states import MOVES, State
from receiver.web.operations import OPERATIONS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    """Return the text below a heading, up to the next one of its level."""
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def rows(text: str, first: str) -> list[list[str]]:
    """Return the rows of the table whose first heading is this."""
    lines = text[text.index(f"| {first} |") :].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_sections_stand_in_the_promised_order() -> None:
    assert re.findall(r"^## (.+)$", README, re.MULTILINE) == [
        "What it does, and what it does not",
        "First run",
        "A real provider, in three variables",
        "The life of a task",
        "The API by `curl`",
        "Deploying",
        "What it promises, how, and the test",
        "Adding a provider",
        "The map of the files",
    ]


def test_the_state_table_is_the_state_machine() -> None:
    table = {cells[0].strip("`"): cells[2] for cells in rows(section("The life of a task"), "state")}
    assert list(table) == [state.value for state in State]
    for state in State:
        told = {word for word in re.findall(r"[a-z]+", table[state.value]) if word in set(State)}
        assert told == {target.value for target in MOVES[state]}, state


def test_every_row_of_the_torture_bench_stands_for_a_promise_and_every_promise_has_its_rows() -> None:
    promised = {word for cells in rows(section("What it promises, how, and the test"), "promise")
                for word in re.findall(r"\b[A-I]\d+\b", cells[2])}  # fmt: skip
    tests = "".join(file.read_text() for file in (ROOT / "tests").rglob("*.py"))
    assert promised == set(re.findall(r'mark\.row\("([A-I]\d+)"\)', tests))


def test_every_command_named_exists_and_every_command_is_named() -> None:
    commands = set(get_command(cli).commands)  # type: ignore[attr-defined]  # a group, since there are several
    assert set(re.findall(r"receiver ([a-z]+)\b", README)) & commands == commands
    assert set(re.findall(r"`receiver ([a-z]+)", README)) <= commands


def test_every_variable_of_the_service_is_in_the_table_and_no_other() -> None:
    named = {cells[0].strip("`") for cells in rows(section("Deploying"), "variable")}
    assert {name for name in named if "<" not in name} == set(VARIABLES.values())
    provider_variables = {f"{family.upper()}_API_KEY" for family in CONFIG_TYPES}
    assert provider_variables <= set(re.findall(r"`([A-Z_]+)`", README))


def test_every_endpoint_is_in_the_table_and_no_other() -> None:
    named = {cells[0].strip("`") for cells in rows(section("The API by `curl`"), "method, path")}
    assert named == {f"{operation.method} {operation.path}" for operation in OPERATIONS}


@pytest.mark.parametrize("knob", [cells[0].strip("`") for cells in rows(section("First run"), "knob")])
def test_every_knob_named_is_obeyed(knob: str) -> None:
    assert Knobs.parse(f"a prompt [sandbox: {knob}]") != Knobs.parse("a prompt") or knob == "after=3"


def test_the_map_shows_every_module_and_nothing_else() -> None:
    shown = set(re.findall(r"^  ([a-z_]+(?:\.py|/)) ", section("The map of the files"), re.MULTILINE))
    there = {
        path.name + ("/" if path.is_dir() else "")
        for path in (ROOT / "receiver").iterdir()
        if not path.name.startswith("_")
    }
    assert shown == there


def test_every_script_named_exists() -> None:
    assert set(re.findall(r"scripts/([a-z]+)\b", README)) <= {path.name for path in (ROOT / "scripts").iterdir()}
