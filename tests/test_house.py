"""Rules of the house that no linter knows, for every module that there is or will be: who may import, print and read
the clock, and how long things may grow. Each rule is shown a module that breaks it."""

import ast
import functools
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from receiver.providers import FAMILIES
from receiver.store.migrations import REVISIONS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "receiver"
LONGEST_MODULE = 450
"""Lines beyond which a module surely holds two thoughts; below it, it is cut where the thought ends."""
LONGEST_FUNCTION = 50
MOST_ENTRIES = 26
SQL = ("sqlalchemy", "sqlmodel", "alembic", "sqlite3", "pysqlite3", "psycopg")
CLIENTS = frozenset({"httpx.AsyncClient", "httpx.Client", "httpx.get", "httpx.post", "httpx.request", "httpx.stream"})
TRANSPORTS = ("httpcore", "requests", "aiohttp", "urllib3", "urllib.request", "http.client")
PRINTS = frozenset({"print", "typer.echo", "sys.stdout.write", "sys.stderr.write", "rich.print"})
CLOCKS = frozenset({"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today"})

Rule = Callable[[str, ast.Module], Iterator[str]]


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Read all modules by their paths in the package."""
    return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}


def imported(tree: ast.AST) -> Iterator[str]:
    """Name every module that a module imports, and what it takes from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_within(name: str, packages: tuple[str, ...]) -> bool:
    """Return whether a dotted name is one of these packages or inside of one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def called(tree: ast.AST) -> Iterator[str]:
    """Write out every function that a module calls or names."""
    return (ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute))


def sql_only_in_the_store(module: str, tree: ast.Module) -> Iterator[str]:
    """Find SQL outside of `store`."""
    if not module.startswith("store/"):
        yield from (name for name in imported(tree) if is_within(name, SQL))


def http_only_in_outbound(module: str, tree: ast.Module) -> Iterator[str]:
    """Find clients outside of `outbound`; requests and answers of `httpx` are values that anybody may hold.

    The sandbox is a client of its own, and the Python client is one of the service.
    """
    if module.startswith(("outbound/", "sandbox/", "client/")):
        return
    yield from (name for name in imported(tree) if is_within(name, TRANSPORTS) or name in CLIENTS)
    yield from CLIENTS & set(called(tree))


def only_the_command_line_prints(module: str, tree: ast.Module) -> Iterator[str]:
    """Find prints outside of `cli`; the log is written to standard error by the module that sets it up."""
    if not module.startswith("cli/") and module != "serving/logs.py":
        yield from PRINTS & set(called(tree))


def only_services_reads_the_clock(module: str, tree: ast.Module) -> Iterator[str]:
    """Find readings of the clock outside of `services`. The sandbox is another service, with a clock of its own."""
    if module != "services.py" and not module.startswith("sandbox/"):
        yield from CLOCKS & set(called(tree))


def only_the_registry_names_a_family(module: str, tree: ast.Module) -> Iterator[str]:
    """Find imports of a provider's own file outside of `providers`."""
    families = tuple({family.__module__ for family in FAMILIES.values()})
    if not module.startswith("providers/"):
        yield from (name for name in imported(tree) if is_within(name, families))


def the_sandbox_shares_no_code_with_what_it_tests(module: str, tree: ast.Module) -> Iterator[str]:
    """Find imports of the service in the sandbox."""
    if module.startswith("sandbox/"):
        ours = (name for name in imported(tree) if is_within(name, ("receiver",)))
        yield from (name for name in ours if not is_within(name, ("receiver.sandbox",)))


def the_client_stands_alone(module: str, tree: ast.Module) -> Iterator[str]:
    """Find imports in the Python client of anything but itself, the standard library, and httpx with what it brings."""
    if module.startswith("client/"):
        ours = (name for name in imported(tree) if name.split(".")[0] not in sys.stdlib_module_names)
        yield from (name for name in ours if not is_within(name, ("receiver.client", "httpx", "anyio")))


def lifecycle_never_waits(module: str, tree: ast.Module) -> Iterator[str]:
    """Find what awaits in `lifecycle`: it runs inside transactions."""
    if module.startswith("lifecycle/"):
        waits = ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith
        yield from (type(node).__name__ for node in ast.walk(tree) if isinstance(node, waits))


BROKEN: dict[Rule, tuple[str, str]] = {
    sql_only_in_the_store: ("tasks/new.py", "from sqlalchemy import select"),
    http_only_in_outbound: ("web/new.py", "import httpx\nclient = httpx.AsyncClient()"),
    only_the_command_line_prints: ("tasks/new.py", "print('done')"),
    only_services_reads_the_clock: ("web/new.py", "import time\nnow = time.time()"),
    only_the_registry_names_a_family: ("web/new.py", "from receiver.providers.revid import Revid"),
    the_sandbox_shares_no_code_with_what_it_tests: ("sandbox/new.py", "from receiver.core import wire"),
    the_client_stands_alone: ("client/new.py", "from receiver.core.states import State"),
    lifecycle_never_waits: ("lifecycle/new.py", "async def apply(): ..."),
}
rules = pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)


@rules
def test_every_module_keeps_the_rule(rule: Rule) -> None:
    found = {module: names for module, tree in modules().items() if (names := sorted(rule(module, tree)))}
    assert found == {}


@rules
def test_the_rule_sees_a_new_module_that_breaks_it(rule: Rule) -> None:
    module, text = BROKEN[rule]
    assert list(rule(module, ast.parse(text)))


def test_an_import_upwards_and_a_room_without_a_place_break_the_contract(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "receiver", ignore=shutil.ignore_patterns("__pycache__", "static", "*.mp4"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]

    def lint() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603

    assert lint().returncode == 0
    (tmp_path / "receiver" / "core" / "new.py").write_text("import receiver.web.problems\n")
    upwards = lint()
    assert upwards.returncode == 1
    assert "receiver.core.new" in upwards.stdout
    (tmp_path / "receiver" / "core" / "new.py").write_text("")
    (tmp_path / "receiver" / "attic.py").write_text("")
    assert lint().returncode == 1


def test_modules_and_functions_stay_small_and_are_explained() -> None:
    for module, tree in modules().items():
        assert len((PACKAGE / module).read_text().splitlines()) <= LONGEST_MODULE, module
        assert ast.get_docstring(tree), f"{module}: a module says what is here"
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                doc = (ast.get_docstring(node) or "").splitlines()
                lines = (node.end_lineno or 0) - node.lineno + 1 - len(doc)
                assert lines <= LONGEST_FUNCTION, f"{module}: {node.name}"


def test_the_package_is_a_table_of_contents() -> None:
    assert len([path for path in PACKAGE.iterdir() if path.name != "__pycache__"]) <= MOST_ENTRIES


def test_the_list_of_revisions_is_the_folder_of_steps() -> None:
    steps = sorted(path.name.split("_")[0] for path in (PACKAGE / "store/migrations/versions").glob("[0-9]*.py"))
    assert tuple(steps) == REVISIONS
