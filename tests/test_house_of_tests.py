"""Rules for the tests themselves: how fast a machine is decides over none of them."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MODULES = sorted(path for path in HERE.rglob("*.py") if HERE / "bench" not in path.parents)
CLOCKS = frozenset({"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"})
MEASURING = "measuring.py"
"""Where durations come from, which cannot be compared."""
READS_A_CLOCK = {
    MEASURING: "what all others use",
    "torture/hostile/probe.py": "a process of its own that only tells",
    "core/test_constant_time.py": "compares two means, at the full size",
}
GUARDS = frozenset({"timeout", "wait_for", "communicate"})
HTTP = frozenset({"httpx.Client", "httpx.AsyncClient", "httpx.get", "httpx.post"})
"""What gives up after five seconds where nothing else is said."""
MOMENT, SHORTEST_GUARD = 0.1, 45
"""Seconds: what is shorter is to run out, and what is longer hangs."""


def named(module: Path) -> str:
    return str(module.relative_to(HERE))


def clocks(tree: ast.AST) -> Iterator[str]:
    """Find every look at a clock that runs."""
    return (ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in CLOCKS)


def short_guards(tree: ast.AST) -> Iterator[str]:
    """Find every few seconds that are written where something is waited for."""
    for node in ast.walk(tree):
        # `asyncio.wait` looks whether something is done by then: that it is not, as a rule.
        if isinstance(node, ast.Call) and (called := ast.unparse(node.func)) != "asyncio.wait":
            limits = [each.value for each in node.keywords if each.arg == "timeout"]
            limits += node.args if called.rpartition(".")[2] in GUARDS else []
            impatient = called in HTTP and not {"timeout", "transport"} & {each.arg for each in node.keywords}
            if impatient or any(isinstance(limit, ast.Constant) and is_short(limit.value) for limit in limits):
                yield ast.unparse(node)


def is_short(limit: object) -> bool:
    return isinstance(limit, int | float) and MOMENT < limit < SHORTEST_GUARD


def found_in(rule: Callable[[ast.AST], Iterator[str]]) -> dict[str, list[str]]:
    found = {named(module): list(rule(ast.parse(module.read_text()))) for module in MODULES}
    return {name: places for name, places in found.items() if places}


def test_only_what_measures_reads_a_clock() -> None:
    assert found_in(clocks).keys() == READS_A_CLOCK.keys()


def test_nobody_waits_for_seconds_that_only_a_quick_machine_keeps() -> None:
    assert found_in(short_guards) == {}


def test_only_the_bench_looks_into_a_duration() -> None:
    """Whoever wants to say that something is short says so to `Torture.within`, which does at the full size only."""
    looking = {named(module) for module in MODULES if ".figure()" in module.read_text()} - {named(Path(__file__))}
    assert looking == {MEASURING, "torture/harness.py", "store/test_writer_troubles.py"}, (
        "the last one's script tells it"
    )


@pytest.mark.parametrize(
    "line", ["asyncio.timeout(5)", "process.communicate(timeout=10)", "Client(timeout=30)", "httpx.get(url)"]
)
def test_the_rule_sees(line: str) -> None:
    assert list(short_guards(ast.parse(line)))
