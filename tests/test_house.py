"""Rules of the house that no linter knows: who reads the clock, how long things may grow."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.migrations import REVISIONS

PACKAGE = Path(__file__).parent.parent / "receiver"
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST_MODULE = 400
"""Lines beyond which a module surely holds two thoughts; below it, it is cut where the thought ends."""
LONGEST_FUNCTION = 50
CLOCKS = frozenset({"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today"})


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Find every function of a module."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_and_functions_stay_small_and_are_explained(module: Path) -> None:
    text = module.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= LONGEST_MODULE
    assert ast.get_docstring(tree), "a module says what is here"
    for function in functions(tree):
        lines = (function.end_lineno or 0) - function.lineno + 1 - len((ast.get_docstring(function) or "").splitlines())
        assert lines <= LONGEST_FUNCTION, function.name


def test_only_services_reads_the_clock() -> None:
    readers = {
        str(module.relative_to(PACKAGE))
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Call | ast.Attribute) and ast.unparse(node).removesuffix("()") in CLOCKS
    }
    # The sandbox is another service, with a clock of its own.
    assert {name for name in readers if not name.startswith("sandbox/")} == {"services.py"}


def test_only_the_command_line_prints() -> None:
    printers = {
        str(module.relative_to(PACKAGE))
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "typer.echo", "sys.stdout.write")
    }
    assert {Path(name).parts[0] for name in printers} == {"cli"}


def test_the_list_of_revisions_is_the_folder_of_steps() -> None:
    steps = sorted(path.name.split("_")[0] for path in (PACKAGE / "migrations" / "versions").glob("[0-9]*.py"))
    assert tuple(steps) == REVISIONS
